"""The scale of a picture, from spots that were printed at a known distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spotscope.slide.mpp import MppSource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

_RATIO_WITHIN = 0.15
"""The array with 2,000 places is 6.2 × 6.6 mm, so its cells are not quite square."""
_STRAY = 0.05
"""Share of places that may lie off a staggered array; tables of real sections hold a few."""


@dataclass(frozen=True)
class Design:
    """How an array of spots is printed.

    Attributes
    ----------
    pitch_um
        Distance to the nearest spot.
    steps_um
        One step along each index, the shorter first.
    staggered
        Whether every second place is empty, as on a honeycomb.
    spot_um
        Diameter of a spot.
    """

    pitch_um: float
    steps_um: tuple[float, float]
    staggered: bool
    spot_um: float


VISIUM = Design(100.0, (50.0, 50.0 * 3**0.5), True, 55.0)
ST_1000 = Design(200.0, (200.0, 200.0), False, 100.0)
ST_2000 = Design(100.0 * 2**0.5, (100.0, 100.0), True, 100.0)


def scale_of(
    array: ArrayLike, centres_px: ArrayLike, designs: Iterable[Design]
) -> tuple[Design, MppSource] | None:
    """Recognise the design of an array and return what it states about the scale.

    The positions are fitted as an affine map of the array's indices, which averages over all
    spots and does not mind a turned slide. (The distance to the nearest spot is biased: of four
    neighbours that all lie a little off, the nearest is always too near, by 6 % on real data.)
    The shape of a cell tells the designs apart, its area in pixels gives the scale.

    Parameters
    ----------
    array
        (n, 2) indices on the array.
    centres_px
        (n, 2) positions in pixels.
    designs
        Those that come into question.

    Returns
    -------
    None when the spots do not span an array of these designs.
    """
    both = np.column_stack([np.asarray(array, float), np.asarray(centres_px, float)])
    both = both[np.isfinite(both).all(axis=1)]
    places, centres = both[:, :2], both[:, 2:]
    if len(places) < 3:
        return None
    odd = float((places.sum(axis=1).round() % 2).mean())
    staggered = min(odd, 1 - odd) < _STRAY
    terms = np.column_stack([places - places.mean(axis=0), np.ones(len(places))])
    fit, _, rank, _ = np.linalg.lstsq(terms, centres, rcond=None)
    steps_px = np.sort(np.linalg.norm(fit[:2], axis=1))
    area_px2 = abs(np.linalg.det(fit[:2]))
    if rank < 3 or area_px2 <= 0:
        return None
    ratio = steps_px[1] / steps_px[0]
    for known in designs:
        expected = known.steps_um[1] / known.steps_um[0]
        if known.staggered == staggered and abs(ratio / expected - 1) < _RATIO_WITHIN:
            mpp = float(np.sqrt(known.steps_um[0] * known.steps_um[1] / area_px2))
            return known, MppSource(f"spot pitch of {known.pitch_um:.0f} µm", mpp)
    return None
