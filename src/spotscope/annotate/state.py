"""What the annotations of a section amount to at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.annotate.edits import Edit, Relabel, relabels
from spotscope.annotate.regions import Region
from spotscope.annotate.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

IMPORTED = "imported"
"""Annotator of the labels that a section was imported with: nobody's hand."""


@dataclass
class State:
    """What the edits so far amount to.

    Attributes
    ----------
    labels
        Per annotator, the class name of each spot or None: (n_spots,) object array.
    regions
        By id, in drawing order. One that was removed leaves None in its place, so that undo
        brings it back between the same neighbours.
    """

    n_spots: int
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    labels: dict[str, NDArray[np.object_]] = field(default_factory=dict)
    regions: dict[str, Region | None] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        n_spots: int,
        labels: Mapping[str, Sequence[str | None]],
        vocabulary: Vocabulary,
        regions: Sequence[Region] = (),
    ) -> State:
        """Return the state of given labels; classes that only they name are added."""
        kept = {
            who: np.array([name or None for name in own], dtype=object)
            for who, own in labels.items()
        }
        names = [name for own in kept.values() for name in dict.fromkeys(own.tolist()) if name]
        names += [r.subtype for r in regions if r.subtype]
        return cls(n_spots, vocabulary.with_names(names), kept, {r.id: r for r in regions})

    def copy(self) -> State:
        """Return a state that edits of this one leave alone."""
        labels = {who: own.copy() for who, own in self.labels.items()}
        return State(self.n_spots, self.vocabulary, labels, dict(self.regions))

    @property
    def drawn(self) -> list[Region]:
        """The regions that are there, in drawing order."""
        return [region for region in self.regions.values() if region is not None]

    @property
    def annotators(self) -> list[str]:
        """Everyone who has labelled a spot or drawn a region."""
        known = [who for who, own in self.labels.items() if _some(own).any()]
        known += [region.annotator for region in self.drawn if region.annotator]
        return list(dict.fromkeys(known))

    def labels_of(self, annotator: str) -> NDArray[np.object_]:
        """Return the labels of an annotator; one who is new has none."""
        if annotator not in self.labels:
            self.labels[annotator] = np.full(self.n_spots, None, dtype=object)
        return self.labels[annotator]

    def merged(self, annotator: str) -> NDArray[np.object_]:
        """Return one label per spot.

        It is this annotator's own; else what all others agree on; else, where nobody says
        anything, what the section was imported with.
        """
        said = np.full(self.n_spots, None, dtype=object)
        differing = np.zeros(self.n_spots, dtype=bool)
        for who, others in self.labels.items():
            if who in (annotator, IMPORTED):
                continue
            speaks = _some(others)
            differing |= speaks & _some(said) & (said != others)
            said = np.where(speaks, others, said)
        if IMPORTED in self.labels:
            said = np.where(_some(said), said, self.labels[IMPORTED])
        said[differing] = None
        own = self.labels_of(annotator)
        return np.where(_some(own), own, said)

    def apply(self, edit: Edit) -> None:
        """Carry out one edit."""
        for change in edit.relabels:
            self.labels_of(change.annotator)[change.spots] = change.after
        for region in edit.removed:
            self.regions[region.id] = None
        for region in edit.added:
            self.regions[region.id] = region
        if edit.classes is not None:
            self.vocabulary = edit.classes[1]

    def to(self, other: State, title: str, annotator: str) -> Edit:
        """Return the edit that turns this state into the other one."""
        every = np.arange(self.n_spots)
        changes: tuple[Relabel, ...] = ()
        for who in dict.fromkeys([*self.labels, *other.labels]):
            before, after = (state.labels_of(who).tolist() for state in (self, other))
            changes += relabels(who, every, before, after)
        mine = {r.id: r.to_json() for r in self.drawn}
        theirs = {r.id: r.to_json() for r in other.drawn}
        same = {key for key, content in mine.items() if theirs.get(key) == content}
        classes = (self.vocabulary, other.vocabulary)
        return Edit(
            title,
            annotator,
            relabels=changes,
            removed=tuple(r for r in self.drawn if r.id not in same),
            added=tuple(r for r in other.drawn if r.id not in same),
            classes=classes if classes[0] != classes[1] else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain JSON: spots by annotator and class, classes, regions."""
        labels: dict[str, dict[str, list[int]]] = {}
        for who, own in self.labels.items():
            spots = labels.setdefault(who, {})
            for spot, name in enumerate(own.tolist()):
                if name is not None:
                    spots.setdefault(name, []).append(spot)
        return {
            "labels": labels,
            "classes": self.vocabulary.model_dump(),
            "regions": [region.to_json() for region in self.drawn],
        }

    @classmethod
    def from_json(
        cls, content: dict[str, Any], n_spots: int, table: NDArray[np.int64] | None = None
    ) -> State:
        """Return the state that `to_json` wrote.

        Parameters
        ----------
        n_spots
            Of the section now.
        table
            This section's number of each spot that the content numbers, -1 for one that is gone;
            None when the numbers are the same.
        """
        regions = [Region.from_json(one) for one in content["regions"]]
        state = cls(n_spots, Vocabulary(**content["classes"]), {}, {r.id: r for r in regions})
        for who, spots_of in content["labels"].items():
            own = state.labels_of(who)
            for name, spots in spots_of.items():
                numbers = np.asarray(spots, dtype=np.int64)
                numbers = numbers if table is None else table[numbers]
                own[numbers[numbers >= 0]] = name
        return state


def _some(labels: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Return where there is a label."""
    return np.asarray(labels != None)  # noqa: E711 - elementwise
