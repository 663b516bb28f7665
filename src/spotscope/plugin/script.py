"""What a script does in a viewer; the docks do it by the same functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotscope.plugin.drawing import workspace_of
from spotscope.plugin.reader import load

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel

    from spotscope.data.section import Section
    from spotscope.plugin.opened import OpenSection
    from spotscope.plugin.workspace import View


def open_section(viewer: ViewerModel, path: str | Path) -> Section:
    """Open a section store or a slide in a viewer and show it.

    Parameters
    ----------
    viewer
        The viewer; a model without a window does as well.
    path
        A store that SpotScope wrote, or a slide in any format that it reads.

    Returns
    -------
    The section.

    Raises
    ------
    SpotScopeError
        When there is no such section or slide.
    """
    return show_section(viewer, load(path)).section


def show_section(viewer: ViewerModel, opened: OpenSection) -> OpenSection:
    """Show a section that was loaded before, perhaps in another thread."""
    from spotscope.plugin.recent import remember

    remember(opened.path)  # first, so that who hears of the section finds it among the recent
    return workspace_of(viewer).add(opened)


def show_gene(viewer: ViewerModel, gene: str, view: View | None = None) -> None:
    """Draw a gene of the active section.

    Parameters
    ----------
    viewer
        The viewer.
    gene
        Its symbol, or a name that the clinic uses, such as HER2.
    view
        `"measured"`, `"predicted"` or `"error"`; None keeps what is shown.

    Raises
    ------
    SpotScopeError
        When no section is open, it lacks the gene, or there is nothing of that kind to show.
    """
    workspace_of(viewer).show_gene(gene, view)


def show_run(viewer: ViewerModel, run_id: str | None = None) -> None:
    """Choose whose prediction is drawn; None takes the newest.

    Raises
    ------
    SpotScopeError
        When no section is open or it has no such run.
    """
    workspace_of(viewer).refresh_runs(show=run_id)
