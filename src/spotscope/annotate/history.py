"""The steps of a section's annotations: what undo and redo go through, and what is saved."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from spotscope.annotate.edits import Edit

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from spotscope.annotate.state import State


@dataclass
class Mark:
    """Where among the edits the store was saved.

    Attributes
    ----------
    depth
        Edits that were done then.
    lost
        Steps of these that the store has and no undo or redo leads to any more, because something
        else was done after undoing past the save.
    """

    depth: int = 0
    lost: int = 0


@dataclass
class History:
    """Edits done and undone, newest last."""

    done: list[Edit] = field(default_factory=list)
    undone: list[Edit] = field(default_factory=list)
    saved: Mark = field(default_factory=Mark)
    pending: dict[str, Mark] = field(default_factory=dict)

    def push(self, edit: Edit) -> None:
        """Add an edit; what was undone before is gone."""
        for mark in (self.saved, *self.pending.values()):
            if mark.depth > len(self.done):
                mark.lost += self._steps_from(mark.depth)
                mark.depth = len(self.done)
        self.done.append(edit)
        self.undone.clear()

    def step(self, direction: str, state: State) -> bool:
        """Undo or redo the edits of one group; return whether there were any."""
        source, target = self.done, self.undone
        if direction == "redo":
            source, target = target, source
        if not source:
            return False
        group = source[-1].group
        while source and source[-1].group == group:
            edit = source.pop()
            state.apply(edit.inverse() if direction == "undo" else edit)
            target.append(edit)
        return True

    def begin_saving(self, key: str) -> None:
        """Remember that what is done now is being saved under this key."""
        self.pending[key] = Mark(len(self.done))

    def end_saving(self, key: str) -> None:
        """Remember that the save is in the store."""
        self.saved = self.pending.pop(key)
        self.pending.clear()

    @property
    def unsaved(self) -> int:
        """Steps between the last save and now, undone ones counted too."""
        return self.saved.lost + self._steps_from(self.saved.depth)

    def replay(self, entries: Sequence[dict[str, Any]], state: State, saved: str | None) -> bool:
        """Do again what a journal tells; return whether it knows the save that the store holds.

        Parameters
        ----------
        saved
            Key of that save; None when the store was never saved to.
        """
        found = saved is None
        for entry in entries:
            if "edit" in entry:
                edit = Edit.from_json(entry["edit"])
                state.apply(edit)
                self.push(edit)
            elif "save" in entry:
                if entry["save"] == saved:
                    self.saved = Mark(entry.get("depth", len(self.done)), entry.get("lost", 0))
                    found = True
            else:
                self.step(next(iter(entry)), state)
        return found

    def entries(self, saved: str | None) -> list[dict[str, Any]]:
        """Return journal lines that lead to the present, redo included."""
        edits = [*self.done, *reversed(self.undone)]
        lines: list[dict[str, Any]] = [{"edit": edit.to_json()} for edit in edits]
        lines += [{"undo": True} for _ in groupby(self.undone, lambda edit: edit.group)]
        if saved is not None:
            lines.append({"save": saved, "depth": self.saved.depth, "lost": self.saved.lost})
        return lines

    def _steps_from(self, depth: int) -> int:
        """Return how many steps lie between an earlier or undone point and now."""
        if depth <= len(self.done):
            between = self.done[depth:]
        else:
            between = self.undone[len(self.done) - depth :]
        return sum(1 for _ in groupby(between, lambda edit: edit.group))


def renumbered(entries: list[dict[str, Any]], table: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Return journal lines whose spots are numbered as the section numbers them now.

    Parameters
    ----------
    table
        The new number of each spot, -1 for one that is gone.
    """
    lines = []
    for entry in entries:
        if "edit" in entry:
            edit = Edit.from_json(entry["edit"])
            kept = []
            for change in edit.relabels:
                spots = table[change.spots]
                kept.append(replace(change, spots=spots[spots >= 0]))
            entry = {"edit": replace(edit, relabels=tuple(kept)).to_json()}
        lines.append(entry)
    return lines
