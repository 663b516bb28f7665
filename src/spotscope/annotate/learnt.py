"""What a classifier says of tissue, made into classes, evened out and counted; without torch."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from spotscope.data.subtype_map import SubtypeMap
from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.data.places import Places

__all__ = ["FARTHEST", "UNSURE", "SubtypeMap", "areas", "decide", "neighbour_pairs", "smoothed"]

UNSURE = "unsure"
"""Names the places whose class is not decided."""
FARTHEST = 1.0
"""Distance from anything learnt beyond which no class is relied on."""


def decide(
    told: SubtypeMap, threshold: float = 0.5, farthest: float = FARTHEST
) -> NDArray[np.int64]:
    """Return (n,) the index of the most probable class, -1 where it is not to be relied on.

    Parameters
    ----------
    threshold
        Least probability of the most probable class.
    farthest
        Greatest distance from anything that was trained on; ``inf`` looks at probabilities alone.
    """
    codes = told.probabilities.argmax(axis=1).astype(np.int64)
    unsure = told.probabilities.max(axis=1) < threshold
    codes[unsure | (told.distance > farthest)] = -1
    return codes


def smoothed(told: SubtypeMap, radius_um: float) -> SubtypeMap:
    """Return the map with each place's probabilities averaged over the places around it.

    Parameters
    ----------
    radius_um
        Around each centre; a place without neighbours in it keeps its own. Distances stay.

    Raises
    ------
    SpotScopeError
        When the slide states no scale.
    """
    from scipy.sparse import coo_matrix, identity

    first, second = neighbour_pairs(told.places, radius_um).T
    n = len(told.places)
    ones = np.ones(len(first), np.float32)
    joined = coo_matrix((ones, (first, second)), (n, n)).tocsr()
    joined = joined + joined.T + identity(n, np.float32, "csr")
    sums = joined @ told.probabilities
    even = (sums / np.asarray(joined.sum(axis=1)).reshape(-1, 1)).astype(np.float32)
    return dataclasses.replace(told, probabilities=even)


def areas(told: SubtypeMap, codes: NDArray[np.integer]) -> dict[str, tuple[int, float | None]]:
    """Return how many places each class has, and on a grid their area in mm².

    Every class is there, in order, and `UNSURE` last.

    Parameters
    ----------
    codes
        (n,) of `decide`.
    """
    counts = np.bincount(np.asarray(codes) + 1, minlength=len(told.classes) + 1)
    grid = told.places.grid
    cell_mm2 = None if grid is None else (grid.stride_um / 1000) ** 2

    def sized(count: int) -> tuple[int, float | None]:
        return count, None if cell_mm2 is None else count * cell_mm2

    found = {name: sized(int(n)) for name, n in zip(told.classes, counts[1:], strict=True)}
    return {**found, UNSURE: sized(int(counts[0]))}


def neighbour_pairs(places: Places, radius_um: float) -> NDArray[np.int64]:
    """Return (m, 2) the pairs of places that lie within a radius of each other, each once.

    Raises
    ------
    SpotScopeError
        When the slide states no scale, or the radius is negative.
    """
    from scipy.spatial import cKDTree

    mpp = places.section.mpp_um
    if mpp is None:
        raise SpotScopeError(
            f"The slide of section '{places.section.name}' states no micrometres per pixel; import"
            " it again with --mpp."
        )
    if not radius_um >= 0:
        raise SpotScopeError(f"A radius of {radius_um:g} µm is none; choose one of 0 or more.")
    if not len(places):
        return np.empty((0, 2), np.int64)
    # A hair more, so that cells exactly one stride apart are neighbours whatever the rounding.
    tree = cKDTree(places.centres_px)
    return tree.query_pairs(radius_um / mpp * (1 + 1e-9), output_type="ndarray")
