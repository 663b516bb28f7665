"""Learning from labels in the background: one at a time, the newest labels win."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from spotscope.errors import SpotScopeError
from spotscope.plugin.annotation_store import made_beside
from spotscope.plugin.model_pages import models_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from spotscope.plugin.opened import OpenSection
    from spotscope.plugin.review_learn import LearnPlan
    from spotscope.plugin.running import Job
    from spotscope.plugin.subtype_state import Told
    from spotscope.progress import Progress

_PAUSE_MS = 3_000
_STORES = 0.02
_LEARNING = {"image": 0.6, "tpirbae": 0.95, "scanvi": 0.95}  # share of the time; the map's is left


@dataclass(frozen=True)
class Learnt:
    """What a learning made.

    Attributes
    ----------
    plan
        What was asked for.
    folder
        The classifier.
    runs
        The subtype run of each section that was predicted.
    seconds
        It took.
    again
        Whether it was learnt in the background, because labels changed.
    moved
        Slides alone, and the sections that were made of them to keep their maps in.
    """

    plan: LearnPlan
    folder: Path
    runs: tuple[tuple[OpenSection, str], ...]
    seconds: float
    again: bool = False
    moved: tuple[tuple[OpenSection, OpenSection], ...] = ()


def learn(plan: LearnPlan, last: Learnt | None, again: bool, progress: Progress) -> Learnt:
    """Learn from the labels of a plan, and predict its targets.

    Parameters
    ----------
    last
        What was learnt before, with the same learner: an image classifier goes on from it.
    again
        Whether this is learnt because labels changed; it takes the place of `last` where that
        was, too.
    """
    from spotscope.jobs.learning import predict_subtypes

    began = time.monotonic()
    over = last is not None and last.again and again
    # Stores first: a folder that cannot be written is met before the minutes, not after.
    moved = _made_sections(plan, progress.part(0.0, _STORES))
    targets = tuple(moved.get(opened.key, opened) for opened in plan.targets)
    mapping = _LEARNING[plan.learner]
    folder = _classifier(plan, last, over, progress.part(_STORES, mapping))
    replaced = {opened.key: run for opened, run in last.runs} if last is not None and over else {}
    runs = []
    for place, opened in enumerate(targets):
        step = (1 - mapping) / len(targets)
        start = mapping + place * step
        run_id = predict_subtypes(
            folder,
            opened.section,
            replaces=replaced.get(opened.key),
            progress=progress.part(start, start + step),
        )
        runs.append((opened, run_id))
    return Learnt(
        replace(plan, targets=targets),
        folder,
        tuple(runs),
        time.monotonic() - began,
        again,
        tuple((one, moved[one.key]) for one in plan.targets if one.key in moved),
    )


def _made_sections(plan: LearnPlan, progress: Progress) -> dict[str, OpenSection]:
    """Make sections of the slides alone that are to be predicted, by the slide's key."""
    alone = [opened for opened in plan.targets if opened.section.store is None]
    return {
        opened.key: made_beside(
            opened, progress.part(place / len(alone), (place + 1) / len(alone))
        )
        for place, opened in enumerate(alone)
    }


def _classifier(plan: LearnPlan, last: Learnt | None, over: bool, progress: Progress) -> Path:
    from spotscope.jobs.learning import learn_from_counts, learn_subtypes

    sections = [opened.section for opened in plan.sections]
    names = [labels.names for labels in plan.labels]
    labels = {section.name: own for section, own in zip(sections, names, strict=True)}
    out = models_folder() / f"subtypes-{plan.learner}-{datetime.now():%Y-%m-%d-%H%M%S-%f}"
    if plan.learner == "scanvi":
        return learn_from_counts(sections, out, labels=labels, progress=progress)
    warm = last.folder if last is not None and last.folder.is_dir() else None
    return learn_subtypes(
        sections,
        warm if warm is not None and over else out,
        labels=labels,
        encoder=plan.encoder,
        learn="tpirbae" if plan.learner == "tpirbae" else "image",
        warm=warm if plan.learner == "image" else None,
        progress=progress,
    )


def suggested(
    opened: OpenSection,
    told: Told,
    names: NDArray[np.object_],
    count: int,
    progress: Progress,
) -> list[int]:
    """Return the spots whose labels would teach most: unsure, and unlike those that have one."""
    from spotscope.annotate.suggest import suggest_spots
    from spotscope.data.places import Places
    from spotscope.encoders.base import get_encoder
    from spotscope.encoders.features import features

    if told.on_spots is None:
        raise SpotScopeError("A slide without spots has none to suggest.")
    encoder = get_encoder(told.run.provenance.get("encoder") or "auto")
    seen = features(Places.on_spots(opened.section), encoder, progress)
    labelled = np.array([name is not None for name in names])
    spots = suggest_spots(seen, told.on_spots.map.probabilities, labelled, count, 0)
    return [int(spot) for spot in spots]


class Learning(QObject):
    """Runs learnings, and learns again a while after labels have changed.

    Parameters
    ----------
    run
        Starts a job with a title, its work and what takes its result.
    plan
        Returns what would be learnt now.
    """

    learnt = Signal(object)
    ended = Signal()

    def __init__(
        self,
        run: Callable[[str, Callable[[Progress], Any], Callable[[Any], None]], Job],
        plan: Callable[[], LearnPlan],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._run = run
        self._plan = plan
        self._job: Job | None = None
        self._again = False
        self._keep = False
        self._last: Learnt | None = None
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE_MS)
        self._pause.timeout.connect(self._on_pause)

    @property
    def running(self) -> bool:
        """Whether something is learnt now."""
        return self._job is not None

    @property
    def waiting(self) -> bool:
        """Whether learning follows when labels have rested."""
        return self._pause.isActive()

    def start(self, plan: LearnPlan, again: bool = False) -> None:
        """Learn now."""
        self._pause.stop()
        last = self._last_alike(plan)
        title = "Learning again" if again else "Learning subtypes"
        self._again = again
        self._job = self._run(
            title,
            lambda progress: learn(plan, last, again, progress),
            self._on_learnt,
        )
        self._job.ended.connect(self._on_ended)

    def keep(self, on: bool) -> None:
        """Learn again, or not, whenever labels change."""
        self._keep = on
        if on:
            self.labels_changed()
        else:
            self._pause.stop()

    def labels_changed(self) -> None:
        """Wait until the labels rest; what learns from older ones in the background stops."""
        if not self._keep:
            return
        if self._job is not None and self._again and not _same(self._job_plan, self._plan()):
            self._job.cancel()
        self._pause.start()

    def _on_pause(self) -> None:
        if self._job is not None:
            self._pause.start()  # it ends within a second, or was started by hand
            return
        plan = self._plan()
        if plan.why_not is None and not (self._last and _same(self._last.plan, plan)):
            self._job_plan = plan
            self.start(plan, again=True)

    def _on_learnt(self, made: Learnt) -> None:
        self._last = made
        self.learnt.emit(made)

    def _on_ended(self) -> None:
        self._job = None
        self.ended.emit()

    def _last_alike(self, plan: LearnPlan) -> Learnt | None:
        """Return what was learnt last, if the same kind was learnt from the same encoder."""
        last = self._last
        if last is None:
            return None
        alike = (last.plan.learner, last.plan.encoder) == (plan.learner, plan.encoder)
        return last if alike else None


def _same(one: LearnPlan, other: LearnPlan) -> bool:
    """Whether two plans would learn the same."""
    asked = [(p.learner, p.encoder, p.sections, p.targets) for p in (one, other)]
    return asked[0] == asked[1] and all(
        a.same(b) for a, b in zip(one.labels, other.labels, strict=True)
    )
