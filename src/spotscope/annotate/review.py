"""Where a map of subtypes is worth a look: unsure tissue, and spots annotated otherwise.

Both are found as regions of neighbouring places with one and the same question, best first, in an
order that follows from the map alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spotscope.annotate.learnt import FARTHEST, decide, neighbour_pairs
from spotscope.annotate.suggest import doubt
from spotscope.data.places import spot_pitch_px

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from spotscope.data.places import Places
    from spotscope.data.subtype_map import SubtypeMap

WIDEST_UM = 600.0
"""Edge that a region is cut at, so that it can be looked at, and given one class, at once."""
LEAST_CERTAIN = 0.02
"""Share of the places that is shown where all are sure."""
_REACH = 1.5  # in distances of neighbouring places, so that diagonal ones touch


@dataclass(frozen=True, eq=False)
class Region:
    """Neighbouring places with the same question.

    Attributes
    ----------
    members
        (m,) index of each place, ascending.
    told
        The most probable class of all its places.
    annotated
        The class that they bear, where this is what the region is about.
    score
        What it is ranked by: the members' uncertainty, or how sure the contradiction is, summed.
    centre_px
        Row, col of the member nearest to the middle.
    extent_px
        Longer edge of what the centres span.
    """

    members: NDArray[np.intp]
    told: str
    annotated: str | None
    score: float
    centre_px: tuple[float, float]
    extent_px: float


def uncertain_regions(
    told: SubtypeMap,
    threshold: float = 0.5,
    farthest: float = FARTHEST,
    *,
    widest_um: float = WIDEST_UM,
    at_most: int = 100,
) -> list[Region]:
    """Return regions that `decide` leaves unsure, those with most to gain first.

    A place counts by how little its most probable class leads, and fully where it is far from
    anything that was trained on. Where no place is unsure, the least certain ones are returned.

    Parameters
    ----------
    threshold, farthest
        As of `decide`.
    widest_um
        Edge that regions are cut at.
    at_most
        Regions to return.

    Raises
    ------
    SpotScopeError
        When the slide states no scale.
    """
    doubts = _doubts(told, farthest)
    asked = decide(told, threshold, farthest) < 0
    if not asked.any() and len(doubts):
        asked[np.argsort(-doubts, kind="stable")[: max(1, int(LEAST_CERTAIN * len(doubts)))]] = (
            True
        )
    best = told.probabilities.argmax(axis=1)
    return _regions(told, np.flatnonzero(asked), best, doubts, None, widest_um, at_most)


def disagreements(
    told: SubtypeMap,
    labels: ArrayLike,
    threshold: float = 0.5,
    *,
    widest_um: float = WIDEST_UM,
    at_most: int = 100,
) -> list[Region]:
    """Return regions of spots that are annotated otherwise than told, the surest first.

    A spot counts by how much more probable the told class is than the annotated one.

    Parameters
    ----------
    told
        On the spots.
    labels
        (n,) annotated classes, None where there is none.
    threshold
        Least probability of the told class: below it the classifier says nothing against.

    Raises
    ------
    SpotScopeError
        When the slide states no scale.
    """
    names = np.array(["" if name is None else str(name) for name in np.asarray(labels, object)])
    if len(names) != len(told.places):
        raise ValueError(f"{len(names)} labels for {len(told.places)} spots")
    place = {name: column for column, name in enumerate(told.classes)}
    column = np.array([place.get(name, -1) for name in names], np.intp)
    every = np.arange(len(names))
    of_label = np.where(column >= 0, told.probabilities[every, column], 0.0)
    best, most = told.probabilities.argmax(axis=1), told.probabilities.max(axis=1)
    asked = (names != "") & (best != column) & (most >= threshold)
    kinds = np.unique(names, return_inverse=True)[1] * len(told.classes) + best
    rows = np.flatnonzero(asked)
    return _regions(told, rows, kinds, most - of_label, names, widest_um, at_most)


def following(regions: Sequence[Region], current: Region | None) -> Region | None:
    """Return the region after the one that shares most places with `current`; the first at first.

    None after the last, so that a list that was made anew, as after an answer, is gone on with.
    """
    if current is None:
        return regions[0] if regions else None
    shared = [len(np.intersect1d(region.members, current.members)) for region in regions]
    if not any(shared):
        later = [region for region in regions if region.score <= current.score]
        return later[0] if later else None
    after = int(np.argmax(shared)) + 1
    return regions[after] if after < len(regions) else None


def _doubts(told: SubtypeMap, farthest: float) -> NDArray[np.float64]:
    """Return (n,) 0 where the first class leads by all, 1 where two are level or nothing alike."""
    return np.where(told.distance > farthest, 1.0, doubt(told.probabilities))


def _regions(
    told: SubtypeMap,
    rows: NDArray[np.intp],
    kinds: NDArray[np.integer],
    weights: NDArray[np.floating],
    names: NDArray[np.str_] | None,
    widest_um: float,
    at_most: int,
) -> list[Region]:
    """Return connected places of one kind and one tile, the greatest sums of weights first."""
    if not len(rows):
        return []
    parts = _connected(told.places, rows, kinds, widest_um)
    found = []
    for part in range(int(parts.max()) + 1):
        members = rows[parts == part]
        centres = told.places.centres_px[members]
        middle = centres[np.argmin(((centres - centres.mean(axis=0)) ** 2).sum(axis=1))]
        best = int(told.probabilities[members].mean(axis=0).argmax())
        found.append(
            Region(
                members,
                told.classes[best],
                None if names is None else str(names[members[0]]),
                float(weights[members].sum()),
                (float(middle[0]), float(middle[1])),
                float(np.ptp(centres, axis=0).max()),
            )
        )
    found.sort(key=lambda region: (-round(region.score, 9), region.centre_px))
    return found[:at_most]


def _connected(
    places: Places, rows: NDArray[np.intp], kinds: NDArray[np.integer], widest_um: float
) -> NDArray[np.intp]:
    """Return (m,) the number of the region of each row."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    first, second = neighbour_pairs(places, _REACH * _step_um(places)).T
    mpp = places.section.mpp_um
    assert mpp is not None  # the pairs were found in micrometres
    tiles = np.floor(places.centres_px * mpp / widest_um).astype(np.int64)
    asked = np.zeros(len(places), bool)
    asked[rows] = True
    joined = (
        asked[first]
        & asked[second]
        & (kinds[first] == kinds[second])
        & (tiles[first] == tiles[second]).all(axis=1)
    )
    edges = (np.ones(joined.sum(), bool), (first[joined], second[joined]))
    graph = coo_matrix(edges, (len(places), len(places)))
    _, parts = connected_components(graph, directed=False)
    return np.unique(parts[rows], return_inverse=True)[1].reshape(-1)


def _step_um(places: Places) -> float:
    """Return how far apart neighbouring places are; 0 where there is one alone."""
    if places.grid is not None:
        return places.grid.stride_um
    return (spot_pitch_px(places.section) or 0.0) * (places.section.mpp_um or 0.0)
