"""Where to look next on a section, one place after the other, and what is decided there; no Qt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from spotscope.errors import SpotScopeError
from spotscope.plugin.labels_at_hand import labels_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from spotscope.data.places import Grid
    from spotscope.plugin.opened import OpenSection
    from spotscope.plugin.subtype_state import Told, ToldPart
    from spotscope.plugin.workspace import Workspace

Kind = Literal["uncertain", "disagreement", "suggested"]


@dataclass(frozen=True, eq=False)
class Target:
    """One place to look at.

    Attributes
    ----------
    kind
        Why it is looked at.
    told, probability
        The predicted class that is most probable there, and its mean probability.
    spots
        Places of the spots that it holds.
    outline
        Closed rings, each (m, 2) row, col in level-0 pixels.
    strange
        Whether it is unlike anything that was learnt, so that its class says little.
    """

    kind: Kind
    told: str
    probability: float
    spots: NDArray[np.intp]
    outline: list[NDArray[np.float64]]
    strange: bool = False

    @property
    def centre_px(self) -> tuple[float, float]:
        """Middle of what the outline spans: row, col."""
        low, high = self._box()
        row, col = (low + high) / 2
        return float(row), float(col)

    @property
    def extent_px(self) -> float:
        """Longer edge of what the outline spans."""
        low, high = self._box()
        return float((high - low).max())

    def _box(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        points = np.concatenate(self.outline)
        return points.min(axis=0), points.max(axis=0)


@dataclass
class Queue:
    """The places of one kind on one section, best first, and which of them were looked at."""

    targets: list[Target]
    looked: set[int] = field(default_factory=set)
    at: int = -1

    def step(self, by: int = 1) -> Target | None:
        """Go to the next place, or back; None past either end."""
        self.at = min(max(self.at + by, -1), len(self.targets))
        return self.current

    @property
    def current(self) -> Target | None:
        """The place that is looked at."""
        return self.targets[self.at] if 0 <= self.at < len(self.targets) else None


class Review:
    """Goes through the places of the active section that are worth a look.

    `said` tells what a person who pressed a key should read.

    Parameters
    ----------
    workspace
        Whose section; its `changed` tells `review`.
    """

    said = Signal(str)

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._queues: dict[tuple[str, str, float, float, Kind], Queue] = {}
        self.kind: Kind | None = None

    @property
    def current(self) -> Target | None:
        """The place that is looked at now."""
        queue = self.queue
        return None if queue is None else queue.current

    @property
    def queue(self) -> Queue | None:
        """What is gone through now."""
        return None if self.kind is None else self._queues.get(self._key(self.kind))

    def progress(self) -> str:
        """Say how far the review is."""
        queue = self.queue
        if queue is None:
            return ""
        return f"{len(queue.looked)} of {len(queue.targets)} looked at"

    def next(self, kind: Kind | None = None) -> Target | None:
        """Go to the next place of a kind, by default of the one that is gone through.

        Raises
        ------
        SpotScopeError
            When there are no predicted subtypes, or no place of that kind.
        """
        kind = kind or self.kind or "uncertain"
        if self._key(kind) not in self._queues:
            self._queues[self._key(kind)] = Queue(self._find(kind))
        self.kind = kind
        queue = self._queues[self._key(kind)]
        if not queue.targets:
            self.kind = None
            self._workspace.tell("review")
            raise SpotScopeError(_NOTHING[kind])
        if queue.current is not None:
            queue.looked.add(queue.at)
        target = queue.step()
        while target is not None and self._settled(target):
            queue.looked.add(queue.at)
            target = queue.step()
        self._workspace.tell("review")
        return target

    def annotated(self, target: Target) -> str | None:
        """Return the class that most labelled spots of a place bear now, or None."""
        section = self._workspace.section
        if section is None:
            return None
        names = labels_of(self._workspace, section).names[target.spots]
        known = [str(name) for name in names if name is not None]
        return max(sorted(set(known)), key=known.count) if known else None

    def back(self) -> Target | None:
        """Go to the place before."""
        queue = self.queue
        if queue is None:
            return None
        target = queue.step(-1) or queue.step()  # the first place stays
        self._workspace.tell("review")
        return target

    def accept(self) -> None:
        """Give the place the class that is predicted, and go on.

        Raises
        ------
        SpotScopeError
            When no place is looked at.
        """
        self.correct(self._looked_at().told)

    def correct(self, subtype: str) -> None:
        """Give the place a class, as one step that can be undone, and go on.

        Raises
        ------
        SpotScopeError
            When no place is looked at, or another window writes the annotations.
        """
        target, annotating = self._looked_at(), self._workspace.annotating
        if target.spots.size:
            annotating.mark(target.spots, subtype)
        else:
            for ring in target.outline:
                annotating.draw(ring, subtype)
        self.next()

    def correct_by_key(self, key: int) -> None:
        """Give the place the class of a number key, and go on.

        Raises
        ------
        SpotScopeError
            When no class has that key.
        """
        classes = self._workspace.annotating.classes.listed
        found = next((one.name for one in classes if one.key == key), None)
        if found is None:
            raise SpotScopeError(f"No class has the key {key}; set it in Annotate.")
        self.correct(found)

    def suggest(self, spots: Sequence[int]) -> None:
        """Go through suggested spots instead, best first."""
        told = self._workspace.subtypes.told()
        if told is None or told.on_spots is None:
            raise SpotScopeError("Learn subtypes first; they tell which spots are worth a label.")
        targets = [self._target("suggested", told.on_spots, np.array([spot])) for spot in spots]
        self._queues[self._key("suggested")] = Queue(targets)
        self.kind = "suggested"
        self.next()

    def stop(self) -> None:
        """Look at nothing."""
        if self.kind is not None:
            self.kind = None
            self._workspace.tell("review")

    # -- inside

    def _key(self, kind: Kind) -> tuple[str, str, float, float, Kind]:
        """Say of which section, map and reading of it the places are."""
        section, subtypes = self._workspace.section, self._workspace.subtypes
        run, read = subtypes.run, subtypes.settings
        where = section.key if section else "", run.id if run else ""
        return *where, read.threshold, read.radius_um, kind

    def _looked_at(self) -> Target:
        if self.current is None:
            raise SpotScopeError("Go to a place first: N for uncertain, D for disagreement.")
        return self.current

    def _find(self, kind: Kind) -> list[Target]:
        """Return the places of a kind, best first."""
        from spotscope.annotate.review import disagreements

        told, section = self._workspace.subtypes.told(), self._workspace.section
        if told is None or section is None:
            raise SpotScopeError("No subtypes were predicted here yet; learn them first.")
        if kind == "uncertain":
            return self._uncertain(told, section)
        if told.on_spots is None:
            raise SpotScopeError("A slide without spots has no annotated spots to compare with.")
        labels = labels_of(self._workspace, section).names
        threshold = self._workspace.subtypes.settings.threshold
        found = disagreements(told.on_spots.map, labels, threshold)
        return [self._target(kind, told.on_spots, region.members) for region in found]

    def _uncertain(self, told: Told, section: OpenSection) -> list[Target]:
        """Return what is unsure, by its area: of the map, and of the spots that lie beside it.

        Places without labels come first. Tissue between the spots counts from one spot's share
        on: less than that holds no spot that a label could be learnt from, and is seen in the map.
        """
        from spotscope.annotate.review import uncertain_regions

        threshold = self._workspace.subtypes.settings.threshold
        parts = [part for part in (told.on_grid, told.on_spots) if part is not None]
        unsure = [part for part in parts if (part.codes < 0).any()]
        share = 1.0  # cells that a spot stands for
        if told.on_grid is not None and section.n_spots:
            share = section.spot_share_px / told.on_grid.grid.stride_px**2
        found: list[tuple[float, Target]] = []
        seen = np.zeros(section.n_spots, bool)
        for part in unsure or parts[-1:]:  # where all is sure, the least certain spots
            of_spots = part is told.on_spots
            for region in uncertain_regions(part.map, threshold):
                left = region.members[~seen[region.members]] if of_spots else region.members
                if not len(left):
                    continue
                target = self._target("uncertain", part, left)
                if not of_spots and not len(target.spots) and len(left) < share:
                    continue
                seen[target.spots] = True
                weight = share * len(left) / len(region.members) if of_spots else 1.0
                found.append((region.score * weight, target))
        known = np.array([name is not None for name in labels_of(self._workspace, section).names])
        # What bears labels already has less to teach, and comes after all that has none.
        found.sort(key=lambda one: (bool(known[one[1].spots].any()), -one[0]))
        return [target for _, target in found]

    def _settled(self, target: Target) -> bool:
        """Whether labels that were given since have ended a disagreement."""
        section = self._workspace.section
        assert section is not None
        names = labels_of(self._workspace, section).names[target.spots]
        return target.kind == "disagreement" and all(name == target.told for name in names)

    def _target(self, kind: Kind, part: ToldPart, members: NDArray[np.intp]) -> Target:
        """Return the place that some of a part's places make up."""
        section = self._workspace.section
        assert section is not None
        shares = part.map.probabilities[members].mean(axis=0)
        best = int(shares.argmax())
        if part.map.places.grid is None:
            spots = members
            reach = max(section.diameter_px / 2, 0.55 * section.pitch_px)
            outline = outline_of_spots(section.centres_px[members], reach)
        else:
            spots = self._spots_on(part, members)
            outline = outline_of_cells(part.grid, members)
        strange = part.strange(members)
        return Target(kind, part.map.classes[best], float(shares[best]), spots, outline, strange)

    def _spots_on(self, part: ToldPart, members: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the spots whose centres lie on some cells."""
        section = self._workspace.section
        assert section is not None
        if not section.n_spots:
            return np.empty(0, np.intp)
        grid = part.grid
        inside = np.zeros(grid.shape, bool)
        inside[tuple(np.argwhere(grid.mask)[members].T)] = True
        cells = np.rint((section.centres_px - grid.origin_px) / grid.stride_px).astype(np.intp)
        on = (cells >= 0).all(axis=1) & (cells < grid.shape).all(axis=1)
        near = np.flatnonzero(on)
        return near[inside[tuple(cells[near].T)]]


_NOTHING: dict[Kind, str] = {
    "uncertain": "The classifier is sure of every place on this slide.",
    "disagreement": "Prediction and annotation differ nowhere on this slide.",
    "suggested": "No spot is left to suggest; all have a label.",
}


def outline_of_cells(grid: Grid, members: NDArray[np.intp]) -> list[NDArray[np.float64]]:
    """Return the rings (m, 2) row, col around cells of a grid."""
    import shapely

    low = grid.centres_px[members] - grid.stride_px / 2
    high = low + grid.stride_px
    return _rings(shapely.box(low[:, 0], low[:, 1], high[:, 0], high[:, 1]))


def outline_of_spots(
    centres_px: NDArray[np.float64], reach_px: float
) -> list[NDArray[np.float64]]:
    """Return the rings (m, 2) row, col around spots."""
    import shapely

    return _rings(shapely.buffer(shapely.points(centres_px), reach_px, quad_segs=6))


def _rings(parts: Any) -> list[NDArray[np.float64]]:
    """Return the outer rings of the union of some shapes, whose order is kept."""
    import shapely

    whole = shapely.union_all(parts, grid_size=1e-3)
    return [
        np.asarray(piece.exterior.coords, np.float64)
        for piece in shapely.get_parts(whole)
        if not piece.is_empty
    ]
