"""Drawn regions and the spots in them.

Geometry is the one place where order is (x, y): shapely, GeoJSON and SpatialData all hold it so.
`rings` and `region_from_rings` swap to (row, col) for the viewer.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import shapely

from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Border = Literal["centre", "half", "touch"]
Overlap = Literal["last", "smallest"]

_ASIDE = 1e-6 * np.array([0.8, 0.6])  # radii; a disc's centre on a border would have no side
_ROUNDING = 1e-5  # of a disc's area, and more than that changes


@dataclass(frozen=True, eq=False)
class Region:
    """A drawn region of one class.

    Attributes
    ----------
    geometry
        Polygon or MultiPolygon in level-0 pixels, (x, y).
    subtype
        Name of its class, or None when it has none.
    extra
        Properties of an exchange file that SpotScope does not use, kept for the way back.
    annotator
        Who drew it.
    """

    geometry: shapely.Geometry
    subtype: str | None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    extra: dict[str, Any] = field(default_factory=dict)
    annotator: str | None = None

    @property
    def area_px(self) -> float:
        """Area in square level-0 pixels, holes taken off."""
        return float(self.geometry.area)

    def rings(self) -> list[NDArray[np.float64]]:
        """Return every ring as (n, 2) (row, col), the outer one of each part before its holes."""
        return [
            np.asarray(ring.coords)[:, 1::-1]
            for part in parts(self.geometry)
            for ring in (part.exterior, *part.interiors)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the region as plain JSON."""
        return {
            "id": self.id,
            "subtype": self.subtype,
            "wkt": shapely.to_wkt(self.geometry, rounding_precision=-1),
            "extra": self.extra,
            "annotator": self.annotator,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Region:
        """Return the region that `to_json` wrote."""
        geometry = shapely.from_wkt(content["wkt"])
        return cls(
            geometry,
            content["subtype"],
            content["id"],
            content["extra"],
            content.get("annotator"),
        )


def parts(geometry: shapely.Geometry) -> list[shapely.Polygon]:
    """Return the polygons that a geometry is made of; lines and points have none."""
    return [g for g in shapely.get_parts(geometry) if isinstance(g, shapely.Polygon)]


def region_from_rings(
    rings: Sequence[NDArray[np.floating]], subtype: str | None, **kept: Any
) -> Region:
    """Make a region from drawn (row, col) rings, the first one outside, the others holes.

    A ring that crosses itself, as a quick lasso does, is mended: what an even number of turns
    encloses is outside.

    Raises
    ------
    SpotScopeError
        When the drawing encloses nothing.
    """
    swapped = [np.asarray(ring, dtype=np.float64)[:, ::-1] for ring in rings]
    if not swapped or len(swapped[0]) < 3:
        raise SpotScopeError("This drawing encloses nothing; draw around an area.")
    return Region(mended(shapely.Polygon(swapped[0], swapped[1:])), subtype, **kept)


def mended(geometry: shapely.Geometry) -> shapely.Geometry:
    """Return a valid area; only its polygons are kept.

    Raises
    ------
    SpotScopeError
        When nothing of it has an area.
    """
    if not geometry.is_valid:
        geometry = shapely.make_valid(geometry)
        if geometry.geom_type not in ("Polygon", "MultiPolygon"):
            found = [p for g in shapely.get_parts(geometry) for p in parts(g)]
            geometry = shapely.MultiPolygon(found) if len(found) != 1 else found[0]
    if geometry.is_empty or geometry.area == 0:
        raise SpotScopeError("This drawing encloses nothing; draw around an area.")
    return geometry


def spots_in_regions(
    regions: Sequence[Region],
    centres_px: NDArray[np.float64],
    *,
    diameter_px: float = 0.0,
    border: Border = "centre",
    overlap: Overlap = "last",
    tree: shapely.STRtree | None = None,
) -> NDArray[np.int64]:
    """Find the region that each spot belongs to.

    Parameters
    ----------
    regions
        In drawing order.
    centres_px
        (n, 2) spot centres (row, col), level-0 pixels.
    diameter_px
        Spot diameter; only `half` and `touch` look at it.
    border
        A spot is in a region when its centre is in it or on its border (`centre`), when at least
        half of its disc is (`half`), or when any of it is (`touch`).
    overlap
        Where regions overlap, the one drawn last wins (`last`), or the smallest one does
        (`smallest`, for nests marked inside larger fields).
    tree
        `spot_tree` of the centres, for those who ask again and again.

    Returns
    -------
    Array (n,) of positions in `regions`, -1 where a spot is in none.
    """
    owner = np.full(len(centres_px), -1, dtype=np.int64)
    if not len(regions) or not len(centres_px):
        return owner
    geometries = np.array([r.geometry for r in regions], dtype=object)
    # GEOS answers point-in-polygon many times faster for prepared geometries.
    shapely.prepare(geometries)
    tree = tree or spot_tree(centres_px)
    if border == "touch":
        which, spot = tree.query(geometries, predicate="dwithin", distance=diameter_px / 2)
    else:
        which, spot = tree.query(geometries)  # by bounding boxes
        row, col = np.asarray(centres_px, dtype=np.float64)[spot].T
        kept = shapely.intersects_xy(geometries[which], col, row)
        which, spot = which[kept], spot[kept]
    if border == "half":
        which, spot = _half(geometries, which, spot, tree, diameter_px / 2)
    rank = np.arange(len(regions))
    if overlap == "smallest":
        areas = np.array([r.area_px for r in regions])
        rank = np.empty(len(regions), dtype=np.int64)
        rank[np.argsort(-areas, kind="stable")] = np.arange(len(regions))
    # Written in rising rank, so that the last write is the winner.
    order = np.argsort(rank[which], kind="stable")
    owner[spot[order]] = which[order]
    return owner


def replacing(
    regions: Sequence[Region], drawn: Sequence[Region], annotator: str
) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
    """Return regions as they are added to drawn ones, and which of those they take the place of.

    A region of nobody becomes `annotator`'s. One with the id of a region of the same annotator
    takes its place; one with the id of another's gets an id of its own.
    """
    owned = [r if r.annotator else replace(r, annotator=annotator) for r in regions]
    taken = {r.id: r.annotator for r in drawn}
    added = tuple(
        r if taken.get(r.id, r.annotator) == r.annotator else replace(r, id=str(uuid.uuid4()))
        for r in owned
    )
    ids = {r.id for r in added}
    return added, tuple(r for r in drawn if r.id in ids)


def regions_from_spots(
    labels: Sequence[str | None], centres_px: NDArray[np.float64], pitch_px: float
) -> list[Region]:
    """Return one region per class that covers its spots, for export.

    Each spot stands for a square of one pitch around it; touching squares merge.
    """
    half = pitch_px / 2 * 1.01  # a hair over, so that neighbours merge despite rounding
    points = np.asarray(centres_px, dtype=np.float64)[:, ::-1]
    names = np.array([name or "" for name in labels], dtype=object)
    found = []
    for name in dict.fromkeys(names.tolist()):
        if not name:
            continue
        own = points[names == name]
        squares = shapely.box(
            own[:, 0] - half, own[:, 1] - half, own[:, 0] + half, own[:, 1] + half
        )
        found.append(Region(shapely.union_all(squares), name))
    return found


def spot_tree(centres_px: NDArray[np.float64]) -> shapely.STRtree:
    """Return the tree in which `spots_in_regions` looks for (n, 2) centres (row, col)."""
    return shapely.STRtree(shapely.points(np.asarray(centres_px, dtype=np.float64)[:, ::-1]))


def _half(
    geometries: NDArray[np.object_],
    which: NDArray[np.int64],
    spot: NDArray[np.int64],
    tree: shapely.STRtree,
    radius_px: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return region and spot of each pair of which at least half of the spot's disc is inside.

    A border is a chord through the discs that it crosses. With the inside on its left, it takes
    the piece of the disc behind the chord away from a disc whose centre is inside, and gives the
    piece in front of it to one whose centre is not: summed over a border that is exact.

    Parameters
    ----------
    which, spot
        The pairs whose centres are inside.
    """
    if radius_px <= 0:
        return which, spot
    region, begin, end = _edges(geometries, 8 * radius_px)
    low, high = np.minimum(begin, end) - radius_px, np.maximum(begin, end) + radius_px
    edge, near = tree.query(shapely.box(low[:, 0], low[:, 1], high[:, 0], high[:, 1]))
    centres = shapely.get_coordinates(tree.geometries)[near] + radius_px * _ASIDE
    change = _chord_share((begin[edge] - centres) / radius_px, (end[edge] - centres) / radius_px)
    many = len(tree.geometries)
    pairs, place = np.unique(
        np.append(which * many + spot, region[edge] * many + near), return_inverse=True
    )
    inside = np.bincount(place[: len(which)], minlength=len(pairs))
    share = inside + np.bincount(place[len(which) :], change, minlength=len(pairs))
    # A centre as good as on the border may be inside by one rule and outside by the other.
    share = np.where((share < -_ROUNDING) | (share > 1 + _ROUNDING), share % 1, share)
    kept = pairs[share >= 0.5 - _ROUNDING]
    return kept // many, kept % many


def _edges(
    geometries: NDArray[np.object_], longest_px: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the region, begin and end (x, y) of each border edge, the inside on its left.

    Long edges are cut, so that the box around each holds few spots.
    """
    outlines = shapely.segmentize(shapely.orient_polygons(geometries), longest_px)
    areas, region = shapely.get_parts(outlines, return_index=True)
    rings, area = shapely.get_rings(areas, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    joined = np.flatnonzero(ring[1:] == ring[:-1])
    return region[area[ring[joined]]], points[joined], points[joined + 1]


def _chord_share(begin: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by which share of the unit disc each edge moves the area on its left.

    Parameters
    ----------
    begin, end
        (n, 2) ends of the edges, seen from the disc's centre.
    """
    along = end - begin
    length2 = np.maximum((along**2).sum(axis=1), np.finfo(np.float64).tiny)
    middle = -(begin * along).sum(axis=1) / length2
    closest = begin + middle[:, None] * along
    half = np.sqrt(np.maximum(1 - (closest**2).sum(axis=1), 0) / length2)
    # Equal ends, when the edge is outside the disc: no chord and no change.
    first = begin + np.clip(middle - half, 0, 1)[:, None] * along
    last = begin + np.clip(middle + half, 0, 1)[:, None] * along
    cross = first[:, 0] * last[:, 1] - first[:, 1] * last[:, 0]
    turn = np.arctan2(cross, (first * last).sum(axis=1))
    return np.asarray((cross - turn) / (2 * np.pi))
