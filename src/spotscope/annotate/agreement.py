"""How far two annotators agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Agreement:
    """Agreement of two annotators on the spots that both labelled.

    Attributes
    ----------
    n_shared
        Spots that both labelled.
    share
        Fraction of these with the same class; NaN without any.
    kappa
        Cohen's kappa; NaN when it is undefined (no shared spots, or one class alone).
    disagreeing
        Positions of the spots where the two differ.
    """

    n_shared: int
    share: float
    kappa: float
    disagreeing: NDArray[np.int64]


def agreement(first: NDArray[np.object_], second: NDArray[np.object_]) -> Agreement:
    """Compare two annotators' labels, (n_spots,) class names or None."""
    from sklearn.metrics import cohen_kappa_score

    both = np.flatnonzero(
        [a is not None and b is not None for a, b in zip(first, second, strict=True)]
    )
    one, other = first[both].astype(str), second[both].astype(str)
    same = one == other
    classes = np.union1d(one, other)
    kappa = float(cohen_kappa_score(one, other)) if len(classes) > 1 else float("nan")
    share = float(same.mean()) if len(both) else float("nan")
    return Agreement(len(both), share, kappa, both[~same])
