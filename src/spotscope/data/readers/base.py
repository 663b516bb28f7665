"""What every reader finds, and what several of them need."""

from __future__ import annotations

import gzip
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from spotscope.data.section import some
from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from spotscope.data.spots import SpotTable
    from spotscope.slide.mpp import MppSource
    from spotscope.slide.slide import Slide

_SCANNED = (".tif", ".tiff", ".btf", ".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".svslide")
IMAGE_SUFFIXES = (*_SCANNED, ".jpg", ".jpeg", ".png", ".zarr")
_NO_LABEL = ("", "undetermined", "nan", "na")


@dataclass
class Reading:
    """Spots as they lie on the opened image.

    Attributes
    ----------
    table
        The spots, unchecked.
    mpp
        What the source states about the image's scale, in order of trust.
    spot_diameter_um
        True diameter; None when only `spot_diameter_px` is known.
    spot_diameter_px
        Diameter in pixels of the image.
    notes
        Sentences for the user.
    """

    table: SpotTable
    mpp: list[MppSource] = field(default_factory=list)
    spot_diameter_um: float | None = None
    spot_diameter_px: float | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Source:
    """What was recognised, before anything large is read.

    Attributes
    ----------
    kind
        In the user's words.
    name
        Proposed for the section.
    image
        The picture; None when none was found.
    read
        Reads the spots for the opened image; None for a slide alone.
    patient
        When the source states one.
    notes
        Sentences for the user.
    """

    kind: str
    name: str
    image: Path | None
    read: Callable[[Slide], Reading] | None
    patient: str | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Inputs:
    """What the user named.

    Attributes
    ----------
    source
        The folder or file.
    image, spots, labels
        Files named beside it; None leaves them to be found.
    full_width_px
        Width of the image that positions were measured on, when the one at hand is smaller.
    """

    source: Path
    image: Path | None = None
    spots: Path | None = None
    labels: Path | None = None
    full_width_px: float | None = None


def open_text(path: Path) -> IO[str]:
    """Open text that may be gzipped, whatever its name says."""
    return io.TextIOWrapper(open_binary(path), encoding="utf-8-sig", newline="")


def open_binary(path: Path) -> IO[bytes]:
    """Open bytes that may be gzipped, whatever the name says."""
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if gzipped else path.open("rb")  # type: ignore[return-value]


def separator_of(line: str) -> str:
    """Return the tab, comma or semicolon that a line is parted by."""
    return max("\t,;", key=line.count)


def read_table(path: Path, header: int | None = 0) -> pd.DataFrame:
    """Read a small table of text, tab, comma or semicolon between cells, perhaps gzipped.

    Raises
    ------
    SpotScopeError
        When it is no table.
    """
    import pandas as pd

    try:
        with open_text(path) as file:
            first = file.readline()
        with open_text(path) as file:
            table = pd.read_csv(file, sep=separator_of(first), header=header)
    except FileNotFoundError as error:
        raise SpotScopeError(f"There is no file '{path}'; check the path.") from error
    except (OSError, EOFError, UnicodeDecodeError, ValueError) as error:
        raise SpotScopeError(
            f"'{path.name}' cannot be read as a table; give text with tabs or commas."
        ) from error
    return table


def plain_name(path: Path) -> str:
    """Return a file's name without its suffixes and without words that only say what it holds."""
    name = path.name
    while (suffix := Path(name).suffix.lower()) and (
        suffix in {".gz", ".tsv", ".csv", ".txt", ".h5ad", ".ome", *IMAGE_SUFFIXES}
    ):
        name = name[: -len(suffix)]
    return re.sub(r"[._-](counts?|stdata|matrix)$", "", name, flags=re.IGNORECASE) or path.name


def bare(barcodes: Iterable[object]) -> list[str]:
    """Return barcodes without the `-1` that Space Ranger appends to some."""
    return [re.sub(r"-\d+$", "", str(barcode)) for barcode in barcodes]


def match_names(
    wanted: Sequence[str], known: Sequence[str], wanted_in: str, known_in: str
) -> NDArray[np.intp]:
    """Return for each wanted spot its place among the known ones, -1 where there is none.

    Raises
    ------
    SpotScopeError
        When none is known.
    """
    import pandas as pd

    for change in (list, bare):
        index = pd.Index(change(known))
        if not index.is_unique:
            continue
        places = index.get_indexer(pd.Index(change(wanted)))
        if (places >= 0).any():
            return places
    raise SpotScopeError(
        f"None of the {len(wanted)} spots of '{wanted_in}' ({some(wanted, 2)}) is in '{known_in}'"
        f" ({some(known, 2)}); check that both are of the same section."
    )


def read_labels(path: Path, barcodes: Sequence[str], notes: list[str]) -> list[str | None]:
    """Return (n,) label of each spot, None where there is none.

    The table either names the spots in its first column and their labels in a column `label` or
    the second one, or, as the first-generation tables do, gives array positions `x`, `y` and a
    `label`: those are rounded and joined as `XxY`, since they were measured a little off the grid.

    Raises
    ------
    SpotScopeError
        When no label belongs to a spot.
    """
    table = read_table(path)
    named = {str(column).lower(): column for column in table.columns}
    if len(table.columns) < 2:
        raise SpotScopeError(
            f"'{path.name}' has one column; labels need the spot and its label on each line."
        )
    labels = table[named.get("label", table.columns[1])]
    if {"x", "y", "label"} <= named.keys():
        array = table[[named["x"], named["y"]]].astype(float)
        placed = array.notna().all(axis=1)
        table, labels, array = table[placed], labels[placed], array[placed].round().astype(int)
        keys = [f"{x}x{y}" for x, y in array.to_numpy()]
    else:
        keys = [str(key) for key in table[table.columns[0]]]
    first = {key: row for row, key in reversed(list(enumerate(keys)))}
    places = match_names(list(barcodes), list(first), "the counts", path.name)
    rows = list(first.values())
    values = labels.where(labels.notna(), None).tolist()
    found = [label_of(values[rows[place]]) if place >= 0 else None for place in places]
    without = found.count(None)
    if without:
        notes.append(f"{without} of {len(found)} spots have no label in '{path.name}'.")
    return found


def label_of(value: object) -> str | None:
    """Return what a cell of a table of labels says; None where it says that there is no label."""
    stated = "" if value is None else str(value).strip()
    return stated if stated.lower() not in _NO_LABEL else None


def find_image(folders: Iterable[Path], patterns: Iterable[str]) -> Path | None:
    """Return the first picture that fits a pattern, in the order of folders and patterns."""
    patterns = list(patterns)
    for folder in folders:
        for pattern in patterns:
            for path in sorted(folder.glob(pattern)):
                if path.suffix.lower() in IMAGE_SUFFIXES:
                    return path
    return None
