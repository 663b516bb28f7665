"""What a journal tells, laid on what its section's store holds now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.annotate.edits import Edit, relabels
from spotscope.annotate.history import History, renumbered
from spotscope.annotate.state import IMPORTED, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass
class Reopened:
    """Annotations as the journal leaves them.

    Attributes
    ----------
    base, base_saved
        What there was before the first edit, and the key of the save that it came from.
    state, history
        After the last edit.
    begin_again
        Whether the journal numbers other spots than the section has now.
    known
        Whether the journal knows the save that the store holds.
    taken
        The edit that takes what the store holds and the journal does not know; None without any.
    notes
        Sentences for the user.
    """

    base: State
    base_saved: str | None
    state: State
    history: History
    begin_again: bool = False
    known: bool = True
    taken: Edit | None = None
    notes: list[str] = field(default_factory=list)


def reopen(
    header: dict[str, Any],
    entries: list[dict[str, Any]],
    stored: State,
    saved: str | None,
    barcodes: Sequence[str],
    annotator: str,
) -> Reopened:
    """Do again what a journal tells, on what there was before its first edit.

    Parameters
    ----------
    header, entries
        The journal's first line and the others.
    stored, saved
        What the store holds, and the key of the save that put it there.
    barcodes
        The section's spots now.
    annotator
        Who opens.
    """
    table = _renumbering(header["barcodes"], barcodes)
    base = State.from_json(header["base"], len(barcodes), table)
    found = Reopened(base, header.get("saved"), base.copy(), History())
    if table is not None:
        entries = renumbered(entries, table)
        found.begin_again = True
        gone = int((table < 0).sum())
        if gone:
            found.notes.append(
                f"{gone} spots that were annotated or open to annotation earlier are no longer in"
                " this section; their labels stay in the old journal beside the new one."
            )
    found.known = found.history.replay(entries, found.state, saved) or saved == found.base_saved
    if not found.known:
        found.taken = found.state.to(stored, "Take what was saved elsewhere", annotator)
        found.notes.append(
            "This store was saved by another window or on another computer since its journal was"
            " written; what it holds is shown, and undo brings back what was here."
        )
    elif saved is None:
        # An import made the store anew: what an earlier one held is in the journal alone.
        found.history.saved.lost += found.base_saved is not None
        found.taken = _new_import(found, stored, annotator)
    if found.taken is not None and found.taken.empty:
        found.taken = None
    return found


def _new_import(found: Reopened, stored: State, annotator: str) -> Edit:
    """Return the edit that takes the labels of a section imported anew since the journal began."""
    before, after = (state.labels_of(IMPORTED) for state in (found.base, stored))
    spots = np.flatnonzero(before != after)
    becoming = after[spots].tolist()
    now = found.state.labels_of(IMPORTED)[spots].tolist()
    classes = found.state.vocabulary
    grown = classes.with_names(name for name in dict.fromkeys(becoming) if name)
    return Edit(
        "Take the labels of the new import",
        annotator,
        relabels=relabels(IMPORTED, spots, now, becoming),
        classes=(classes, grown) if grown != classes else None,
    )


def _renumbering(journalled: Sequence[str], barcodes: Sequence[str]) -> NDArray[np.int64] | None:
    """Return the section's number of each spot of the journal (-1: gone), if they differ."""
    if journalled == barcodes:
        return None
    position = {barcode: number for number, barcode in enumerate(barcodes)}
    return np.array([position.get(b, -1) for b in journalled], dtype=np.int64)
