from __future__ import annotations

import threading

import pytest

from spotscope.errors import Cancelled
from spotscope.progress import Progress, Step


def _told() -> tuple[Progress, list[Step]]:
    steps: list[Step] = []
    return Progress(steps.append), steps


def test_parts_of_a_job_fill_their_share_of_the_whole() -> None:
    progress, steps = _told()
    half = progress.part(0.5, 1.0)
    half.report(0.5, "second half")
    half.part(0.5, 1.0).report(1.0)
    assert [step.fraction for step in steps] == [0.75, 1.0]
    assert steps[0].message == "second half"


def test_the_bar_never_jumps_back() -> None:
    progress, steps = _told()
    progress.part(0.5, 1.0).report(0.2)
    progress.part(0.0, 0.5).report(0.1)
    assert [step.fraction for step in steps] == [0.6, 0.6]


def test_fractions_outside_the_job_are_held_at_its_ends() -> None:
    progress, steps = _told()
    progress.report(-1)
    progress.report(7)
    assert [step.fraction for step in steps] == [0.0, 1.0]


def test_a_cancelled_job_stops_at_its_next_report_in_every_part() -> None:
    cancel = threading.Event()
    progress = Progress(cancel=cancel)
    part = progress.part(0.2, 0.4)
    part.report(0.1)
    cancel.set()
    with pytest.raises(Cancelled):
        part.report(0.2)
    with pytest.raises(Cancelled):
        progress.check()


def test_tracking_yields_everything_and_reports_after_each() -> None:
    progress, steps = _told()
    assert list(progress.track(["a", "b"], "reading")) == ["a", "b"]
    assert [step.fraction for step in steps] == [0.0, 0.5, 1.0]


def test_figures_reach_the_listener() -> None:
    progress, steps = _told()
    progress.report(0.5, loss=1.5)
    assert steps[0].values == {"loss": 1.5}


def test_time_left_follows_from_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress, steps = _told()
    progress.report(0.25)
    now[0] = 110.0
    progress.report(0.25)
    assert steps[0].seconds_left is None
    assert steps[1].seconds_left == pytest.approx(30.0)


def test_time_left_follows_the_pace_of_the_part_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("spotscope.progress.time.monotonic", lambda: now[0])
    progress, steps = _told()
    slow, fast = progress.part(0.0, 0.2), progress.part(0.2, 1.0)
    now[0] = 100.0
    slow.report(1.0)
    assert steps[-1].seconds_left == pytest.approx(400)
    fast.report(0.0)
    now[0] = 102.0
    fast.report(0.5)
    assert steps[-1].seconds_left == pytest.approx(2)
