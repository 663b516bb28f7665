"""A slide alone becomes a section with a store, in which labels and maps can be kept; no Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from spotscope.plugin.opened import OpenSection
    from spotscope.progress import Progress


def beside_for_people(opened: OpenSection) -> str:
    """Say which store `made_beside` makes of a slide alone, at a glance."""
    from spotscope.jobs.predicting import can_be_linked

    place = opened.section.slide.path.with_suffix(".zarr")
    name = "a section" if place.exists() else place.name
    stays = ", which stays where it is" if can_be_linked(opened.section) else ""
    return f"{name} beside the slide{stays}"


def made_beside(opened: OpenSection, progress: Progress) -> OpenSection:
    """Make the store of a slide alone beside it and open it; takes a while, in any thread."""
    from spotscope.jobs.annotating import section_beside
    from spotscope.plugin.reader import load

    store = section_beside(opened.section, progress).store
    assert store is not None
    return load(store)


def exchange(viewer: ViewerModel, opened: OpenSection, made: OpenSection) -> OpenSection:
    """Show a section in the place of the slide that it was made of, annotations and view kept.

    Returns
    -------
    The section as it is open now.

    Raises
    ------
    SpotScopeError
        When what was annotated on the slide cannot be taken along; nothing has changed then.
    """
    from spotscope.annotate.opening import carry_annotations
    from spotscope.plugin.drawing import workspace_of
    from spotscope.plugin.script import show_section

    workspace = workspace_of(viewer)
    workspace.annotating.release(opened)
    carry_annotations(opened.section, made.section)
    active, tool = workspace.section, workspace.annotating.tool
    camera = viewer.camera.center, viewer.camera.zoom
    workspace.remove(opened)
    shown = show_section(viewer, made)
    if active is not opened and active is not None:
        workspace.activate(active)
    else:
        workspace.annotating.choose_tool(tool)
    viewer.camera.center, viewer.camera.zoom = camera
    return shown
