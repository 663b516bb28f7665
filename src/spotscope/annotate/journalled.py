"""What is annotated on one section as it is kept: undone, done again, journalled and saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

from spotscope.annotate.history import History
from spotscope.annotate.journal import Journal
from spotscope.annotate.reopening import reopen
from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from spotscope.annotate.edits import Edit
    from spotscope.annotate.state import State


class JournalledState:
    """A state that changes by edits alone, each of them in the journal before it is told of.

    Parameters
    ----------
    barcodes
        The section's spots.
    stored
        What the store holds.
    journal
        Where edits go as they are made; None keeps them in memory alone.
    annotator
        Whose hand edits.
    saved
        Key of the save that put `stored` into the store; None when there was none.
    """

    changed = Signal()

    def __init__(
        self,
        barcodes: Sequence[str],
        stored: State,
        journal: Path | None,
        annotator: str,
        saved: str | None,
    ) -> None:
        self.barcodes = [str(b) for b in barcodes]
        self.annotator = annotator
        self.notes: list[str] = []
        # What was there before the first edit stays as it is, for the journal's first line.
        self._base, self._base_saved = stored, saved
        self._state = stored.copy()
        self._history = History()
        self._saved = saved
        self._journal = Journal(journal, self._header) if journal is not None else None
        if self._journal is not None:
            self._open(self._journal, stored)

    @property
    def journal(self) -> Path | None:
        """Where edits go; None when they stay in memory."""
        return self._journal.path if self._journal is not None else None

    @property
    def unsaved(self) -> int:
        """Steps since the last save to the store; a step that was undone since then counts too."""
        return self._history.unsaved

    @property
    def read_only(self) -> bool:
        """Whether another window is writing these annotations."""
        return self._journal is not None and self._journal.read_only

    @property
    def trouble(self) -> str | None:
        """One sentence while edits wait for the disk, else None."""
        return self._journal.trouble if self._journal is not None else None

    # -- undo and redo

    @property
    def next_undo(self) -> str | None:
        """What undo would take back, or None."""
        return self._history.done[-1].title if self._history.done else None

    @property
    def next_redo(self) -> str | None:
        """What redo would do again, or None."""
        return self._history.undone[-1].title if self._history.undone else None

    def undo(self) -> bool:
        """Take the last step back; return whether there was one."""
        return self._travel("undo")

    def redo(self) -> bool:
        """Do the step again that was taken back last; return whether there was one."""
        return self._travel("redo")

    def flush(self) -> bool:
        """Write edits that wait for the disk; return whether all are written."""
        return self._journal.flush() if self._journal is not None else True

    def close(self) -> None:
        """Write what waits and let another window write."""
        if self._journal is not None:
            self._journal.close()

    # -- saving, for `annotate/saving.py`

    def begin_saving(self, key: str) -> State:
        """Note in the journal that what there is now is about to be saved under `key`.

        Returns
        -------
        What there is now; later edits leave it alone.
        """
        self._refuse_when_read_only()
        if self._journal is not None:
            self._journal.append({"save": key})
        self._history.begin_saving(key)
        return self._state.copy()

    def end_saving(self, key: str) -> None:
        """Take note that the save under `key` is in the store."""
        self._history.end_saving(key)
        self._saved = key

    # -- inside

    def _header(self) -> dict[str, Any]:
        return {
            "barcodes": self.barcodes,
            "base": self._base.to_json(),
            "saved": self._base_saved,
        }

    def _open(self, journal: Journal, stored: State) -> None:
        header, entries = journal.read()
        if header is None:
            return
        found = reopen(header, entries, stored, self._saved, self.barcodes, self.annotator)
        self._base, self._base_saved = found.base, found.base_saved
        self._state, self._history = found.state, found.history
        self.notes += found.notes
        if self.read_only:
            return
        if found.begin_again:
            journal.begin_again(found.history.entries(self._saved if found.known else None))
        if found.taken is not None:
            self._do(found.taken)
        if not found.known:
            self.begin_saving(str(self._saved))
            self.end_saving(str(self._saved))

    def _do(self, edit: Edit) -> None:
        self._state.apply(edit)
        self._history.push(edit)
        self._write({"edit": edit.to_json()})

    def _travel(self, direction: str) -> bool:
        if self.read_only or not self._history.step(direction, self._state):
            return False
        self._write({direction: True})
        return True

    def _refuse_when_read_only(self) -> None:
        if self.read_only:
            raise SpotScopeError(
                "Another window is annotating this section; close it there to write here."
            )

    def _write(self, entry: dict[str, Any]) -> None:
        if self._journal is not None:
            self._journal.append(entry)
        self.changed.emit()
