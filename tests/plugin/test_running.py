from __future__ import annotations

import importlib
import sys
import threading
import time

import pytest

from spotscope.errors import SpotScopeError
from spotscope.plugin.running import Job, JobBar, duration


def endless(progress):
    while True:
        progress.report(0.3, "Working")
        time.sleep(0.05)


def test_a_job_works_in_another_thread_and_answers_in_the_window_s(qtbot):
    threads = {}

    def work(progress):
        threads["work"] = threading.get_ident()
        progress.report(0.5, "Half")
        return 42

    job = Job("Working", work)
    job.finished.connect(lambda result: threads.update(answer=threading.get_ident()))
    with qtbot.waitSignal(job.finished) as caught:
        job.start()
    assert caught.args == [42]
    assert threads["answer"] == threading.get_ident() != threads["work"]


def test_cancel_stops_within_a_second(qtbot):
    job = Job("Working", endless)
    with qtbot.waitSignal(job.stepped):
        job.start()
    began = time.monotonic()
    with qtbot.waitSignal(job.cancelled, timeout=1000):
        job.cancel()
    assert time.monotonic() - began < 1
    assert not job.running


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SpotScopeError("Choose another file."), "Choose another file."),
        (KeyError("x"), "defect in SpotScope (KeyError: 'x')"),
    ],
)
def test_an_error_is_a_sentence_with_details(qtbot, error, said):
    def work(progress):
        raise error

    job = Job("Working", work)
    with qtbot.waitSignal(job.failed) as caught:
        job.start()
    assert said in caught.args[0].sentence
    assert type(error).__name__ in caught.args[0].details


def test_the_bar_shows_what_is_done_and_never_jumps_back(qtbot):
    bar = JobBar()
    qtbot.addWidget(bar)
    go_on = threading.Event()

    def work(progress):
        for fraction in (0.5, 0.2):
            progress.report(fraction, f"At {fraction}")
            time.sleep(0.15)
        go_on.wait(5)

    job = Job("Working", work)
    bar.watch(job)
    with qtbot.waitSignals([job.stepped, job.stepped]):
        job.start()
    assert bar.bar.value() == 500
    assert "At 0.2" in bar.said.text()
    assert not bar.isHidden()
    with qtbot.waitSignal(job.ended):
        go_on.set()
    assert bar.isHidden()


def test_closing_the_window_stops_the_run(make_napari_viewer, qtbot):
    stopped = threading.Event()

    def work(progress):
        try:
            endless(progress)
        finally:
            stopped.set()

    viewer = make_napari_viewer(show=False)
    job = Job("Training Ridge", work)
    with qtbot.waitSignal(job.stepped):
        job.start()
    # What napari asks about before it closes a window that is busy.
    assert "Training Ridge" in " ".join(viewer.window._task_status_manager.get_status())
    viewer.close()
    assert stopped.wait(1)
    qtbot.waitUntil(lambda: not job.running)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(3, "a few seconds"), (44, "about 40 s"), (150, "about 2 min"), (9000, "about 2.5 h")],
)
def test_a_length_of_time_is_said_as_a_person_would(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(("loaded", "spared"), [("/usr/lib/libLLVM.so.17", True), ("", False)])
def test_triton_is_not_loaded_into_a_window_that_mesa_draws(monkeypatch, loaded, spared):
    from spotscope.plugin import running

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(running.Path, "read_text", lambda self, **_: loaded)
    before = sys.modules.pop("triton", "absent")
    try:
        running._spare_triton()
        assert ("triton" in sys.modules) == spared
        if spared:
            with pytest.raises(ImportError):
                importlib.import_module("triton")
    finally:
        sys.modules.pop("triton", None)
        if before != "absent":
            sys.modules["triton"] = before
