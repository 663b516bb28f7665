"""What a brush passes over, and outlines that wait for a class; no Qt, no napari."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from spotscope.plugin.annotating import stroke

if TYPE_CHECKING:
    import shapely
    from numpy.typing import NDArray

    from spotscope.annotate.regions import Region
    from spotscope.plugin.annotating import Annotating

Place = tuple[float, float]


def between(start: Place, end: Place, radius_px: float) -> NDArray[np.float64]:
    """Return places from start to end, so near one another that no spot falls between."""
    length = float(np.hypot(*np.subtract(end, start)))
    steps = int(np.ceil(length / max(radius_px / 2, 1e-6)))
    return np.linspace(start, end, min(steps, 10_000) + 1)


def swept(path: list[Place], radius_px: float) -> shapely.Polygon:
    """Return the area (x, y) that a round brush has passed over on its way (row, col)."""
    import shapely

    way = np.array([path[0], *path])[:, ::-1]
    return shapely.LineString(way).simplify(0.1 * radius_px).buffer(radius_px)


def draw_area(annotating: Annotating, area: shapely.Geometry, group: str) -> None:
    """Draw what a brush has passed over (x, y, level-0 pixels) as a region of the chosen class.

    It becomes one with the regions of that class that it touches, as further strokes are meant to.

    Parameters
    ----------
    group
        Under which the pieces of a stroke are undone together.
    """
    import shapely

    from spotscope.annotate.regions import Region

    document, name = annotating.writable(), annotating.classes.name_for_edit(None)
    annotating.classes.bring(name, group)
    touched = [
        known
        for known in document.regions
        if known.subtype == name
        and known.annotator == document.annotator
        and known.geometry.intersects(area)
    ]
    region = Region(area, name)
    if touched:
        whole = shapely.union_all([area, *(known.geometry for known in touched)])
        region = replace(touched[0], geometry=whole)
        document.remove_regions([known.id for known in touched[1:]], group=group)
    document.add_regions([region], title=f"Draw {name}", group=group)


def unclassed(annotating: Annotating) -> list[Region]:
    """Return the active section's outlines without class, as QuPath's tools draw them."""
    document = annotating.document if annotating.is_open else None
    return [] if document is None else [one for one in document.regions if one.subtype is None]


def classify(annotating: Annotating, name: str) -> None:
    """Give the outlines without class one, and their spots with them, as one step."""
    document, group = annotating.writable(), stroke()
    annotating.classes.bring(name, group)
    for one in unclassed(annotating):
        document.add_regions(
            [replace(one, subtype=name)],
            title=f"Outlines become {name}",
            border=annotating.border,
            annotator=one.annotator,
            group=group,
        )
