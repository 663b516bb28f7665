"""Open the annotations of a section: what its store holds, and the journal beside it."""

from __future__ import annotations

import errno
import getpass
import re
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

from spotscope.annotate.document import AnnotationDocument
from spotscope.annotate.journal import old_name
from spotscope.annotate.regions import Region
from spotscope.annotate.state import IMPORTED
from spotscope.annotate.vocabulary import Vocabulary
from spotscope.errors import SpotScopeError
from spotscope.files import said_plainly, written_beside

if TYPE_CHECKING:
    from pathlib import Path

    from spotscope.data.section import Section

ATTRIBUTE = "spotscope_annotations"
"""Attribute of the store's root: save key, classes, annotators and their columns."""
ELEMENT = "annotations"
"""Shapes element that holds the drawn regions."""
OBS = "tables/table/obs"
FORMAT = 1
SUFFIX = ".annotations.jsonl"

_REFUSED = (errno.EACCES, errno.EROFS, errno.EPERM)


def open_annotations(section: Section, annotator: str | None = None) -> AnnotationDocument:
    """Open what was annotated on a section, journalled from here on.

    The journal lies beside the store or the slide, as ``C2.annotations.jsonl`` beside
    ``C2.zarr``; where that folder cannot be written it lies in the user's data folder, which
    `notes` of the document says.

    Parameters
    ----------
    annotator
        Whose hand edits; None is who is logged in.

    Raises
    ------
    SpotScopeError
        When the journal is damaged, or it or the store is of a newer SpotScope.
    """
    about = stored_about(section)
    place, note = _journal(section)
    diameter_um, mpp_um = section.spot_diameter_um, section.mpp_um
    document = AnnotationDocument(
        section.barcodes.tolist(),
        section.centres_px,
        place,
        annotator or _who(),
        labels=_labels(section),
        vocabulary=Vocabulary(**about["classes"]) if about else None,
        regions=_regions(section) if about else (),
        diameter_px=diameter_um / mpp_um if diameter_um and mpp_um else 0.0,
        saved=about["save"] if about else None,
    )
    document.notes += note
    if document.read_only:
        document.notes.append(
            "Another window is annotating this section: what it has marked so far is shown here,"
            " and nothing can be marked until it is closed."
        )
    return document


def carry_annotations(slide: Section, section: Section) -> None:
    """Go on with the journal of a slide alone in the section that was made of it.

    Nobody may have the slide's annotations open. Its journal stays beside the slide as ``.old``.

    Raises
    ------
    SpotScopeError
        When the section was annotated too, or the journal cannot be copied.
    """
    old, new = _journal(slide)[0], _journal(section)[0]
    if not old.exists() or old == new:
        return
    if new.exists():
        raise SpotScopeError(
            f"Both the slide '{slide.name}' and '{new.name}' hold annotations; export those of the"
            " slide as GeoJSON and import them into the section."
        )
    with written_beside(new) as beside:
        shutil.copyfile(old, beside)
    with said_plainly(old):
        old.replace(old_name(old))


def stored_about(section: Section) -> dict[str, Any] | None:
    """Return what the store's root says of the annotations saved there, None without any."""
    from spotscope.data.store import root_attributes

    about = root_attributes(section.store).get(ATTRIBUTE) if section.store is not None else None
    if about is not None and about["format"] > FORMAT:
        raise SpotScopeError(
            f"The annotations of section '{section.name}' were saved by a newer SpotScope; update"
            " SpotScope to open them."
        )
    return about


def _labels(section: Section) -> dict[str, list[str | None]]:
    """Return the labels that the store holds, by annotator.

    Which column is whose stands beside the columns, so that it is right after a kill between the
    parts of a save too.
    """
    if section.spots is None:
        return {}
    obs = section.spots.obs
    columns = _columns(section)
    if columns is None:
        given = section.labels
        return {} if given is None else {IMPORTED: _plain(given)}
    return {who: _plain(obs[column]) for who, column in columns.items() if column in obs}


def _columns(section: Section) -> dict[str, str] | None:
    from spotscope.data.run_elements import attributes_of

    if section.store is None:
        return None
    about = attributes_of(section.store / OBS).get(ATTRIBUTE)
    return about["annotators"] if about else None


def _plain(column: Any) -> list[str | None]:
    import pandas as pd

    values = pd.Series(column).astype(object)
    return [None if pd.isna(value) else str(value) for value in values]


def _regions(section: Section) -> list[Region]:
    """Return the regions that the store holds, in this project's pixels."""
    import json

    import geopandas
    import shapely

    assert section.store is not None
    file = section.store / "shapes" / ELEMENT / "shapes.parquet"
    if not file.exists():
        return []
    table = geopandas.read_parquet(file)
    return [
        Region(
            shapely.transform(row.geometry, lambda xy: xy - 0.5),
            row.subtype or None,
            str(row.Index),
            json.loads(row.extra),
            row.annotator or None,
        )
        for row in table.itertuples()
    ]


def _journal(section: Section) -> tuple[Path, list[str]]:
    """Return where the journal lies, and a sentence when that is not beside the section."""
    beside = _beside(section)
    if beside.exists() or _writable(beside.parent):
        away = None if beside.exists() else _away(section)
        if away is None or not away.exists():
            return beside, []
    away = _away(section)
    away.parent.mkdir(parents=True, exist_ok=True)
    return away, [
        f"'{beside.parent}' cannot be written or could not be earlier, so your annotations are"
        f" kept in '{away}'."
    ]


def _beside(section: Section) -> Path:
    if section.store is not None:
        return section.store.with_name(section.store.stem + SUFFIX)
    # A bare slide keeps its ending: a.svs and a.ndpi are two slides.
    return section.slide.path.with_name(section.slide.path.name + SUFFIX)


def _away(section: Section) -> Path:
    from platformdirs import user_data_path

    name = re.sub(r"[^\w.-]+", "-", section.name)
    file = f"{name}-{section.slide.fingerprint[:12]}{SUFFIX}"
    return user_data_path("spotscope") / "annotations" / file


def _writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError as error:
        # A full disk is another matter: there is a place, and room may be made.
        return error.errno not in (*_REFUSED, errno.ENOENT)


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "annotator"
