"""One reversible edit: what a stroke, a key press or an import changed."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.annotate.regions import Region
from spotscope.annotate.vocabulary import Vocabulary
from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Relabel:
    """Spots of one annotator that go from one class to another; None is no class."""

    annotator: str
    before: str | None
    after: str | None
    spots: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Edit:
    """Everything that one step changed, so that it can be taken back and done again.

    Attributes
    ----------
    title
        What the undo menu says.
    group
        Edits of one group, such as the pieces of one brush stroke, are undone together.
    relabels
        Spots whose class changes.
    added, removed
        Regions that appear and disappear.
    classes
        Vocabulary before and after, or None.
    """

    title: str
    annotator: str
    relabels: tuple[Relabel, ...] = ()
    added: tuple[Region, ...] = ()
    removed: tuple[Region, ...] = ()
    classes: tuple[Vocabulary, Vocabulary] | None = None
    group: str = field(default_factory=lambda: uuid.uuid4().hex)
    time: float = field(default_factory=time.time)

    @property
    def empty(self) -> bool:
        """Whether the edit changes nothing."""
        return not (self.relabels or self.added or self.removed or self.classes)

    def inverse(self) -> Edit:
        """Return the edit that takes this one back."""
        return replace(
            self,
            relabels=tuple(
                Relabel(r.annotator, r.after, r.before, r.spots) for r in reversed(self.relabels)
            ),
            added=self.removed,
            removed=self.added,
            classes=self.classes[::-1] if self.classes else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the edit as plain JSON."""
        return {
            "title": self.title,
            "annotator": self.annotator,
            "group": self.group,
            "time": round(self.time, 3),
            "relabels": [
                [r.annotator, r.before, r.after, r.spots.tolist()] for r in self.relabels
            ],
            "added": [r.to_json() for r in self.added],
            "removed": [r.to_json() for r in self.removed],
            "classes": [v.model_dump() for v in self.classes] if self.classes else None,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Edit:
        """Return the edit that `to_json` wrote."""
        classes = content["classes"]
        return cls(
            title=content["title"],
            annotator=content["annotator"],
            group=content["group"],
            time=content["time"],
            relabels=tuple(
                Relabel(who, before, after, np.asarray(spots, dtype=np.int64))
                for who, before, after, spots in content["relabels"]
            ),
            added=tuple(Region.from_json(r) for r in content["added"]),
            removed=tuple(Region.from_json(r) for r in content["removed"]),
            classes=(Vocabulary(**classes[0]), Vocabulary(**classes[1])) if classes else None,
        )


def relabels(
    annotator: str,
    spots: NDArray[np.int64],
    before: Sequence[str | None],
    after: Iterable[str | None] | str | None,
) -> tuple[Relabel, ...]:
    """Group changed spots by what they were and become; spots that stay are left out.

    Parameters
    ----------
    spots
        (n,) positions of the spots.
    before
        Their n classes now.
    after
        Their n classes to be, or one for all.
    """
    becoming = [after] * len(spots) if after is None or isinstance(after, str) else list(after)
    groups: dict[tuple[str | None, str | None], list[int]] = {}
    for spot, old, new in zip(np.asarray(spots).tolist(), before, becoming, strict=True):
        if old != new:
            groups.setdefault((old, new), []).append(spot)
    return tuple(
        Relabel(annotator, old, new, np.asarray(own, dtype=np.int64))
        for (old, new), own in groups.items()
    )


def by_spot(labels: Mapping[str, str | None], barcodes: Sequence[str]) -> dict[int, str | None]:
    """Return labels by barcode as labels by spot; barcodes of other sections are left out.

    Raises
    ------
    SpotScopeError
        When not one barcode is of this section.
    """
    position = {barcode: spot for spot, barcode in enumerate(barcodes)}
    known = {position[b]: name or None for b, name in labels.items() if b in position}
    if labels and not known:
        example = next(iter(labels))
        raise SpotScopeError(
            f"None of the {len(labels)} barcodes (such as '{example}') is a spot of this"
            " section; choose the file that belongs to it."
        )
    return known
