"""Drawn regions and the spots in them.

Geometry is the one place where order is (x, y): shapely, GeoJSON and SpatialData all hold it so.
`rings` and `region_from_rings` swap to (row, col) for the viewer.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import shapely

from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Border = Literal["centre", "half", "touch"]
Overlap = Literal["last", "smallest"]

_STREWN, _STREWN_ERROR = 61, 0.1  # points on a disc, and how far their share is off at most
_AT_ONCE = 20_000  # discs, to keep their points within some tens of MB


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
        kept = _inside(geometries[which], np.asarray(centres_px, np.float64)[spot])
        which, spot = which[kept], spot[kept]
    if border == "half":
        which, spot = _half(geometries, which, spot, tree, diameter_px)
    rank = np.arange(len(regions))
    if overlap == "smallest":
        areas = np.array([r.area_px for r in regions])
        rank = np.empty(len(regions), dtype=np.int64)
        rank[np.argsort(-areas, kind="stable")] = np.arange(len(regions))
    # Written in rising rank, so that the last write is the winner.
    order = np.argsort(rank[which], kind="stable")
    owner[spot[order]] = which[order]
    return owner


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


def _inside(geometries: NDArray[np.object_], places_px: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which (..., 2) places (row, col) are in their geometry or on its border."""
    return np.asarray(shapely.intersects_xy(geometries, places_px[..., 1], places_px[..., 0]))


def _half(
    geometries: NDArray[np.object_],
    which: NDArray[np.int64],
    spot: NDArray[np.int64],
    tree: shapely.STRtree,
    diameter_px: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return region and spot of each pair of which at least half of the spot's disc is inside.

    Parameters
    ----------
    which, spot
        The pairs whose centres are inside.
    """
    borders = shapely.boundary(geometries)
    shapely.prepare(borders)
    near = tree.query(borders, predicate="dwithin", distance=diameter_px / 2)
    whole = ~np.isin(_paired(which, spot), _paired(*near))
    halves = [near[:, start : start + _AT_ONCE] for start in range(0, near.shape[1], _AT_ONCE)]
    kept = [_half_inside(geometries[w], tree.geometries[s], diameter_px) for w, s in halves]
    cut = near[:, np.concatenate(kept)] if kept else near
    return np.append(which[whole], cut[0]), np.append(spot[whole], cut[1])


def _paired(which: NDArray[np.int64], spot: NDArray[np.int64]) -> NDArray[np.int64]:
    return which * (1 << 32) + spot


def _half_inside(
    geometries: NDArray[np.object_], points: NDArray[np.object_], diameter_px: float
) -> NDArray[np.bool_]:
    """Return which discs lie by at least half in their geometry.

    The share of points strewn evenly over a disc decides, and the area where that is near half.
    """
    step = np.arange(_STREWN)
    reach = diameter_px / 2 * np.sqrt((step + 0.5) / _STREWN)
    turn = step * np.pi * (3 - np.sqrt(5))  # the golden angle leaves no gaps
    strewn = reach[:, None] * np.stack([np.sin(turn), np.cos(turn)], axis=1)
    middles = np.stack([shapely.get_y(points), shapely.get_x(points)], axis=1)
    share = _inside(geometries[:, None], middles[:, None] + strewn).mean(axis=1)
    unsure = np.abs(share - 0.5) < _STREWN_ERROR
    discs = shapely.buffer(points[unsure], diameter_px / 2, quad_segs=16)
    shared = shapely.area(shapely.intersection(discs, geometries[unsure]))
    share[unsure] = shared / shapely.area(discs)
    return np.asarray(share >= 0.5)
