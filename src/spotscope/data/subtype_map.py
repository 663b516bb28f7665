"""What a classifier says of tissue: a probability of each class at places of one section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.data.places import Places


@dataclass(frozen=True)
class SubtypeMap:
    """Subtypes at places.

    Attributes
    ----------
    classes
        K names.
    probabilities
        (n, K) float32, rows sum to one.
    distance
        (n,) float32 to the nearest training spot in the space of standardised features; 1 is the
        99th percentile among the training spots themselves, so that what lies beyond is unlike
        anything that was seen.
    places
        Where.
    """

    classes: list[str]
    probabilities: NDArray[np.float32]
    distance: NDArray[np.float32]
    places: Places

    def __post_init__(self) -> None:
        if self.probabilities.shape != (len(self.places), len(self.classes)):
            raise ValueError(
                f"probabilities are {self.probabilities.shape} for {len(self.places)} places and"
                f" {len(self.classes)} classes"
            )
        if self.distance.shape != (len(self.places),):
            raise ValueError(f"distance is {self.distance.shape}, not ({len(self.places)},)")

    @property
    def labels(self) -> NDArray[np.str_]:
        """(n,) the most probable class of each place."""
        return np.array(self.classes)[self.probabilities.argmax(axis=1)]
