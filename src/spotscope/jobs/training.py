"""Train a model and keep it as a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spotscope.errors import SpotScopeError
from spotscope.jobs.opening import as_cohort
from spotscope.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotscope.data.section import Section
    from spotscope.methods.base import MethodSettings


def train_model(
    method: str,
    sections: Sequence[Section | str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    encoder: str = "auto",
    settings: MethodSettings | dict[str, Any] | None = None,
    validation: Sequence[Section | str | os.PathLike[str]] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train a method on sections and write the model.

    Features that were encoded before are taken from the cache, so that a run that was stopped
    goes on where it was.

    Parameters
    ----------
    method
        Its name.
    sections
        With spots; open, or paths.
    out
        Folder of the model to make.
    encoder
        Of the image, see `get_encoder`.
    settings
        What differs from the method's defaults.
    validation
        Sections to tune on; None lets the method set some of its training spots apart.
    progress
        Reports and cancels.

    Returns
    -------
    The model's folder.

    Raises
    ------
    SpotScopeError
        When a name, a setting or a section is wrong, or `out` exists or cannot be written.
    """
    from spotscope.methods.base import get_method

    progress, out = progress or Progress(), Path(out)
    model = get_method(method)(settings, encoder)
    check_new(out)
    cohort = as_cohort(sections)
    held_out = as_cohort(validation) if validation else None
    progress.report(0.0, f"Training {method} on {len(cohort.sections)} sections")
    model.fit(cohort, held_out, progress.part(0.0, 0.97))
    model.save(out)
    progress.report(1.0, "Trained")
    return out


def check_new(out: Path, what: str = "model") -> None:
    """Refuse a folder to make that exists already or cannot be made; `what` goes into it.

    Raises
    ------
    SpotScopeError
        Saying which.
    """
    if out.exists():
        raise SpotScopeError(f"'{out}' exists already; choose another name for the {what}.")
    check_writable(out.parent)


def check_writable(folder: Path) -> None:
    """Refuse now what would fail after the work is done.

    Raises
    ------
    SpotScopeError
        When nothing can be written in the folder, or in the one that it would be made in.
    """
    existing = Path(folder).absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise SpotScopeError(f"'{existing}' is a file, not a folder; choose another place.")
    if not os.access(existing, os.W_OK):
        raise SpotScopeError(
            f"The folder '{existing}' cannot be written; choose another place or ask for the right"
            " to write there."
        )
