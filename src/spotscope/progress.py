"""One way to report progress and to be cancelled, for every long job."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from typing import TypeVar

from spotscope.errors import Cancelled

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """What a listener is told.

    Attributes
    ----------
    fraction
        Done so far, 0 to 1; never falls within one job.
    message
        What is being done, in the user's words.
    seconds_left
        Estimated from the pace so far; None until there is one.
    values
        Named figures of this step, such as a training loss.
    """

    fraction: float
    message: str
    seconds_left: float | None = None
    values: dict[str, float] = field(default_factory=dict)


class Progress:
    """Reports a job's progress to a listener and raises when the job is cancelled.

    Parameters
    ----------
    listener
        Called with each `Step`, in the thread that works.
    cancel
        When set, the next report raises `Cancelled`.
    """

    def __init__(
        self,
        listener: Callable[[Step], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> None:
        self.listener = listener
        self.cancel = cancel or threading.Event()
        self._span = (0.0, 1.0)
        self._best = [0.0]  # shared by parts, so that the bar never jumps back
        self._started = time.monotonic()
        self._since: tuple[float, float] | None = None  # when this part began, and where

    def check(self) -> None:
        """Raise `Cancelled` when the user asked to stop."""
        if self.cancel.is_set():
            raise Cancelled

    def report(self, fraction: float, message: str = "", **values: float) -> None:
        """Tell the listener that `fraction` (0 to 1) of this part is done.

        Raises
        ------
        Cancelled
            When the user asked to stop.
        """
        self.check()
        low, high = self._span
        whole = max(self._best[0], low + (high - low) * min(max(fraction, 0.0), 1.0))
        self._best[0] = whole
        if self.listener is not None:
            self.listener(Step(whole, message, self._left(whole), values))

    def _left(self, whole: float) -> float | None:
        """Estimate the seconds left: this part at its own pace, those after it at that of all."""
        now = time.monotonic()
        self._since = self._since or (now, whole)
        elapsed, high = now - self._started, self._span[1]
        if whole <= 0.02 or elapsed <= 0.5:
            return None
        pace = elapsed / whole
        here, moved = now - self._since[0], whole - self._since[1]
        # A part may take far less or more than its share of the bar.
        if here < 0.5 or moved < 0.05 * (high - self._since[1]):
            return pace * (1 - whole)
        return here / moved * (high - whole) + pace * (1 - high)

    def part(self, start: float, stop: float) -> Progress:
        """Return the progress of a part of this job that spans `start` to `stop` of it."""
        low, high = self._span
        child = Progress(self.listener, self.cancel)
        child._span = (low + (high - low) * start, low + (high - low) * stop)
        child._best = self._best
        child._started = self._started
        return child

    def track(
        self, items: Iterable[T], message: str = "", total: int | None = None
    ) -> Iterator[T]:
        """Yield `items` and report after each."""
        if total is None:
            total = len(items) if isinstance(items, Sized) else 0
        self.report(0.0, message)
        for done, item in enumerate(items, 1):
            yield item
            self.report(done / total if total else 0.0, message)
