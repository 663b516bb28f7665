from __future__ import annotations

import os
import re

import pytest

from spotscope.jobs import doctor as module
from spotscope.jobs.doctor import Check, doctor
from spotscope.progress import Progress


def _said(**changes: object) -> dict:
    said = {
        "binding": "PyQt6",
        "qt": "6.11.0",
        "platform": "xcb",
        "renderer": "NVIDIA RTX A2000",
        "version": "4.6.0",
        "texture": 32768,
    }
    return {**said, **changes}


def _window(said: dict | None, errors: str = "", display: bool = True) -> list[Check]:
    return list(module._window_checks(said, errors, display))


def test_every_check_says_what_was_found_and_every_fault_how_to_mend_it_in_one_sentence() -> None:
    checks = doctor()
    topics = [check.topic for check in checks]
    assert len(set(topics)) == len(topics)
    wanted = {"SpotScope", "Packages", "Device", "Window", "Cache", "Readable slides", "Encoders"}
    assert wanted <= set(topics)
    for check in checks:
        assert check.found
        assert bool(check.mend) == (check.state != "ok"), check
        if check.mend:
            assert re.fullmatch(r"[A-Z'].*[^.]\.", check.mend), check.mend
            assert "\n" not in check.found


def test_this_environment_has_nothing_broken() -> None:
    assert [check for check in doctor() if check.state == "broken"] == []


def test_a_check_that_fails_is_a_finding_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails() -> list[Check]:
        raise ImportError("libsomething.so.3: cannot open shared object file")

    looks = {"Device": fails, "Memory": module._memory}
    monkeypatch.setattr(module, "_LOOKS", looks)
    first, second = doctor()
    assert (first.topic, first.state) == ("Device", "broken")
    assert "libsomething.so.3" in first.found
    assert second.topic == "Memory"


def test_progress_reaches_its_end() -> None:
    seen: list[float] = []
    doctor(Progress(lambda step: seen.append(step.fraction)))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_package_that_is_too_old_is_named_with_the_version_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module.metadata, "requires", lambda name: ["numpy>=99", "absentia>=1"])
    numpy, absent = module._wrong_packages()
    assert numpy.startswith("numpy is ")
    assert numpy.endswith("needs >=99")
    assert absent == "absentia is not installed"


def test_packages_of_extras_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ['absentia>=1; extra == "all"']
    monkeypatch.setattr(module.metadata, "requires", lambda name: lines)
    assert list(module._wrong_packages()) == []


def test_a_good_window_needs_no_mending() -> None:
    assert [check.state for check in _window(_said())] == ["ok", "ok"]


def test_drawing_by_the_processor_is_a_note() -> None:
    _, opengl = _window(_said(renderer="llvmpipe (LLVM 15.0.6, 256 bits)"))
    assert opengl.state == "note"


def test_a_window_without_opengl_is_broken() -> None:
    said = _said()
    del said["renderer"]
    assert [check.state for check in _window(said)] == ["ok", "broken"]


@pytest.mark.parametrize(
    ("errors", "display", "state", "sought"),
    [
        ("qtpy.QtBindingsNotFoundError: No Qt bindings could be found", True, "note", "pyqt6"),
        ("qt.qpa.xcb: could not connect to display", False, "note", "xvfb-run"),
        ("could not load the Qt platform plugin xcb", True, "broken", "system libraries"),
        ("", True, "broken", "system libraries"),
    ],
)
def test_a_window_that_does_not_start_says_which_part_is_missing(
    errors: str, display: bool, state: str, sought: str
) -> None:
    (check,) = _window(None, errors, display)
    assert check.state == state
    assert sought in check.mend
    assert check.found


def test_without_a_display_the_check_ends_with_a_note_and_does_not_take_python_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module.sys, "platform", "linux")
    (check,) = module._window()
    assert check.state == "note"


@pytest.mark.skipif(os.name == "nt", reason="folders have no such rights there")
def test_a_cache_that_cannot_be_written_is_broken(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPOTSCOPE_CACHE", str(tmp_path / "file"))
    (check,) = module._cache()
    assert check.state == "broken"
    assert "SPOTSCOPE_CACHE" in check.mend


def test_the_cache_is_named_with_its_size(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("SPOTSCOPE_CACHE", str(tmp_path))
    (tmp_path / "inner").mkdir()
    with (tmp_path / "inner" / "features").open("wb") as file:
        file.truncate(module._GB // 4)
    cache, disk = module._cache()
    assert cache.found == f"{tmp_path}, 0.25 GB"
    assert disk.topic == "Disk"


def test_the_disk_is_noted_when_nearly_full(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = module.shutil.disk_usage("/")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=10**9))
    _, disk = module._cache()
    assert disk.state == "note"
    assert disk.found == "0.9 GB free"
