"""Make the simulated study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spotscope.errors import SpotScopeError
from spotscope.files import written_beside
from spotscope.progress import Progress

if TYPE_CHECKING:
    import os

    from spotscope.data.simulate import StudySettings


def make_study(
    folder: str | os.PathLike[str],
    seed: int = 0,
    *,
    n_patients: int = 4,
    sections_per_patient: int = 2,
    settings: StudySettings | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Make the simulated study in a new folder: all of it or, when stopped, nothing.

    Returns
    -------
    The section stores; beside each lies its noiseless truth.

    Raises
    ------
    SpotScopeError
        When the folder holds something already, or cannot be written.
    """
    from spotscope.data.simulate import write_study

    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpotScopeError(
            f"'{folder}' exists already and is not empty; choose another name for the study."
        )
    with written_beside(folder) as beside:
        beside.mkdir()
        made = write_study(
            beside, seed, n_patients, sections_per_patient, settings, progress or Progress()
        )
    return [folder / store.name for store in made]
