"""The annotations of one section: labels on spots, regions, classes, undo, and the journal."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.annotate.edits import Edit, Relabel, by_spot, relabels
from spotscope.annotate.journalled import JournalledState
from spotscope.annotate.regions import (
    Border,
    Overlap,
    Region,
    replacing,
    spot_tree,
    spots_in_regions,
)
from spotscope.annotate.state import IMPORTED, State
from spotscope.annotate.vocabulary import Vocabulary, class_of_import

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    import shapely
    from numpy.typing import NDArray
    from shapely import STRtree


class AnnotationDocument(JournalledState):
    """Annotations of one section with undo and redo without limit, journalled edit by edit.

    Parameters
    ----------
    barcodes, centres_px
        The section's spots: names, and (n, 2) positions (row, col) in level-0 pixels.
    journal
        Where edits go as they are made; None keeps them in memory alone.
    annotator
        Whose hand edits.
    labels, vocabulary, regions
        What the store holds: labels by annotator, classes, and drawn regions.
    diameter_px
        Spot diameter, for the border rules of regions.
    saved
        Key of the save that put this into the store; None when there was none.
    """

    def __init__(
        self,
        barcodes: Sequence[str],
        centres_px: NDArray[np.float64],
        journal: Path | None,
        annotator: str,
        *,
        labels: Mapping[str, Sequence[str | None]] | None = None,
        vocabulary: Vocabulary | None = None,
        regions: Sequence[Region] = (),
        diameter_px: float = 0.0,
        saved: str | None = None,
    ) -> None:
        stored = State.of(len(barcodes), labels or {}, vocabulary or Vocabulary(), regions)
        super().__init__(barcodes, stored, journal, annotator, saved)
        self.centres_px = np.asarray(centres_px, dtype=np.float64).reshape(-1, 2)
        self.diameter_px = diameter_px

    # -- what it holds

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes."""
        return self._state.vocabulary

    @property
    def regions(self) -> list[Region]:
        """The drawn regions, in drawing order."""
        return self._state.drawn

    @property
    def annotators(self) -> list[str]:
        """Everyone who has labelled a spot or drawn a region, and the one who edits."""
        return list(dict.fromkeys([*self._state.annotators, self.annotator]))

    def labels(self, annotator: str | None = None) -> NDArray[np.object_]:
        """Return the class name of each spot, or None, as one annotator sees it."""
        return self._state.labels_of(annotator or self.annotator).copy()

    def merged(self) -> NDArray[np.object_]:
        """Return one label per spot: the editing annotator's own, else another's.

        Where the others differ among themselves and the editor is silent, the spot stays open.
        Labels that the section was imported with count where nobody says anything.
        """
        return self._state.merged(self.annotator)

    def subtypes(self) -> NDArray[np.object_]:
        """Return `merged` as it is learnt from: spots of the class to exclude are unlabelled."""
        merged = self.merged()
        if self.vocabulary.excluded is not None:
            merged[merged == self.vocabulary.excluded] = None
        return merged

    def counts(self, annotator: str | None = None) -> dict[str, int]:
        """Return how many spots of each class an annotator, else the one who edits, marked."""
        found = Counter(self._state.labels_of(annotator or self.annotator).tolist())
        return {name: found.get(name, 0) for name in self.vocabulary.names}

    # -- edits

    def assign(
        self, spots: Iterable[int], subtype: str | None, *, group: str | None = None
    ) -> None:
        """Give spots a class, or none; pieces of one stroke share a `group`.

        Taking the class off also takes the label that the section was imported with.
        """
        chosen = np.unique(np.fromiter(spots, dtype=np.int64))
        many = "1 spot" if len(chosen) == 1 else f"{len(chosen)} spots"
        title = f"Mark {many} as {subtype}" if subtype else "Erase"
        changes = self._relabel(chosen, subtype) if subtype else self._cleared(chosen)
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
        annotator: str | None = None,
        colours: Mapping[str, str] | None = None,
    ) -> None:
        """Add regions and give the spots in them their classes, as one step.

        A region with the id of one of the same annotator, as a second import of a file brings,
        takes its place.

        Parameters
        ----------
        title
            What the undo menu says.
        border, overlap
            Which region a spot belongs to, see `spots_in_regions`.
        annotator
            Whose they are; None is who edits.
        colours
            Of classes that are new; a known class keeps its own.
        """
        who = annotator or self.annotator
        owner = spots_in_regions(
            regions,
            self.centres_px,
            diameter_px=self.diameter_px,
            border=border,
            overlap=overlap,
            tree=self._tree,
        )
        # One more at the end, which is where the owner -1 of a spot outside looks.
        classes = np.array([*(r.subtype for r in regions), None], dtype=object)[owner]
        inside = np.flatnonzero(classes != None)  # noqa: E711 - elementwise
        changes = self._relabel(inside, classes[inside].tolist(), who)
        grown = self.vocabulary
        for name in dict.fromkeys(r.subtype for r in regions if r.subtype):
            grown = class_of_import(grown, name, (colours or {}).get(name))
        what = title or f"Draw {len(regions)} region{'s' if len(regions) != 1 else ''}"
        added, replaced = replacing(regions, self.regions, who)
        self._make(
            what,
            relabels=changes,
            added=added,
            removed=replaced,
            classes=self._to(grown),
            group=group,
        )

    def remove_regions(
        self, ids: Iterable[str], *, unlabel: bool = False, group: str | None = None
    ) -> None:
        """Remove regions; with `unlabel` the spots that still bear their class lose it."""
        chosen = set(ids)
        gone = [region for region in self.regions if region.id in chosen]
        changes: tuple[Relabel, ...] = ()
        if unlabel and gone:
            owner = spots_in_regions(gone, self.centres_px, tree=self._tree)
            own = self._state.labels_of(self.annotator)
            spots = [s for s in np.flatnonzero(owner >= 0) if own[s] == gone[owner[s]].subtype]
            changes = self._relabel(np.asarray(spots, dtype=np.int64), None)
        self._make("Remove regions", relabels=changes, removed=tuple(gone), group=group)

    def erase(
        self, spots: Iterable[int], area: shapely.Geometry | None, *, group: str | None = None
    ) -> None:
        """Take the class off spots, and cut an area (x, y in level-0 pixels) out of the regions.

        A region keeps its id and what an import brought along; one of which nothing is left goes.
        """
        chosen = np.unique(np.fromiter(spots, dtype=np.int64))
        changes = self._cleared(chosen)
        hit = [] if area is None else [r for r in self.regions if r.geometry.intersects(area)]
        left = [(r, r.geometry.difference(area)) for r in hit]
        added = [replace(r, geometry=g) for r, g in left if g.area > 0]
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
        known = by_spot(labels, self.barcodes)
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
        self._make(
            title,
            relabels=self._everyones(gone, None),
            removed=tuple(r for r in self.regions if r.subtype in gone),
            classes=self._to(vocabulary),
            group=group,
        )

    def rename_class(self, old: str, new: str) -> None:
        """Call a class by another name everywhere, as one step."""
        renamed = self.vocabulary.renamed(old, new)
        mine = tuple(r for r in self.regions if r.subtype == old)
        self._make(
            f"Rename {old} to {new}",
            relabels=self._everyones({old}, new),
            removed=mine,
            added=tuple(replace(r, subtype=new) for r in mine),
            classes=(self.vocabulary, renamed),
        )

    # -- inside

    @cached_property
    def _tree(self) -> STRtree:
        return spot_tree(self.centres_px)

    def _relabel(
        self,
        spots: NDArray[np.int64],
        after: Sequence[str | None] | str | None,
        annotator: str | None = None,
    ) -> tuple[Relabel, ...]:
        who = annotator or self.annotator
        return relabels(who, spots, self._state.labels_of(who)[spots].tolist(), after)

    def _everyones(self, names: Collection[str], after: str | None) -> tuple[Relabel, ...]:
        """Return what gives every annotator's spots of some classes another one."""
        spots = {w: np.isin(own, list(names)) for w, own in self._state.labels.items()}
        found = [self._relabel(np.flatnonzero(own), after, who) for who, own in spots.items()]
        return tuple(change for of_one in found for change in of_one)

    def _cleared(self, spots: NDArray[np.int64]) -> tuple[Relabel, ...]:
        own = self._relabel(spots, None)
        if self.annotator == IMPORTED or IMPORTED not in self._state.labels:
            return own
        return own + self._relabel(spots, None, IMPORTED)

    def _grown(self, names: Iterable[str]) -> tuple[Vocabulary, Vocabulary] | None:
        return self._to(self.vocabulary.with_names(names))

    def _to(self, vocabulary: Vocabulary) -> tuple[Vocabulary, Vocabulary] | None:
        return (self.vocabulary, vocabulary) if vocabulary != self.vocabulary else None

    def _make(self, title: str, *, group: str | None = None, **parts: Any) -> None:
        self._refuse_when_read_only()
        edit = Edit(title, self.annotator, **parts)
        if group is not None:
            edit = replace(edit, group=group)
        if not edit.empty:
            self._do(edit)
