"""What a run will take, worked out in the background while the user still chooses."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, QTimer, Signal

from spotscope.plugin.running import Job, duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QWidget

    from spotscope.jobs.estimating import Estimate
    from spotscope.plugin.running import Failure
    from spotscope.progress import Progress

_PAUSE_MS = 500
_KEPT = 20


class Estimator(QObject):
    """Estimates the newest plan alone, once the user pauses and while the dock is seen.

    `started`, `found` and `failed` carry the plan, the latter two what came of it as well: an
    `Estimate`, or the sentence that says why there is none.

    Parameters
    ----------
    work
        Makes the `Estimate` of a plan, in another thread.
    seen
        Nothing is worked out while this widget is hidden.
    """

    started = Signal(object)
    found = Signal(object, object)
    failed = Signal(object, object)

    def __init__(self, work: Callable[[Any, Progress], Estimate], seen: QWidget) -> None:
        super().__init__(seen)
        self._work, self._seen = work, seen
        self._plan: Any = None
        self._job: Job | None = None
        self._kept: list[tuple[Any, Estimate]] = []
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE_MS)
        self._pause.timeout.connect(self._begin)
        seen.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Begin with what was asked while the dock was hidden."""
        if event is not None and event.type() == QEvent.Type.Show and self._plan is not None:
            self.ask(self._plan)
        return False

    def ask(self, plan: Any) -> None:
        """Estimate a plan, instead of the one that was asked about before."""
        self._plan = plan
        for known, estimate in self._kept:
            if known == plan:
                self._pause.stop()
                self.found.emit(plan, estimate)
                return
        self._pause.start()

    def stop(self) -> None:
        """Estimate nothing: the run begins, or the plan cannot be run."""
        self._plan = None
        self._pause.stop()
        if self._job is not None:
            self._job.cancel()

    def _begin(self) -> None:
        plan = self._plan
        if plan is None or not self._seen.isVisible():
            return
        if self._job is not None:
            self._job.cancel()
            self._pause.start()
            return
        self.started.emit(plan)
        job = Job("Estimating", lambda progress: self._work(plan, progress), self)
        job.finished.connect(lambda estimate: self._on_found(plan, estimate))
        job.failed.connect(lambda failure: self._on_failed(plan, failure))
        job.ended.connect(self._on_ended)
        job.ended.connect(job.deleteLater)
        self._job = job.start()

    def _on_found(self, plan: Any, estimate: Estimate) -> None:
        self._kept = [(plan, estimate), *self._kept][:_KEPT]
        if plan == self._plan:
            self.found.emit(plan, estimate)

    def _on_failed(self, plan: Any, failure: Failure) -> None:
        if plan == self._plan:
            self.failed.emit(plan, failure.sentence)

    def _on_ended(self) -> None:
        self._job = None


def said_to_take(estimate: Estimate) -> str:
    """Say time and memory as a sentence."""
    memory = f"{estimate.memory_bytes / 1e9:.1f} GB of memory"
    return f"Takes {duration(estimate.seconds)} and {memory}; what was done before is reused."
