"""The tutorial's script does in a real window what the page says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("qtpy")

TUTORIALS = Path(__file__).resolve().parents[2] / "docs" / "tutorials"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tutorial")
    command = [sys.executable, str(TUTORIALS / "annotate.py")]
    where = ["--out", str(folder / "pictures"), "--work", str(folder)]
    ended = subprocess.run([*command, *where], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def facts(ran: Path) -> dict[str, dict]:
    return json.loads((ran / "facts.json").read_text())


def test_a_lasso_marks_a_field_and_undo_takes_one_stroke_back(facts: dict[str, dict]) -> None:
    assert facts["lasso"]["spots"]["invasive cancer"] > 50
    assert set(facts["lasso"]["spots"]) == {"invasive cancer"}
    assert facts["wrong"]["spots"]["connective tissue"] > 20
    assert facts["undone"] == facts["lasso"]


def test_the_brush_marks_spots(facts: dict[str, dict]) -> None:
    assert facts["brush"]["spots"]["adipose tissue"] > 15
    assert facts["brush"]["spots"]["immune infiltrate"] > 15


def test_accepting_and_correcting_in_the_review_label_spots(facts: dict[str, dict]) -> None:
    told, before = facts["accepted"]["told"], facts["brush"]["spots"]
    assert facts["accepted"]["spots"] != before
    assert facts["accepted"]["spots"][told] == before[told] + facts["accepted"]["spots_there"]
    assert facts["corrected"]["spots"] != facts["accepted"]["spots"]


def test_a_killed_window_loses_nothing(facts: dict[str, dict]) -> None:
    assert facts["again"]["spots"] == facts["corrected"]["spots"]
    assert "not yet saved" in facts["again"]["state"]
    assert "saved into the section" in facts["saved"]["state"]


def test_the_page_shows_the_pictures_that_the_script_takes(ran: Path) -> None:
    page = (TUTORIALS / "annotate.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"images/(annotate-\w+\.jpg)", page))
    assert shown == {path.name for path in (ran / "pictures").iterdir()}
