"""What of the annotations is kept where, in words; no Qt, no napari."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from spotscope.annotate.document import AnnotationDocument
    from spotscope.data.section import Section


def kept(document: AnnotationDocument, section: Section, *, busy: bool = False) -> str:
    """Say whether every edit is kept, and where; `busy` while a save is under way."""
    if document.read_only:
        return (
            "Another window is annotating this section, so this one only shows. Close it there,"
            " then choose Try again."
        )
    if document.trouble:
        return document.trouble
    if busy:
        return "All kept on disk · saving into the section …"
    if document.unsaved:
        edits = "1 edit" if document.unsaved == 1 else f"{document.unsaved:,} edits"
        if section.store is None:
            return f"All kept on disk beside the slide · {edits}"
        return f"All kept on disk · {edits} not yet saved into the section"
    saved = saved_at(section)
    if saved is None:
        return "No edit yet; each is kept on disk at once."
    today = saved.date() == datetime.now().astimezone().date()
    when = saved.strftime("%H:%M" if today else "%Y-%m-%d %H:%M")
    return f"All edits kept · saved into the section {when}"


def saved_at(section: Section) -> datetime | None:
    """Return when annotations were saved into a section, None when never."""
    from spotscope.annotate.opening import stored_about

    about = stored_about(section)
    return None if about is None else datetime.fromisoformat(about["saved"])


def has_journal(section: Section) -> bool:
    """Whether edits lie beside a section."""
    from spotscope.annotate.opening import SUFFIX

    path = section.store or section.slide.path
    name = path.stem if section.store is not None else path.name
    return path.with_name(name + SUFFIX).exists()


def codes_of(labels: NDArray[np.object_], names: Sequence[str]) -> NDArray[np.intp]:
    """Return each label's place among the names, -1 for none."""
    import pandas as pd

    return np.asarray(pd.Categorical(labels, categories=list(names)).codes, np.intp)
