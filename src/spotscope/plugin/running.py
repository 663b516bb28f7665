"""Long work in a thread of its own, with progress, time left and Cancel in the dock."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from spotscope.errors import Cancelled, SpotScopeError
from spotscope.plugin.words import in_window
from spotscope.progress import Progress, Step

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_STEPS_A_SECOND = 10
_STOPPED = object()


@dataclass(frozen=True)
class Failure:
    """What went wrong, as a sentence, and the rest for those who want it."""

    sentence: str
    details: str


class _Task:
    """The work as napari's worker calls it; its name is what napari asks about on closing."""

    def __init__(self, title: str, work: Callable[[Progress], Any], job: Job) -> None:
        self._title = title
        self._work = work
        self._job = job
        self._told = 0.0
        self.outcome: Any = _STOPPED
        self.cancel = threading.Event()

    def __str__(self) -> str:
        return self._title

    def __call__(self) -> None:
        self.outcome = self._outcome()

    def _outcome(self) -> Any:
        _spare_triton()
        try:
            return self._work(Progress(self._tell, self.cancel))
        except Cancelled:
            return _STOPPED
        except SpotScopeError as error:
            log.info("%s: %s", self._title, error)
            return Failure(in_window(str(error)), traceback.format_exc())
        except Exception as error:
            log.exception("%s failed", self._title)
            sentence = (
                f"{self._title} failed because of a defect in SpotScope"
                f" ({type(error).__name__}: {error}); the details help to mend it."
            )
            return Failure(sentence, traceback.format_exc())

    def _tell(self, step: Step) -> None:
        """Pass a step on, but not more often than a person can read."""
        if not isalive(self._job):
            raise Cancelled  # the window is gone, and the job with it
        now = time.monotonic()
        if now - self._told >= 1 / _STEPS_A_SECOND or step.fraction >= 1 or step.values:
            self._told = now
            self._job.stepped.emit(step)


def _spare_triton() -> None:
    """Keep torch from loading Triton into a window that Mesa draws.

    Each brings an LLVM of its own, and the process crashes when both are there. Nothing here
    compiles networks, which is what torch wants Triton for.
    """
    if "triton" in sys.modules or not sys.platform.startswith("linux"):
        return
    loaded = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    if "libLLVM" in loaded:
        sys.modules["triton"] = None  # type: ignore[assignment]  # importing it now fails cleanly


class Job(QObject):
    """One piece of long work.

    The signals arrive in the window's thread. Closing the window asks, then cancels: the work
    runs in a worker of napari, whose task manager does both.

    Parameters
    ----------
    title
        What is done, for people: "Training Ridge".
    work
        Called with the `Progress` to report to, in another thread.
    parent
        The job ends with it.
    """

    stepped = Signal(object)
    finished = Signal(object)
    failed = Signal(object)
    cancelled = Signal()
    ended = Signal()

    def __init__(
        self, title: str, work: Callable[[Progress], Any], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.title = title
        self._task = _Task(title, work, self)
        self._worker: Any = None

    @property
    def running(self) -> bool:
        """Whether the work goes on."""
        return self._worker is not None

    def start(self) -> Job:
        """Start the work; returns itself."""
        from napari.qt.threading import FunctionWorker, create_worker

        class Worker(FunctionWorker):
            def quit(self) -> None:
                task.cancel.set()
                super().quit()

        task = self._task
        self._worker = create_worker(task, _start_thread=False, _worker_class=Worker)
        # Not `returned`, which a worker that was told to quit does not emit.
        self._worker.finished.connect(self._on_finished)
        self._worker.start()
        return self

    def cancel(self) -> None:
        """Ask the work to stop; it does within a second."""
        self._task.cancel.set()

    def _on_finished(self) -> None:
        self._worker, outcome = None, self._task.outcome
        if isinstance(outcome, Failure):
            self.failed.emit(outcome)
        elif outcome is _STOPPED:
            self.cancelled.emit()
        else:
            self.finished.emit(outcome)
        self.ended.emit()


class JobBar(QWidget):
    """Progress, time left and Cancel of one job; hidden while nothing runs."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._job: Job | None = None
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.said = QLabel()
        self.said.setWordWrap(True)
        self.button = QPushButton("Cancel")
        self.button.clicked.connect(self._on_cancel)
        row = QHBoxLayout()
        row.addWidget(self.bar, 1)
        row.addWidget(self.button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.said)
        self.hide()

    @property
    def running(self) -> bool:
        """Whether a job runs."""
        return self._job is not None

    def watch(self, job: Job) -> None:
        """Show a job until it ends."""
        self._job = job
        self.bar.setValue(0)
        self.said.setText(job.title)
        self.button.setEnabled(True)
        job.stepped.connect(self._on_step)
        job.ended.connect(self._on_ended)
        self.show()

    def _on_step(self, step: Step) -> None:
        self.bar.setValue(max(self.bar.value(), round(1000 * step.fraction)))
        self.said.setText(" · ".join(filter(None, (step.message, time_left(step)))))

    def _on_cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()
            self.button.setEnabled(False)
            self.said.setText("Stopping …")

    def _on_ended(self) -> None:
        self._job = None
        self.hide()


def time_left(step: Step) -> str:
    """Say how long a job still takes, or nothing while that is unknown."""
    return "" if step.seconds_left is None else f"{duration(step.seconds_left)} left"


def duration(seconds: float) -> str:
    """Say a length of time in words that a person would use."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 90:
        return f"about {round(seconds / 10) * 10} s"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"
