from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from spotscope.cli import app


@pytest.fixture
def windows(monkeypatch):
    """Keep what windows were opened with, and open none."""
    import spotscope.plugin.window as window

    opened = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(window, "open_window", lambda *args: opened.append(args))
    monkeypatch.setattr(window, "run_window", lambda: opened.append("run"))
    return opened


def test_view_opens_a_window_with_all_that_is_named(windows, tiny_stores):
    paths = [tiny_stores["A1"], tiny_stores["B1"]]
    result = CliRunner().invoke(app, ["view", *map(str, paths)])
    assert result.exit_code == 0, result.stderr
    assert windows == [(paths,), "run"]


def test_view_opens_no_window_when_a_section_is_not_there(windows, tiny_stores, tmp_path):
    missing = tmp_path / "nowhere.zarr"
    result = CliRunner().invoke(app, ["view", str(tiny_stores["A1"]), str(missing)])
    assert result.exit_code == 2
    assert windows == []


@pytest.mark.skipif(sys.platform != "linux", reason="a display is always there")
@pytest.mark.parametrize("command", ["view", "demo"])
def test_without_a_display_a_window_is_refused_before_any_work(
    command, windows, tiny_stores, tmp_path, monkeypatch
):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    out = tmp_path / "made"
    args = ["view", str(tiny_stores["A1"])] if command == "view" else ["demo", "--out", str(out)]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 2
    assert "xvfb-run" in result.stderr
    assert windows == []
    assert not out.exists()
