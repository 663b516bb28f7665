"""The annotations of one section: labels on spots, regions, classes, undo, and the journal."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from spotscope.annotate.edits import Edit, Relabel, relabels
from spotscope.annotate.journal import Journal
from spotscope.annotate.regions import Border, Overlap, Region, spots_in_regions
from spotscope.annotate.vocabulary import Vocabulary
from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import shapely
    from numpy.typing import NDArray


@dataclass
class State:
    """What the edits so far amount to.

    Attributes
    ----------
    labels
        Per annotator, the class name of each spot or None: (n_spots,) object array.
    regions
        By id, in drawing order.
    """

    n_spots: int
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    labels: dict[str, NDArray[np.object_]] = field(default_factory=dict)
    regions: dict[str, Region] = field(default_factory=dict)

    def labels_of(self, annotator: str) -> NDArray[np.object_]:
        """Return the labels of an annotator; one who is new has none."""
        if annotator not in self.labels:
            self.labels[annotator] = np.full(self.n_spots, None, dtype=object)
        return self.labels[annotator]

    def apply(self, edit: Edit) -> None:
        """Carry out one edit."""
        for change in edit.relabels:
            self.labels_of(change.annotator)[change.spots] = change.after
        for region in edit.removed:
            self.regions.pop(region.id, None)
        for region in edit.added:
            self.regions[region.id] = region
        if edit.classes is not None:
            self.vocabulary = edit.classes[1]


class AnnotationDocument:
    """Annotations of one section with undo and redo without limit, journalled edit by edit.

    Parameters
    ----------
    barcodes, centres_px
        The section's spots: names, and (n, 2) positions (row, col) in level-0 pixels.
    journal
        Where edits go as they are made; None keeps them in memory alone.
    annotator
        Whose hand edits.
    labels
        Labels that the store holds already, by annotator: what was there before the journal.
    vocabulary
        Classes known before the journal.
    diameter_px
        Spot diameter, for the border rules of regions.
    """

    changed = Signal()

    def __init__(
        self,
        barcodes: Sequence[str],
        centres_px: NDArray[np.float64],
        journal: Path | None,
        annotator: str,
        *,
        labels: Mapping[str, Sequence[str | None]] | None = None,
        vocabulary: Vocabulary | None = None,
        diameter_px: float = 0.0,
    ) -> None:
        self.barcodes = [str(b) for b in barcodes]
        self.centres_px = np.asarray(centres_px, dtype=np.float64).reshape(-1, 2)
        self.annotator = annotator
        self.diameter_px = diameter_px
        self.notes: list[str] = []
        self._state = State(len(self.barcodes))
        self._done: list[Edit] = []
        self._undone: list[Edit] = []
        self._begin(labels or {}, vocabulary or Vocabulary())
        self._journal = Journal(journal, self.barcodes) if journal is not None else None
        if self._journal is not None:
            self._replay(*self._journal.read())

    # -- what it holds

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes."""
        return self._state.vocabulary

    @property
    def regions(self) -> list[Region]:
        """The drawn regions, in drawing order."""
        return list(self._state.regions.values())

    @property
    def annotators(self) -> list[str]:
        """Everyone who has labelled a spot, and the one who edits."""
        known = [a for a, own in self._state.labels.items() if any(v is not None for v in own)]
        return list(dict.fromkeys([*known, self.annotator]))

    @property
    def read_only(self) -> bool:
        """Whether another window is writing these annotations."""
        return self._journal is not None and self._journal.read_only

    @property
    def trouble(self) -> str | None:
        """One sentence while edits wait for the disk, else None."""
        return self._journal.trouble if self._journal is not None else None

    def labels(self, annotator: str | None = None) -> NDArray[np.object_]:
        """Return the class name of each spot, or None, as one annotator sees it."""
        return self._state.labels_of(annotator or self.annotator).copy()

    def merged(self) -> NDArray[np.object_]:
        """Return one label per spot: the editing annotator's own, else another's.

        Where the others differ among themselves and the editor is silent, the spot stays open.
        """
        merged = self.labels()
        others = [self._state.labels_of(a) for a in self.annotators if a != self.annotator]
        for spot in np.flatnonzero(merged == None):  # noqa: E711 - elementwise
            said = {own[spot] for own in others} - {None}
            if len(said) == 1:
                merged[spot] = said.pop()
        return merged

    def counts(self) -> dict[str, int]:
        """Return how many spots of each class the editing annotator has marked."""
        names, numbers = np.unique(
            [v for v in self._state.labels_of(self.annotator) if v is not None], return_counts=True
        )
        found = dict(zip(names.tolist(), numbers.tolist(), strict=True))
        return {name: found.get(name, 0) for name in self.vocabulary.names}

    # -- edits

    def assign(
        self, spots: Iterable[int], subtype: str | None, *, group: str | None = None
    ) -> None:
        """Give spots a class, or none; pieces of one stroke share a `group`."""
        chosen = np.unique(np.fromiter(spots, dtype=np.int64))
        title = f"Mark {len(chosen)} spots as {subtype}" if subtype else "Erase"
        changes = self._relabel(chosen, subtype)
        grown = self._grown([subtype] if subtype else [])
        self._make(title, relabels=changes, classes=grown, group=group)

    def add_regions(
        self,
        regions: Sequence[Region],
        *,
        title: str | None = None,
        border: Border = "centre",
        overlap: Overlap = "last",
        group: str | None = None,
    ) -> None:
        """Add regions and give the spots in them their classes, as one step."""
        owner = spots_in_regions(
            regions,
            self.centres_px,
            diameter_px=self.diameter_px,
            border=border,
            overlap=overlap,
        )
        inside = np.flatnonzero([o >= 0 and regions[o].subtype is not None for o in owner])
        changes = self._relabel(inside, [regions[o].subtype for o in owner[inside]])
        names = [r.subtype for r in regions if r.subtype]
        what = title or f"Draw {len(regions)} region{'s' if len(regions) != 1 else ''}"
        grown = self._grown(names)
        self._make(what, relabels=changes, added=tuple(regions), classes=grown, group=group)

    def remove_regions(self, ids: Iterable[str], *, unlabel: bool = False) -> None:
        """Remove regions; with `unlabel` the spots that still bear their class lose it."""
        gone = [self._state.regions[i] for i in ids if i in self._state.regions]
        changes: tuple[Relabel, ...] = ()
        if unlabel and gone:
            owner = spots_in_regions(gone, self.centres_px, diameter_px=self.diameter_px)
            own = self._state.labels_of(self.annotator)
            spots = [s for s in np.flatnonzero(owner >= 0) if own[s] == gone[owner[s]].subtype]
            changes = self._relabel(np.asarray(spots, dtype=np.int64), None)
        self._make("Remove regions", relabels=changes, removed=tuple(gone))

    def erase(
        self, spots: Iterable[int], area: shapely.Geometry | None, *, group: str | None = None
    ) -> None:
        """Take the class off spots, and cut an area (x, y in level-0 pixels) out of the regions.

        A region keeps its id and what an import brought along; one of which nothing is left goes.
        """
        chosen = np.unique(np.fromiter(spots, dtype=np.int64))
        changes = self._relabel(chosen, None)
        hit = [] if area is None else [r for r in self.regions if r.geometry.intersects(area)]
        left = [(r, r.geometry.difference(area)) for r in hit]
        added = [Region(g, r.subtype, r.id, r.extra) for r, g in left if g.area > 0]
        self._make("Erase", relabels=changes, removed=tuple(hit), added=tuple(added), group=group)

    def import_labels(
        self, labels: Mapping[str, str | None], *, annotator: str, title: str
    ) -> int:
        """Take labels by barcode as one step; return how many barcodes are not of this section.

        Raises
        ------
        SpotScopeError
            When not one barcode is of this section.
        """
        position = {b: i for i, b in enumerate(self.barcodes)}
        known = {position[b]: name or None for b, name in labels.items() if b in position}
        if labels and not known:
            example = next(iter(labels))
            raise SpotScopeError(
                f"None of the {len(labels)} barcodes (such as '{example}') is a spot of this"
                " section; choose the file that belongs to it."
            )
        spots = np.fromiter(known, dtype=np.int64, count=len(known))
        changes = self._relabel(spots, list(known.values()), annotator)
        grown = self._grown([name for name in known.values() if name])
        self._make(title, relabels=changes, classes=grown)
        return len(labels) - len(known)

    def set_vocabulary(
        self, vocabulary: Vocabulary, title: str = "Change classes", *, group: str | None = None
    ) -> None:
        """Change names, colours or keys; a class that is gone from it takes its labels along."""
        gone = set(self.vocabulary.names) - set(vocabulary.names)
        changes: list[Relabel] = []
        for who, own in self._state.labels.items():
            spots = np.flatnonzero([name in gone for name in own])
            changes += self._relabel(spots, None, who)
        removed = tuple(r for r in self.regions if r.subtype in gone)
        classes = (self.vocabulary, vocabulary) if vocabulary != self.vocabulary else None
        self._make(title, relabels=tuple(changes), removed=removed, classes=classes, group=group)

    def rename_class(self, old: str, new: str) -> None:
        """Call a class by another name everywhere, as one step."""
        renamed = self.vocabulary.renamed(old, new)
        changes: list[Relabel] = []
        for who, own in self._state.labels.items():
            changes += self._relabel(np.flatnonzero(own == old), new, who)
        mine = [r for r in self.regions if r.subtype == old]
        self._make(
            f"Rename {old} to {new}",
            relabels=tuple(changes),
            removed=tuple(mine),
            added=tuple(Region(r.geometry, new, r.id, r.extra) for r in mine),
            classes=(self.vocabulary, renamed),
        )

    # -- undo and redo

    @property
    def next_undo(self) -> str | None:
        """What undo would take back, or None."""
        return self._done[-1].title if self._done else None

    @property
    def next_redo(self) -> str | None:
        """What redo would do again, or None."""
        return self._undone[-1].title if self._undone else None

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

    # -- inside

    def _begin(self, labels: Mapping[str, Sequence[str | None]], vocabulary: Vocabulary) -> None:
        names: list[str] = []
        for who, own in labels.items():
            kept = np.array([v or None for v in own], dtype=object)
            self._state.labels[who] = kept
            names += [v for v in kept if v is not None]
        self._state.vocabulary = vocabulary.with_names(dict.fromkeys(names))

    def _relabel(
        self,
        spots: NDArray[np.int64],
        after: Sequence[str | None] | str | None,
        annotator: str | None = None,
    ) -> tuple[Relabel, ...]:
        who = annotator or self.annotator
        return relabels(who, spots, self._state.labels_of(who)[spots].tolist(), after)

    def _grown(self, names: Iterable[str]) -> tuple[Vocabulary, Vocabulary] | None:
        grown = self.vocabulary.with_names(names)
        return (self.vocabulary, grown) if grown != self.vocabulary else None

    def _make(self, title: str, *, group: str | None = None, **parts: Any) -> None:
        if self.read_only:
            raise SpotScopeError(
                "Another window is annotating this section; close it there to write here."
            )
        edit = Edit(title, self.annotator, **parts)
        if group is not None:
            edit = Edit(title, self.annotator, group=group, **parts)
        if edit.empty:
            return
        self._state.apply(edit)
        self._done.append(edit)
        self._undone.clear()
        self._write({"edit": edit.to_json()})

    def _travel(self, direction: str) -> bool:
        if self.read_only or not self._step(direction):
            return False
        self._write({direction: True})
        return True

    def _step(self, direction: str) -> bool:
        source, target = self._done, self._undone
        if direction == "redo":
            source, target = target, source
        if not source:
            return False
        group = source[-1].group
        while source and source[-1].group == group:
            edit = source.pop()
            self._state.apply(edit.inverse() if direction == "undo" else edit)
            target.append(edit)
        return True

    def _write(self, entry: dict[str, Any]) -> None:
        if self._journal is not None:
            self._journal.append(entry)
        self.changed.emit()

    def _replay(self, barcodes: list[str], entries: list[dict[str, Any]]) -> None:
        table = self._renumbering(barcodes)
        for entry in entries:
            if "edit" in entry:
                edit = Edit.from_json(entry["edit"])
                edit = edit if table is None else _renumbered(edit, table)
                self._state.apply(edit)
                self._done.append(edit)
                self._undone.clear()
            else:
                self._step(next(iter(entry)))
        if table is not None and self._journal is not None and not self.read_only:
            self._journal.begin_again(self._history())

    def _renumbering(self, barcodes: list[str]) -> NDArray[np.int64] | None:
        """Return this section's number of each spot of the journal (-1: gone), if they differ."""
        if barcodes == self.barcodes:
            return None
        position = {b: i for i, b in enumerate(self.barcodes)}
        table = np.array([position.get(b, -1) for b in barcodes], dtype=np.int64)
        gone = int((table < 0).sum())
        if gone:
            self.notes.append(
                f"{gone} spots that were annotated or open to annotation earlier are no longer in"
                " this section; their labels stay in the old journal beside the new one."
            )
        return table

    def _history(self) -> list[dict[str, Any]]:
        """Return the journal's lines that lead to the present state, redo included."""
        edits = [*self._done, *reversed(self._undone)]
        undone = dict.fromkeys(edit.group for edit in self._undone)
        return [{"edit": e.to_json()} for e in edits] + [{"undo": True} for _ in undone]


def _renumbered(edit: Edit, table: NDArray[np.int64]) -> Edit:
    changes = []
    for change in edit.relabels:
        spots = table[change.spots]
        changes.append(replace(change, spots=spots[spots >= 0]))
    return replace(edit, relabels=tuple(changes))
