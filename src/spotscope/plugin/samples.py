"""The sample study, made on this computer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from napari.types import LayerDataTuple

    from spotscope.progress import Progress


def open_sample() -> list[LayerDataTuple]:
    """Return the layers of the sample study's first section, for napari's File menu.

    napari wants the layers at once. Where there is a window, the study is made in the background
    and the window goes on answering, with progress and Cancel in the dock Open.

    Raises
    ------
    SpotScopeError
        When the making was stopped or failed.
    """
    from napari import current_viewer

    from spotscope.errors import SpotScopeError
    from spotscope.plugin.reader import get_reader

    viewer = current_viewer()
    if viewer is not None and not _stores():
        _make_beside(viewer)
        if not _stores():
            raise SpotScopeError("The sample study was not made; the dock Open says why.")
    path = str(sample_sections()[0])
    reader = get_reader(path)
    assert reader is not None
    return reader(path)


def _make_beside(viewer: Any) -> None:
    """Make the study in the background, and come back when it is done."""
    from qtpy.QtCore import QEventLoop

    from spotscope.plugin.docks import open_dock
    from spotscope.plugin.open_dock import OpenDock

    dock = open_dock(viewer, "Open")
    assert isinstance(dock, OpenDock)
    loop = QEventLoop()
    job = dock.start.make_sample()
    job.ended.connect(loop.quit)
    job.destroyed.connect(loop.quit)  # the window was closed
    loop.exec()


def sample_sections(progress: Progress | None = None) -> list[Path]:
    """Return the stores of the sample study's sections, made at the first call."""
    from spotscope.jobs.study import make_study
    from spotscope.progress import Progress

    return _stores() or list(make_study(_folder(), seed=0, progress=progress or Progress()))


def _stores() -> list[Path]:
    return sorted(_folder().glob("*.zarr"))


def _folder() -> Path:
    from spotscope.plugin.recent import data_folder

    return data_folder() / "sample-study"
