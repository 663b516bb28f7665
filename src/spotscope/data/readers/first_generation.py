"""First-generation Spatial Transcriptomics: a table of counts whose rows are places `XxY`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from spotscope.data.readers.base import (
    Inputs,
    Reading,
    Source,
    find_image,
    match_names,
    open_text,
    plain_name,
    read_labels,
    read_table,
    separator_of,
)
from spotscope.data.readers.lattice import ST_1000, ST_2000, VISIUM, scale_of
from spotscope.data.section import some
from spotscope.data.spots import SpotTable
from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from spotscope.slide.slide import Slide

_PLACE = re.compile(r"^\d+(\.\d+)?x\d+(\.\d+)?$")
_TABLES = (".tsv", ".csv", ".txt", ".tsv.gz", ".csv.gz", ".txt.gz")


def recognise(inputs: Inputs) -> Source | None:
    """Return the source when the file is a table of counts."""
    if not inputs.source.is_file() or not inputs.source.name.lower().endswith(_TABLES):
        return None
    path, name = inputs.source, plain_name(inputs.source)
    image = inputs.image or find_image(
        _beside(path, "images", "image", "he"), [f"{name}.*", f"{name}[-_]*"]
    )
    notes: list[str] = []

    def read(slide: Slide) -> Reading:
        return _read(inputs, name, slide)

    # In collections of several patients, sections are named by a letter for the patient and a
    # number for the section.
    letters = re.fullmatch(r"([A-Za-z]{1,3})[-_]?\d{1,3}", name)
    patient = letters[1] if letters else None
    if patient:
        notes.append(f"The patient was taken to be '{patient}', from the name '{name}'.")
    return Source("counts table (first-generation ST)", name, image, read, patient, notes)


def _beside(path: Path, *folders: str) -> list[Path]:
    """Return the file's folder, then the folders beside it with one of the names."""
    siblings = [path.parent.parent / folder for folder in folders]
    return [path.parent, *(folder for folder in siblings if folder.is_dir())]


def _find_table(folders: Iterable[Path], stems: Iterable[str], not_this: Path) -> Path | None:
    stems = list(stems)
    for folder in folders:
        for stem in stems:
            for suffix in _TABLES:
                path = folder / f"{stem}{suffix}"
                if path.is_file() and path != not_this:
                    return path
    return None


def _read(inputs: Inputs, name: str, slide: Slide) -> Reading:
    path, notes = inputs.source, []
    spots_path = inputs.spots or _find_table(
        _beside(path, "spots", "spot", "selection", "alignment"),
        [f"{name}_selection", f"alignment_table_{name}", f"{name}_spots", f"spots_{name}", name],
        path,
    )
    if spots_path is None:
        raise SpotScopeError(
            f"The positions of the spots of '{path.name}' were not found; give the table with x,"
            " y, pixel_x and pixel_y with --spots."
        )
    array, centres, selected = read_spots(spots_path)
    barcodes, genes, counts = open_counts(path)
    known = [f"{x}x{y}" for x, y in array]
    places = match_names(barcodes, known, path.name, spots_path.name)
    if nowhere := int((places < 0).sum()):
        notes.append(f"{nowhere} spots of the counts have no position and were left out.")
    keep = np.flatnonzero((places >= 0) & selected[places])
    if off := len(places) - nowhere - len(keep):
        notes.append(f"{off} spots that are not selected as tissue were left out.")
    if not len(keep):
        raise SpotScopeError(
            f"'{spots_path.name}' selects no spot of '{path.name}'; check its column 'selected'."
        )

    centres = centres * _scale(centres[selected], slide, inputs.full_width_px, notes)
    names = [barcodes[row] for row in keep]
    labels_path = inputs.labels or _find_table(
        _beside(path, "labels"), [f"{name}_labeled_coordinates", f"{name}_labels", name], path
    )
    labels = read_labels(labels_path, names, notes) if labels_path else None
    table = SpotTable(lambda: counts()[keep], genes, names, centres[places[keep]], labels)
    reading = Reading(table, notes=notes, spot_diameter_um=ST_1000.spot_um)
    if found := scale_of(array, centres, [ST_1000, ST_2000, VISIUM]):
        reading.spot_diameter_um = found[0].spot_um
        reading.mpp.append(found[1])
    return reading


def read_spots(
    path: Path,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Read a spot-selection file or alignment table.

    Returns
    -------
    (n, 2) array indices x, y; (n, 2) positions row, col in pixels; (n,) whether selected.

    Raises
    ------
    SpotScopeError
        When a column is missing.
    """
    table = read_table(path)
    if absent := [name for name in ("x", "y", "pixel_x", "pixel_y") if name not in table]:
        raise SpotScopeError(
            f"'{path.name}' lacks {', '.join(absent)}; give a spot-selection file with x, y,"
            " pixel_x and pixel_y."
        )
    array = table[["x", "y"]].to_numpy(float).round().astype(np.int64)
    centres = table[["pixel_y", "pixel_x"]].to_numpy(np.float64)
    selected = np.ones(len(table), bool)
    if "selected" in table:
        selected = table["selected"].to_numpy() == 1
    return array, centres, selected


def _scale(
    centres_px: NDArray[np.float64], slide: Slide, full_width_px: float | None, notes: list[str]
) -> float:
    """Return pixels of the image per pixel that positions were measured in."""
    rows, cols = slide.shape_px
    if full_width_px:
        notes.append(
            f"The image is {cols} px wide and the positions were measured on one of"
            f" {full_width_px:g} px, so they were scaled."
        )
        return cols / full_width_px
    reach = np.nanmax(centres_px, axis=0)
    if (reach > 1.25 * np.array([rows, cols])).any():
        raise SpotScopeError(
            f"The spots reach {reach[1]:.0f} × {reach[0]:.0f} px but '{slide.path.name}' is"
            f" {cols} × {rows} px, so it was made smaller; give the full-size image, or say how"
            " wide that was with --full-width."
        )
    return 1.0


def open_counts(path: Path) -> tuple[list[str], list[str], Callable[[], NDArray]]:
    """Read the names in a table of counts and leave the counts for later.

    Spots may be rows or columns: the side whose names look like `10x21` is theirs.

    Returns
    -------
    Barcodes, genes, and a function that reads the (n, G) counts.

    Raises
    ------
    SpotScopeError
        When it is no table.
    """
    try:
        with open_text(path) as file:
            first = file.readline().rstrip("\r\n")
            separator = separator_of(first)
            rows = [line.split(separator, 1)[0] for line in file if line.strip()]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise SpotScopeError(
            f"'{path.name}' cannot be read; it is damaged or no table of counts."
        ) from error
    columns = first.split(separator)
    with_corner = _cells_of_second(path, separator) == len(columns)
    columns = [_clean(name) for name in (columns[1:] if with_corner else columns)]
    rows = [_clean(name) for name in rows]
    across = bool(columns) and all(_PLACE.match(name) for name in columns)
    if not rows or not columns or not (across or all(_PLACE.match(name) for name in rows)):
        raise SpotScopeError(
            f"'{path.name}' is not a table of counts: its rows should be spots named like 10x21,"
            f" but they are {some(rows, 2) or 'missing'}."
        )

    def counts() -> NDArray:
        values = _read_values(path, separator, len(columns))
        return values.T if across else values

    spots, genes = (columns, rows) if across else (rows, columns)
    return [_whole(name) for name in spots], genes, counts


def _cells_of_second(path: Path, separator: str) -> int:
    with open_text(path) as file:
        file.readline()
        return file.readline().count(separator) + 1


def _read_values(path: Path, separator: str, n_columns: int) -> NDArray:
    try:
        with open_text(path) as file:
            return np.loadtxt(
                file,
                delimiter=separator,
                skiprows=1,
                usecols=range(1, n_columns + 1),
                ndmin=2,
                comments=None,
            )
    except (OSError, EOFError, ValueError) as error:
        where = re.search(r"at row (\d+), column (\d+)", str(error))
        place = f" (row {int(where[1]) + 2}, column {where[2]})" if where else ""
        raise SpotScopeError(
            f"'{path.name}' holds something that is not a number{place} or ends too soon; give"
            " raw counts, 0 where a gene was not seen."
        ) from error


def _clean(name: str) -> str:
    return name.strip().strip('"')


def _whole(name: str) -> str:
    """Return a place by whole numbers: tables of adjusted places name it `10.02x20.97`."""
    x, y = name.split("x")
    return f"{round(float(x))}x{round(float(y))}"
