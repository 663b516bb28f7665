"""The sample study, made on this computer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from napari.types import LayerDataTuple

    from spotscope.progress import Progress


def open_sample() -> list[LayerDataTuple]:
    """Return the layers of the sample study's first section, for napari's File menu."""
    from spotscope.plugin.reader import get_reader

    path = str(sample_sections()[0])
    reader = get_reader(path)
    assert reader is not None
    return reader(path)


def sample_sections(progress: Progress | None = None) -> list[Path]:
    """Return the stores of the sample study's sections, made at the first call."""
    from spotscope.jobs.study import make_study
    from spotscope.plugin.recent import data_folder
    from spotscope.progress import Progress

    folder = data_folder() / "sample-study"
    stores = sorted(folder.glob("*.zarr"))
    return stores or list(make_study(folder, seed=0, progress=progress or Progress()))
