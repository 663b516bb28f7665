"""A napari window with sections in it, for the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari import Viewer

    from spotscope.plugin.workspace import View


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
