"""A napari window with sections in it, for the command line."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari import Viewer

    from spotscope.plugin.workspace import View


def check_display() -> None:
    """Refuse where Qt would end the whole process for want of a display.

    Raises
    ------
    SpotScopeError
        On a Linux without one.
    """
    needed = ("DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform == "linux" and not any(os.environ.get(name) for name in needed):
        raise SpotScopeError(
            "There is no display here for a window; start the command on a computer with a"
            " screen, or put 'xvfb-run -a' before it to draw without one."
        )


def open_window(
    paths: Sequence[Path],
    run_id: str | None = None,
    gene: str | None = None,
    *,
    view: View | None = None,
    docks: Sequence[str] = ("Genes",),
    size: tuple[int, int] | None = None,
) -> Viewer:
    """Open a window with sections or slides and the docks to look at them.

    Parameters
    ----------
    paths
        Sections or slides.
    run_id, gene
        Of the last section, to draw at once.
    view
        What of the gene to draw.
    docks
        To open, by name.
    size
        Width and height of the window.
    """
    import napari
    from qtpy.QtWidgets import QApplication

    from spotscope.plugin.docks import open_dock
    from spotscope.plugin.script import open_section, show_gene, show_run

    viewer = napari.Viewer(title="SpotScope")
    if size is not None:
        viewer.window.resize(*size)
    for dock in docks:
        open_dock(viewer, dock)
    QApplication.processEvents()  # so that the section fits the canvas that the docks leave
    for path in paths:
        open_section(viewer, path)
    if run_id is not None:
        show_run(viewer, run_id)
    if gene is not None:
        show_gene(viewer, gene, view)
    return viewer


def run_window() -> None:
    """Let the user work until the last window is closed."""
    import napari

    napari.run()
