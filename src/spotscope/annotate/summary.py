"""What a section's annotations amount to: annotators, classes, spots and areas."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import shapely

from spotscope.annotate.agreement import Agreement, agreement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spotscope.annotate.document import AnnotationDocument
    from spotscope.annotate.regions import Region
    from spotscope.data.section import Section


@dataclass(frozen=True)
class ClassSummary:
    """What is marked as one class.

    Attributes
    ----------
    n_spots
        By the merged labels.
    n_regions, regions_mm2
        Drawn; overlaps counted once. The area is None when nothing states the scale.
    """

    name: str
    colour: str
    key: int | None
    exclude: bool
    n_spots: int
    n_regions: int
    regions_mm2: float | None


@dataclass(frozen=True)
class Summary:
    """What a section's annotations amount to.

    Attributes
    ----------
    annotators
        (name, labelled spots, regions) of each.
    pairs
        Two annotators who labelled the same spots, and how far they agree.
    """

    annotators: list[tuple[str, int, int]]
    classes: list[ClassSummary]
    pairs: list[tuple[str, str, Agreement]]
    n_spots: int
    unsaved: int


def summarise(document: AnnotationDocument, section: Section) -> Summary:
    """Count annotators, classes, spots and areas."""
    areas = region_areas_mm2(document.regions, section.mpp_um)
    merged = document.merged()
    people = [
        (
            who,
            int((document.labels(who) != None).sum()),  # noqa: E711 - elementwise
            sum(r.annotator == who for r in document.regions),
        )
        for who in document.annotators
    ]
    people = [one for one in people if one[1] or one[2]]
    pairs = [
        (one, other, agreement(document.labels(one), document.labels(other)))
        for one, other in combinations([who for who, *_ in people], 2)
    ]
    return Summary(
        people,
        [
            ClassSummary(
                c.name,
                c.colour,
                c.key,
                c.exclude,
                int((merged == c.name).sum()),
                sum(r.subtype == c.name for r in document.regions),
                areas.get(c.name, 0.0) if section.mpp_um else None,
            )
            for c in document.vocabulary.classes
        ],
        [pair for pair in pairs if pair[2].n_shared],
        len(merged),
        document.unsaved,
    )


def region_areas_mm2(regions: Iterable[Region], mpp_um: float | None) -> dict[str, float]:
    """Return the area of each class's regions, overlaps counted once; none without a scale."""
    by_class: dict[str, list[shapely.Geometry]] = {}
    for region in regions:
        if region.subtype is not None:
            by_class.setdefault(region.subtype, []).append(region.geometry)
    if mpp_um is None:
        return {}
    return {
        name: float(shapely.union_all(shapes).area) * mpp_um**2 / 1e6
        for name, shapes in by_class.items()
    }
