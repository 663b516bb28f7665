"""What is annotated on the open sections, by whom, with which class and tool; no Qt, no napari."""

from __future__ import annotations

import uuid
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from psygnal import Signal

from spotscope.errors import SpotScopeError
from spotscope.plugin.annotation_classes import Classes
from spotscope.plugin.annotation_clusters import Growing
from spotscope.plugin.annotation_kept import codes_of, has_journal, kept
from spotscope.plugin.annotation_saving import Saves

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import shapely
    from numpy.typing import NDArray

    from spotscope.annotate.document import AnnotationDocument
    from spotscope.annotate.regions import Border
    from spotscope.annotate.vocabulary import Vocabulary
    from spotscope.plugin.opened import OpenSection
    from spotscope.plugin.workspace import Workspace

Tool = Literal["lasso", "polygon", "brush", "click", "grow", "erase"]

MINE, TOGETHER = "mine", "together"
"""Whose labels are shown, beside the names of the other annotators."""

_BRUSH_PITCHES = 2.5
_NOTHING = np.empty(0, np.int64)


class Annotating:
    """The annotations of a workspace, and how the mouse edits them.

    Parameters
    ----------
    workspace
        Whose sections; its `changed` tells `annotations`, `annotator`, `annotation class`,
        `tool` and `selection`.

    Attributes
    ----------
    tool
        What the left button does on the slide; None moves the slide.
    border
        Which spots a drawn region takes: by their centre, by half of them, by any of them.
    selected
        Spots that a lasso without a class has chosen.
    complained
        A sentence that the user should read.
    """

    complained = Signal(str)

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._documents: dict[str, AnnotationDocument] = {}
        self._problems: dict[str, str] = {}
        self._vocabularies: dict[str, Vocabulary] = {}
        self._annotator: str | None = None
        self._brush_um: float | None = None
        self.tool: Tool | None = None
        self.classes = Classes(self, workspace)
        self.growing = Growing(workspace)
        self.saves = Saves(self, workspace)
        self.shown = TOGETHER
        self.border: Border = "centre"
        self.selected: NDArray[np.int64] = _NOTHING

    # -- documents --------------------------------------------------------------------------

    @property
    def document(self) -> AnnotationDocument | None:
        """The annotations of the active section, opened at the first call.

        None without a section, and where they cannot be opened: `problem` says why.
        """
        opened = self._workspace.section
        if opened is None:
            return None
        if opened.key not in self._documents and opened.key not in self._problems:
            self._open(opened)
        return self._documents.get(opened.key)

    @property
    def is_open(self) -> bool:
        """Whether the active section's annotations were opened."""
        opened = self._workspace.section
        return opened is not None and opened.key in self._documents

    def document_of(self, opened: OpenSection) -> AnnotationDocument | None:
        """Return the annotations of a section where they are open."""
        return self._documents.get(opened.key)

    def others(self) -> list[AnnotationDocument]:
        """Return the annotations of the other open sections."""
        active = self._workspace.section
        keys = [one.key for one in self._workspace.sections if one is not active]
        return [self._documents[key] for key in keys if key in self._documents]

    @property
    def problem(self) -> str | None:
        """Why the active section cannot be annotated, as a sentence."""
        opened = self._workspace.section
        return "Open a section first." if opened is None else self._problems.get(opened.key)

    def enter(self) -> None:
        """Follow to another section: what was annotated there and not saved is seen at once."""
        self.selected = _NOTHING
        opened = self._workspace.section
        wanted = opened is not None and (self.tool is not None or has_journal(opened.section))
        if wanted and self.document is None:
            self.tool = None

    def open_again(self) -> None:
        """Read the active section's annotations again, to write where another window did."""
        opened = self._workspace.section
        if opened is not None:
            self.release(opened)
            _ = self.document
            self._workspace.tell("annotations")

    def release(self, opened: OpenSection | None = None) -> None:
        """Write what waits and let other windows write, for one section or for all."""
        for key in [opened.key] if opened is not None else list(self._documents):
            document = self._documents.pop(key, None)
            if document is not None:
                document.close()
            self._problems.pop(key, None)

    def _open(self, opened: OpenSection) -> None:
        from spotscope.annotate.opening import open_annotations

        try:
            document = open_annotations(opened.section, self._annotator)
        except SpotScopeError as error:
            self._problems[opened.key] = str(error)
            return
        self._documents[opened.key] = document
        self._vocabularies[opened.key] = document.vocabulary
        self._workspace.colours.learn(document.vocabulary)
        self._show(opened)
        document.changed.connect(partial(self._on_document, opened))

    def _on_document(self, opened: OpenSection) -> None:
        document = self._documents.get(opened.key)
        if document is None:
            return
        before, now = self._vocabularies[opened.key], document.vocabulary
        if now != before:
            for one in now.classes:
                known = before.get(one.name)
                if known is not None and known.colour != one.colour:
                    self._workspace.colours.choose(one.name, one.colour)
            self.classes.learn_keys(before, now)
            self._vocabularies[opened.key] = now
        self._show(opened)
        if opened is self._workspace.section:
            self._workspace.tell("annotations")

    def refresh(self) -> None:
        """Show the active section's annotations again."""
        self._on_document(self._active())

    def _show(self, opened: OpenSection) -> None:
        """Tell the section which labels are seen on it."""
        document = self._documents[opened.key]
        names = list(document.vocabulary.names)
        labels = document.merged() if self.whose is None else document.labels(self.whose)
        opened.show_labels(names, codes_of(labels, names))

    def writable(self) -> AnnotationDocument:
        """Return the active section's annotations, and show the labels that an edit changes.

        Raises
        ------
        SpotScopeError
            When no section is open or its annotations cannot be.
        """
        document = self.document
        if document is None:
            raise SpotScopeError(self.problem or "Open a section first.")
        if self.shown not in (MINE, TOGETHER) and self.shown != document.annotator:
            self.show(MINE)  # or the edit would not be seen
        return document

    def check_writable(self) -> None:
        """Raise a `SpotScopeError` when the active section's annotations cannot be edited."""
        if self.writable().read_only:
            raise SpotScopeError(
                "Another window is annotating this section; close it there to write here."
            )

    # -- who --------------------------------------------------------------------------------

    @property
    def annotator(self) -> str:
        """Whose hand edits."""
        if self._annotator is None:
            document = self.document
            return document.annotator if document is not None else ""
        return self._annotator

    def name_annotator(self, name: str) -> None:
        """Say who edits from now on, on every section.

        Raises
        ------
        SpotScopeError
            When the name is empty.
        """
        name = name.strip()
        if not name:
            raise SpotScopeError("Write your name, so that your annotations are told apart.")
        if name == self.annotator:
            return
        self._annotator = name
        for document in self._documents.values():
            document.annotator = name
        self.show(TOGETHER if self.shown == TOGETHER else MINE)

    @property
    def whose(self) -> str | None:
        """The one whose labels are shown; None for all together."""
        if self.shown == TOGETHER:
            return None
        return self.annotator if self.shown == MINE else self.shown

    def show(self, whose: str) -> None:
        """Show the labels of MINE, of all TOGETHER, or of an annotator by name."""
        self.shown = whose
        for opened in self._workspace.sections:
            if opened.key in self._documents:
                self._show(opened)
        self._workspace.tell("annotator", "annotations")

    # -- edits ------------------------------------------------------------------------------

    def mark(
        self, spots: Iterable[int], name: str | None = None, *, group: str | None = None
    ) -> None:
        """Give spots a class, by default the chosen one.

        Raises
        ------
        SpotScopeError
            When no class is chosen or the annotations cannot be written.
        """
        document, name = self.writable(), self.classes.name_for_edit(name)
        group = group or stroke()
        self.classes.bring(name, group)
        document.assign(spots, name, group=group)

    def erase(
        self,
        spots: Iterable[int],
        area: shapely.Geometry | None = None,
        *,
        group: str | None = None,
    ) -> None:
        """Take the class off spots, and an area (x, y, level-0 pixels) out of the outlines."""
        self.writable().erase(spots, area, group=group)

    def draw(self, ring_px: NDArray[np.float64], name: str | None = None) -> None:
        """Draw a region (n, 2) row, col of a class, by default the chosen one.

        Its spots get the class.
        """
        from spotscope.annotate.regions import region_from_rings

        document, name, group = self.writable(), self.classes.name_for_edit(name), stroke()
        region = region_from_rings([ring_px], name)
        self.classes.bring(name, group)
        document.add_regions([region], title=f"Draw {name}", border=self.border, group=group)

    def erase_inside(self, ring_px: NDArray[np.float64]) -> None:
        """Erase the spots and the outlines within a ring (n, 2) row, col."""
        from spotscope.annotate.regions import region_from_rings

        area = region_from_rings([ring_px], None).geometry
        self.erase(self.spots_in(ring_px), area)

    def spots_in(self, ring_px: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the spots within a ring (n, 2) row, col."""
        from spotscope.annotate.regions import region_from_rings, spots_in_regions

        opened = self._active()
        if not opened.n_spots:
            return _NOTHING
        owner = spots_in_regions(
            [region_from_rings([ring_px], None)],
            opened.centres_px,
            diameter_px=opened.diameter_px,
            border=self.border,
        )
        return np.flatnonzero(owner == 0)

    def select(self, spots: Sequence[int] | NDArray[np.int64]) -> None:
        """Choose spots for the number key that comes next."""
        chosen = np.asarray(spots, np.int64)
        if not np.array_equal(chosen, self.selected):
            self.selected = chosen
            self._workspace.tell("selection")

    def undo(self) -> bool:
        """Take the last step on the active section back; return whether there was one."""
        document = self.document
        return document is not None and document.undo()

    def redo(self) -> bool:
        """Do the step again that was taken back last; return whether there was one."""
        document = self.document
        return document is not None and document.redo()

    # -- tools ------------------------------------------------------------------------------

    def choose_tool(self, tool: Tool | None) -> None:
        """Choose what the left button does on the slide; None moves the slide.

        The labels are shown, so that it is seen what the tool does.

        Raises
        ------
        SpotScopeError
            When there is no such tool or nothing can be annotated.
        """
        if tool is not None:
            if tool not in get_args(Tool):
                raise SpotScopeError(
                    f"There is no tool '{tool}'; choose one of {', '.join(get_args(Tool))}."
                )
            self.writable()
        if tool == self.tool:
            return
        self.tool = tool
        self._workspace.tell("tool")
        if tool is not None and not self._workspace.why_not("subtype"):
            self._workspace.show("subtype")

    @property
    def brush_um(self) -> float:
        """Width of brush and eraser; two and a half times the spots' distance until chosen."""
        opened = self._workspace.section
        if self._brush_um is not None or opened is None:
            return self._brush_um or 200.0
        if not opened.n_spots:
            return 200.0
        return float(np.round(_BRUSH_PITCHES * opened.pitch_px * opened.mpp_um, 0)) or 1.0

    def size_brush(self, width_um: float) -> None:
        """Choose the width of brush and eraser."""
        width_um = float(np.clip(width_um, 1.0, 20_000.0))
        if width_um != self.brush_um:
            self._brush_um = width_um
            self._workspace.tell("tool")

    # -- saving -----------------------------------------------------------------------------

    def save(self) -> None:
        """Write the active section's annotations into its store, and wait for it.

        Raises
        ------
        SpotScopeError
            When the section has no store or it cannot be written.
        """
        save, written = self.saves.begin(), False
        try:
            save.write()
            written = True
        finally:
            self.saves.end(save, written=written)

    def state(self) -> str:
        """Say whether every edit is kept, and where."""
        document = self.document
        if document is None:
            return self.problem or ""
        busy = self.saves.busy(self._workspace.section)
        return kept(document, self._active().section, busy=busy)

    def _active(self) -> OpenSection:
        opened = self._workspace.section
        if opened is None:
            raise SpotScopeError("Open a section first.")
        return opened


def stroke() -> str:
    """Return a name under which the pieces of one stroke are undone together."""
    return uuid.uuid4().hex
