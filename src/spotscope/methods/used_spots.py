"""Which measured spots a prediction at a place was made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class UsedSpots:
    """The k measured spots that the prediction at one place averages, the most alike first.

    A method with `spots_used(places, progress) -> list[UsedSpots]` can be asked in Retrieve; it
    raises a `SpotScopeError` for places on a section that it was trained on.

    Attributes
    ----------
    sections, barcodes
        (k,) which spots.
    similarity
        (k,) of each to the place: the cosine, or minus the distance.
    metric
        Which of the two.
    weights
        (k,) share of each in the prediction; they sum to one.
    measured
        (k, G) their log1p CP10k.
    expression, spread
        (G,) the prediction, and its standard deviation.
    """

    sections: NDArray[np.str_]
    barcodes: NDArray[np.str_]
    similarity: NDArray[np.floating]
    metric: Literal["cosine", "euclidean"]
    weights: NDArray[np.floating]
    measured: NDArray[np.floating]
    expression: NDArray[np.floating]
    spread: NDArray[np.floating]
