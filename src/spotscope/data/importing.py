"""From what a laboratory hands over to a section: recognise, preview, import."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spotscope.data.readers import first_generation, hest, spaceranger, spatialdata
from spotscope.data.readers.base import Inputs, Reading, Source
from spotscope.data.section import Section
from spotscope.data.spots import inside_image, make_spots
from spotscope.data.store import write_section
from spotscope.errors import SpotScopeError
from spotscope.progress import Progress
from spotscope.slide.formats import flat
from spotscope.slide.open import open_slide, readable_formats, slide_name

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray
    from PIL import Image

    from spotscope.slide.mpp import MppSource
    from spotscope.slide.slide import Slide

_READERS = (spatialdata, spaceranger, hest, first_generation)
_PREVIEW_PX = 1024


@dataclass
class ImportPreview:
    """What an import would make, before anything is written.

    Attributes
    ----------
    kind
        What the source was recognised as, in the user's words.
    name, patient
        Proposed; the patient is empty when nothing tells it.
    image
        Path of the picture.
    shape_px
        Rows and columns of it.
    thumbnail
        (rows, cols, 3) uint8, at most 1,024 px long.
    thumbnail_scale
        Thumbnail pixels per pixel of the image.
    n_spots, n_genes
        As in the files, before any spot is left out; 0 for a slide alone.
    centres_px
        (n, 2) row, col of the spots in pixels of the image.
    spot_diameter_um
        Of the spots; None for a slide alone.
    mpp_sources
        All that state micrometres per pixel, the chosen one first.
    mpp_um
        The choice; None asks the user.
    labels
        The subtypes, sorted.
    warnings
        Sentences.
    """

    kind: str
    name: str
    patient: str
    image: Path
    shape_px: tuple[int, int]
    thumbnail: NDArray[np.uint8]
    thumbnail_scale: float
    n_spots: int = 0
    n_genes: int = 0
    centres_px: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    spot_diameter_um: float | None = None
    mpp_sources: tuple[MppSource, ...] = ()
    mpp_um: float | None = None
    labels: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def import_section(
    source: str | PathLike[str],
    out: str | PathLike[str],
    *,
    image: str | PathLike[str] | None = None,
    spots: str | PathLike[str] | None = None,
    labels: str | PathLike[str] | None = None,
    mpp_um: float | None = None,
    patient: str | None = None,
    name: str | None = None,
    link: bool = False,
    full_width_px: float | None = None,
    progress: Progress | None = None,
) -> Section:
    """Make a section's store of what a laboratory hands over.

    Parameters
    ----------
    source
        A Space Ranger folder, a table of counts, an h5ad, a SpatialData store, or a slide alone.
    out
        Folder of the store to make, ending in .zarr.
    image, spots, labels
        Files of the picture, the spots' positions and the pathologist's labels, when they do not
        lie where they are usually found.
    mpp_um
        Micrometres per pixel, taken before all that the files state.
    patient
        Whose tissue it is; None takes what the source states, else the section's name.
    name
        Of the section; None takes it from the source.
    link
        Leave a pyramidal slide where it is.
    full_width_px
        Width of the image on which positions were measured, when the one at hand was made
        smaller.
    progress
        Told and asked about twice a second.

    Raises
    ------
    SpotScopeError
        When something does not fit, is missing or cannot be written; nothing is left behind.
    """
    progress = progress or Progress()
    inputs = _inputs(source, image, spots, labels, full_width_px)
    found = recognise(inputs)
    progress.report(0.0, f"Reading: {found.kind}")
    with _open_image(found, pyramid=link, progress=progress) as slide:
        slide, reading = _read(found, slide, mpp_um)
        if slide.mpp_um is None:
            raise SpotScopeError(
                f"'{slide.path.name}' does not state its micrometres per pixel and nothing else"
                " does; give them with --mpp (about 0.25 for a 40x scan, 0.5 for 20x)."
            )
        notes = [*slide.notes, *_notes(found, reading, patient, name)]
        section = Section(
            name or found.name,
            patient or found.patient or name or found.name,
            slide,
            spot_diameter_um=_spot_diameter_um(slide, reading),
        )
        if reading is not None:
            checked, left_out = make_spots(reading.table, slide.shape_px, inputs.source.name)
            notes += left_out
            section = Section(
                section.name, section.patient, slide, checked, section.spot_diameter_um
            )
        section.notes = list(dict.fromkeys(notes))
        return write_section(section, out, link=link, progress=progress.part(0.1, 1.0))


def preview_source(
    source: str | PathLike[str],
    *,
    image: str | PathLike[str] | None = None,
    spots: str | PathLike[str] | None = None,
    labels: str | PathLike[str] | None = None,
    mpp_um: float | None = None,
    patient: str | None = None,
    full_width_px: float | None = None,
) -> ImportPreview:
    """Look at a source as `import_section` would, without reading counts or writing anything.

    Raises
    ------
    SpotScopeError
        When it would not import for what can be told from names, positions and the picture.
    """
    inputs = _inputs(source, image, spots, labels, full_width_px)
    found = recognise(inputs)
    with _open_image(found, pyramid=False, progress=Progress()) as slide:
        slide, reading = _read(found, slide, mpp_um)
        warnings = [*slide.notes, *_notes(found, reading, patient)]
        if slide.mpp_um is None:
            warnings.append("Nothing states the micrometres per pixel; enter them.")
        thumbnail, scale = _thumbnail(slide)
        preview = ImportPreview(
            found.kind,
            found.name,
            patient or found.patient or "",
            slide.path,
            slide.shape_px,
            thumbnail,
            scale,
            mpp_sources=slide.mpp_sources,
            mpp_um=slide.mpp_um,
            spot_diameter_um=_spot_diameter_um(slide, reading),
            warnings=list(dict.fromkeys(warnings)),
        )
        if reading is not None:
            table = reading.table
            inside_image(table.centres_px, slide.shape_px, inputs.source.name, preview.warnings)
            preview.n_spots, preview.n_genes = len(table.barcodes), len(set(table.genes))
            preview.centres_px = table.centres_px
            preview.labels = sorted({label for label in table.labels or () if label})
        return preview


def recognise(inputs: Inputs) -> Source:
    """Say what the source is.

    Raises
    ------
    SpotScopeError
        When it is nothing that can be imported.
    """
    path = inputs.source
    if not path.exists():
        raise SpotScopeError(f"There is no file or folder '{path}'; check the path.")
    for reader in _READERS:
        if (found := reader.recognise(inputs)) is not None:
            return found
    endings = tuple(ending for family in readable_formats().values() for ending in family)
    if path.name.lower().endswith(endings) or (path.is_dir() and any(path.glob("*.dcm"))):
        if inputs.spots or inputs.labels:
            raise SpotScopeError(
                f"'{path.name}' is a slide alone; to import spots with it, name their counts as"
                " the source and the slide with --image."
            )
        return Source("slide", slide_name(path), path, None)
    raise SpotScopeError(
        f"'{path.name}' is not a source that SpotScope knows; give a Space Ranger folder, a table"
        " of counts, an h5ad file, a SpatialData store or a slide."
    )


def _inputs(
    source: str | PathLike[str],
    image: str | PathLike[str] | None,
    spots: str | PathLike[str] | None,
    labels: str | PathLike[str] | None,
    full_width_px: float | None,
) -> Inputs:
    def named(path: str | PathLike[str] | None) -> Path | None:
        if path is None:
            return None
        if not Path(path).exists():
            raise SpotScopeError(f"There is no file '{path}'; check the path.")
        return Path(path)

    # The user may stand in the folder: "." has no name.
    place = Path(source).absolute()
    return Inputs(place, named(image), named(spots), named(labels), full_width_px)


def _open_image(found: Source, *, pyramid: bool, progress: Progress) -> Slide:
    if found.image is None:
        raise SpotScopeError(
            f"No picture was found for '{found.name}'; give the slide with --image."
        )
    return open_slide(found.image, pyramid=pyramid, progress=progress.part(0.0, 0.1))


def _read(found: Source, slide: Slide, mpp_um: float | None) -> tuple[Slide, Reading | None]:
    reading = None if found.read is None else found.read(slide)
    stated = () if reading is None else tuple(reading.mpp)
    return slide.stated_by(*stated, user=mpp_um), reading


def _notes(
    found: Source, reading: Reading | None, patient: str | None, name: str | None = None
) -> list[str]:
    notes = found.notes if reading is None else [*found.notes, *reading.notes]
    if patient:
        return [note for note in notes if not note.startswith("The patient was taken")]
    if found.patient is None:
        name = name or found.name
        return [*notes, f"No patient was named, so the section's name '{name}' stands in."]
    return notes


def _spot_diameter_um(slide: Slide, reading: Reading | None) -> float | None:
    if reading is None:
        return None
    if reading.spot_diameter_um is None and reading.spot_diameter_px and slide.mpp_um:
        return reading.spot_diameter_px * slide.mpp_um
    return reading.spot_diameter_um


def _thumbnail(slide: Slide) -> tuple[NDArray[np.uint8], float]:
    """Return a small picture and its pixels per pixel of the slide."""
    from PIL import Image

    picture = None
    if slide.path.suffix.lower() in flat.EXTENSIONS:
        picture = _flat_thumbnail(slide.path)
    if picture is None:
        sides = [max(level.shape[:2]) for level in slide.levels]
        level = max(k for k, side in enumerate(sides) if side >= min(_PREVIEW_PX, sides[0]))
        picture = Image.fromarray(np.asarray(slide.levels[level][:]))
        picture.thumbnail((_PREVIEW_PX, _PREVIEW_PX))
    return np.asarray(picture), picture.height / slide.shape_px[0]


def _flat_thumbnail(path: Path) -> Image.Image | None:
    """Return a flat picture made small, without its pixels ever lying in memory as RGB.

    JPEG is decoded small at once, eight times as fast. None for pictures of 16 bits, whose range
    must be known first.
    """
    from PIL import Image

    try:
        with flat._unhindered(), Image.open(path) as whole:
            if whole.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"):
                return None
            whole.draft("RGB", (_PREVIEW_PX, _PREVIEW_PX))
            whole.thumbnail((_PREVIEW_PX, _PREVIEW_PX))
            picture = whole.convert("RGBA")
    except (OSError, SyntaxError, ValueError):
        return None  # the slide's own reader says what is wrong
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
