"""Annotations from files and to files."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.annotate.document import AnnotationDocument
    from spotscope.annotate.geojson import Unit
    from spotscope.annotate.regions import Border, Overlap, Region
    from spotscope.data.section import Section
    from spotscope.progress import Progress

Kind = Literal["geojson", "ndpa", "classes", "labels"]


@dataclass(frozen=True)
class Imported:
    """What an import brought.

    Attributes
    ----------
    kind
        What the file was recognised as.
    n_regions, n_spots
        Regions added, and spots that have another class now.
    notes
        Sentences on what was left out or mended.
    """

    kind: Kind
    n_regions: int
    n_spots: int
    notes: list[str]


def import_annotations(
    file: Path,
    section: Section,
    document: AnnotationDocument,
    *,
    annotator: str | None = None,
    unit: Unit | None = None,
    border: Border = "centre",
    overlap: Overlap = "last",
) -> Imported:
    """Take annotations from a file into a document, as one step that undo takes back.

    Parameters
    ----------
    file
        GeoJSON, NDPA, a CSV of Loupe Browser, a label table of first-generation ST, or classes of
        QuPath or SpotScope; told apart by what is in it.
    annotator
        Whose they are; None takes whom the file names, as GeoJSON of SpotScope does, else who
        edits the document.
    unit
        Of GeoJSON coordinates. None takes them for pixels unless they can only be µm, which is
        then said.
    border, overlap
        Which region a spot belongs to, see `spots_in_regions`.

    Raises
    ------
    SpotScopeError
        When the file is none of these, or not of this section.
    """
    who = annotator or document.annotator
    kind = recognise(file)
    before = {name: document.labels(name) for name in {*document.annotators, who}}
    title = f"Import {Path(file).name}"
    regions: list[Region] = []
    if kind == "classes":
        notes = _import_classes(file, document, title)
    elif kind == "labels":
        notes = _import_labels(file, section, document, who, title)
    else:
        read = _geojson if kind == "geojson" else _ndpa
        regions, colours, notes = read(file, section, unit)
        group = uuid.uuid4().hex
        for name, own in _by_annotator(regions, annotator, who).items():
            document.add_regions(
                own,
                title=title,
                border=border,
                overlap=overlap,
                annotator=name,
                colours=colours,
                group=group,
            )
            if name != who:
                drawn = "1 region" if len(own) == 1 else f"{len(own):,} regions"
                notes.append(f"{name} drew {drawn}.")
    nothing = np.full(len(document.barcodes), None, object)
    changed = sum(
        int((before.get(name, nothing) != document.labels(name)).sum())
        for name in {*document.annotators, who}
    )
    return Imported(kind, len(regions), changed, notes)


def _by_annotator(
    regions: list[Region], annotator: str | None, who: str
) -> dict[str, list[Region]]:
    """Return regions by whose they become: `annotator`'s, whom the file names, or `who`'s."""
    from spotscope.annotate.state import IMPORTED

    found: dict[str, list[Region]] = {}
    for region in regions:
        stated = None if region.annotator == IMPORTED else region.annotator
        name = annotator or stated or who
        found.setdefault(name, []).append(replace(region, annotator=name))
    return found


def recognise(file: Path) -> Kind:
    """Tell what an annotation file is by its content.

    Raises
    ------
    SpotScopeError
        When it is none that can be read.
    """
    import json

    file = Path(file)
    try:
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise SpotScopeError(f"There is no '{file}'; check the name.") from error
    except OSError as error:
        raise SpotScopeError(f"'{file}' cannot be read ({error.strerror}).") from error
    try:
        text = content.decode("utf-8-sig").lstrip()
    except UnicodeDecodeError as error:
        raise SpotScopeError(
            f"'{file.name}' is no file of annotations in text; export it from QuPath as GeoJSON"
            " or from Loupe Browser as CSV."
        ) from error
    if text[:1] not in ("{", "["):
        return "ndpa" if text.startswith("<") else "labels"
    try:
        stated = json.loads(text)
    except ValueError:
        return "geojson"  # whose reader says what is wrong
    lists = isinstance(stated, dict) and stated.keys() & {"pathClasses", "classes"}
    return "classes" if lists and "features" not in stated else "geojson"


def export_annotations(
    document: AnnotationDocument,
    section: Section,
    out: Path,
    form: Literal["geojson", "csv"],
    *,
    annotator: str | None = None,
    of_spots: bool = False,
) -> tuple[str, list[str]]:
    """Write annotations for another program.

    Parameters
    ----------
    form
        `geojson`: the drawn regions, for QuPath. `csv`: the class of each spot, for Loupe Browser.
    annotator
        Only this one's; None takes all regions, and the merged label of each spot.
    of_spots
        Write GeoJSON of areas around the labelled spots in place of the drawn regions; done too
        when nothing was drawn.

    Returns
    -------
    What was written in words, and notes.

    Raises
    ------
    SpotScopeError
        When there is nothing to write, or the file cannot be written.
    """
    from spotscope.annotate.geojson import write_geojson
    from spotscope.annotate.tables import write_labels

    if annotator is not None and annotator not in document.annotators:
        known = ", ".join(f"'{who}'" for who in document.annotators)
        raise SpotScopeError(f"'{annotator}' has annotated nothing here; there is {known}.")
    labels = document.merged() if annotator is None else document.labels(annotator)
    labelled = int((labels != None).sum())  # noqa: E711 - elementwise
    if form == "csv":
        if not labelled:
            raise SpotScopeError(f"No spot of section '{section.name}' has a class to export.")
        write_labels(dict(zip(document.barcodes, labels.tolist(), strict=True)), out)
        return f"{labelled:,} labelled of {len(labels):,} spots", []
    drawn = [r for r in document.regions if annotator in (None, r.annotator)]
    regions = _around(labels, section, annotator) if of_spots or not drawn else drawn
    if not regions:
        raise SpotScopeError(f"Nothing is annotated on section '{section.name}' to export.")
    write_geojson(regions, document.vocabulary, out, mpp_um=section.mpp_um)
    if regions is not drawn:
        return f"{len(regions):,} areas around {labelled:,} labelled spots", []
    return f"{len(regions):,} regions", _left_out(drawn, labels, document)


def store_for(slide: Section) -> Path:
    """Return where `section_beside` has the section of a slide alone: beside it.

    A store that was made of this slide and not annotated since serves; names of others are left
    to them.
    """
    name = slide.slide.path.stem
    place, number = slide.slide.path.absolute().with_name(f"{name}.zarr"), 1
    while place.exists() and not _is_of(place, slide):
        number += 1
        place = place.with_name(f"{name}-{number}.zarr")
    return place


def section_beside(slide: Section, progress: Progress | None = None) -> Section:
    """Return a slide alone as a section with a store beside it; the slide stays as it is.

    A pyramid stays where it is and is linked; a flat picture is copied into the store.

    Raises
    ------
    SpotScopeError
        When the folder cannot be written or the disk is full.
    """
    from spotscope.data.store import open_section
    from spotscope.jobs.predicting import with_store

    place = store_for(slide)
    if place.exists():
        return open_section(place)
    return with_store(slide, place, progress)


def _is_of(store: Path, slide: Section) -> bool:
    """Whether a store holds this slide, no spots, and no annotations."""
    from spotscope.annotate.opening import SUFFIX, stored_about
    from spotscope.data.store import open_section
    from spotscope.slide.fingerprint import of_levels

    if store.with_name(store.stem + SUFFIX).exists():
        return False
    try:
        found = open_section(store)
        annotated = stored_about(found) is not None
    except SpotScopeError:
        return False
    if found.has_spots or annotated:
        return False
    if found.slide.fingerprint == slide.slide.fingerprint:
        return True
    # A flat picture was copied, so that the pixels are the same and the files are not.
    return of_levels(found.slide.levels[:1]) == of_levels(slide.slide.levels[:1])


def _import_classes(file: Path, document: AnnotationDocument, title: str) -> list[str]:
    from spotscope.annotate.vocabulary import combined, read_vocabulary

    grown = combined(document.vocabulary, read_vocabulary(file))
    document.set_vocabulary(grown, title)
    return []


def _import_labels(
    file: Path, section: Section, document: AnnotationDocument, who: str, title: str
) -> list[str]:
    from spotscope.annotate.tables import read_labels

    if not document.barcodes:
        raise SpotScopeError(
            f"'{Path(file).name}' holds labels of spots and '{section.name}' has no spots."
        )
    read = read_labels(file, document.barcodes)
    labels = {barcode: name for barcode, name in read.items() if name is not None}
    if not labels:
        raise SpotScopeError(f"'{Path(file).name}' gives no spot a class; export it again.")
    unknown = document.import_labels(labels, annotator=who, title=title)
    if not unknown:
        return []
    return [
        f"{unknown:,} of the {len(labels):,} labelled barcodes are not spots of this section; they"
        " were left out."
    ]


def _geojson(
    file: Path, section: Section, unit: Unit | None
) -> tuple[list[Region], dict[str, str], list[str]]:
    from spotscope.annotate.geojson import read_geojson

    found = read_geojson(file, section.slide.shape_px, mpp_um=section.mpp_um, unit=unit or "px")
    if unit is None:
        _check_unit(found[0], section, Path(file).name)
    return found


def _check_unit(regions: list[Region], section: Section, name: str) -> None:
    """Refuse coordinates that meet the spots when they are µm and none of them as they are.

    Micrometres are fewer than pixels, so that they lie on the slide either way.
    """
    import shapely

    from spotscope.data.section import x_y

    if not section.has_spots or section.mpp_um is None or abs(section.mpp_um - 1) < 0.05:
        return
    spots = shapely.STRtree(shapely.points(x_y(section.centres_px)))

    def met(geometries: list[shapely.Geometry]) -> int:
        return len(np.unique(spots.query(geometries, predicate="intersects")[0]))

    as_they_are = [r.geometry for r in regions]
    as_um = [shapely.transform(g, lambda xy: (xy + 0.5) / section.mpp_um) for g in as_they_are]
    if not met(as_they_are) and met(as_um):
        raise SpotScopeError(
            f"No region of '{name}' holds a spot in pixels, but {met(as_um)} of {len(regions)} do"
            " when the coordinates are µm; import with --unit um, or with --unit px to take them"
            " as they are."
        )


def _ndpa(
    file: Path, section: Section, unit: Unit | None
) -> tuple[list[Region], dict[str, str], list[str]]:
    from spotscope.annotate.geojson import read_ndpa

    if section.mpp_um is None:
        raise SpotScopeError(
            f"Nothing states how many µm a pixel of '{section.name}' is, so '{Path(file).name}'"
            " cannot be placed; import the section with its scale (--mpp)."
        )
    slide = Path(file).with_suffix("")  # A.ndpi of A.ndpi.ndpa
    offset = _offset_nm(slide)
    found = read_ndpa(file, section.mpp_um, section.slide.shape_px, offset or (0, 0))
    if offset is None:
        found[2].append(
            f"'{slide.name}' is not beside it, which states where the scanner counts from; check"
            " that the regions lie where they were drawn."
        )
    return found


def _offset_nm(slide: Path) -> tuple[float, float] | None:
    """Return (x, y) of the slide's middle from the scanner's origin; None when nothing says."""
    import openslide

    try:
        with openslide.OpenSlide(slide) as opened:
            x, y = (opened.properties[f"hamamatsu.{a}OffsetFromSlideCentre"] for a in "XY")
    except (OSError, openslide.OpenSlideError, KeyError):
        return None
    return float(x), float(y)


def _around(labels: NDArray[Any], section: Section, annotator: str | None) -> list[Region]:
    from spotscope.annotate.regions import regions_from_spots
    from spotscope.data.places import spot_pitch_px

    pitch = spot_pitch_px(section) if section.has_spots else None
    found = regions_from_spots(labels.tolist(), section.centres_px, pitch) if pitch else []
    return [replace(region, annotator=annotator) for region in found]


def _left_out(
    regions: list[Region], labels: NDArray[Any], document: AnnotationDocument
) -> list[str]:
    from spotscope.annotate.regions import spots_in_regions

    outside = spots_in_regions(regions, document.centres_px) < 0
    left = int((outside & (labels != None)).sum())  # noqa: E711 - elementwise
    if not left:
        return []
    return [
        f"{left:,} labelled spots lie in no region and are not in the file; --spots writes areas"
        " around all labelled spots instead."
    ]
