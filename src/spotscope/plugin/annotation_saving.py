"""Saving annotations into stores while their user goes on drawing; no Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psygnal import Signal

from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from spotscope.annotate.saving import Saving
    from spotscope.plugin.annotating import Annotating
    from spotscope.plugin.opened import OpenSection
    from spotscope.plugin.workspace import Workspace


@dataclass(frozen=True)
class Save:
    """A save that is under way.

    Attributes
    ----------
    opened
        Whose annotations.
    saving
        What any thread may write.
    """

    opened: OpenSection
    saving: Saving

    def write(self) -> None:
        """Write into the store; in any thread."""
        self.saving.write()


class Saves:
    """The saves of a workspace, one at a time for each section.

    Parameters
    ----------
    annotating
        Whose annotations.
    workspace
        Whose sections.
    """

    changed = Signal()
    """A save has begun or ended; nothing has to be drawn anew for it."""

    def __init__(self, annotating: Annotating, workspace: Workspace) -> None:
        self._annotating = annotating
        self._workspace = workspace
        self._under_way: set[str] = set()

    def busy(self, opened: OpenSection | None) -> bool:
        """Whether a section's annotations are being saved."""
        return opened is not None and opened.key in self._under_way

    def begin(self) -> Save:
        """Take what the active section has now, to be written.

        Raises
        ------
        SpotScopeError
            When the section has no store, or is being saved already.
        """
        from spotscope.annotate.saving import Saving

        document, opened = self._annotating.writable(), self._workspace.section
        assert opened is not None
        if self.busy(opened):
            raise SpotScopeError("These annotations are being saved; wait until that is done.")
        save = Save(opened, Saving(opened.section, document))
        self._under_way.add(opened.key)
        self.changed.emit()
        return save

    def end(self, save: Save, *, written: bool) -> None:
        """Take note that a save was written, or was not."""
        self._under_way.discard(save.opened.key)
        if written:
            save.saving.finish()
        self.changed.emit()
