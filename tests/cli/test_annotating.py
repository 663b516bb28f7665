from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from spotscope.annotate.opening import open_annotations
from spotscope.cli import app
from spotscope.data.store import open_section


@pytest.fixture
def store(tiny_stores: dict[str, Path], tmp_path: Path) -> Path:
    """A section of 30 spots without labels."""
    shutil.copytree(tiny_stores["A1"], tmp_path / "A1.zarr")
    return tmp_path / "A1.zarr"


@pytest.fixture
def drawing(tmp_path: Path) -> Path:
    """An outline around the left half of the spots."""
    ring = [[20, 20], [190, 20], [190, 340], [20, 340], [20, 20]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": "Tumor", "color": [200, 0, 0]}},
    }
    file = tmp_path / "drawn.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return file


def _run(*args: object) -> tuple[int, str, str]:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["annotations", *map(str, args)])
    return result.exit_code, result.stdout, result.stderr


def test_annotations_go_in_are_listed_and_go_out(
    store: Path, drawing: Path, tmp_path: Path
) -> None:
    status, out, err = _run("import", drawing, "--section", store, "--as", "Ada")
    assert status == 0, err
    assert "1 regions, 15 spots labelled anew for Ada" in out
    # It is saved: the store has it without the journal.
    (tmp_path / "A1.annotations.jsonl").unlink()
    status, out, err = _run("list", "--section", store)
    assert status == 0, err
    assert "Ada: 15 of 30 spots labelled, 1 regions" in out
    line = next(line for line in out.splitlines() if line.startswith("Tumor"))
    assert line.split() == ["Tumor", "#c80000", "1", "15", "1", "0.054"]
    assert "not yet saved" not in out
    geojson, csv = tmp_path / "out.geojson", tmp_path / "out.csv"
    assert _run("export", "--section", store, "--format", "geojson", "--out", geojson)[0] == 0
    (feature,) = json.loads(geojson.read_text())["features"]
    given = json.loads(drawing.read_text())["features"][0]
    assert feature["geometry"] == given["geometry"]
    assert feature["properties"]["classification"] == given["properties"]["classification"]
    assert _run("export", "--section", store, "--format", "csv", "--out", csv)[0] == 0
    assert (pd.read_csv(csv)["subtype"] == "Tumor").sum() == 15


def test_an_import_can_be_taken_back_later(store: Path, drawing: Path) -> None:
    _run("import", drawing, "--section", store)
    document = open_annotations(open_section(store))
    assert document.next_undo == "Import drawn.geojson"
    assert document.unsaved == 0
    document.undo()
    assert document.regions == []
    document.close()
    assert "1 steps are in the journal and not yet saved" in _run("list", "--section", store)[1]


def test_an_open_window_is_not_written_over(store: Path, drawing: Path) -> None:
    window = open_annotations(open_section(store), "Ada")
    status, _, err = _run("import", drawing, "--section", store)
    assert status == 2
    assert "Another window is annotating this section" in err
    window.close()


def test_a_slide_without_a_store_keeps_its_annotations_beside_it(
    drawing: Path, tmp_path: Path
) -> None:
    from PIL import Image

    Image.new("RGB", (420, 360), "pink").save(tmp_path / "slide.png")
    status, out, err = _run("import", drawing, "--section", tmp_path / "slide.png")
    assert status == 0, err
    assert "slide.png.annotations.jsonl" in err
    assert "Tumor" in _run("list", "--section", tmp_path / "slide.png")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("import", "no.geojson", "--section", "{store}"), "check the name"),
        (("import", "{drawing}", "--section", "no.zarr"), "There is no 'no.zarr'"),
        (("export", "--section", "{store}", "--format", "csv", "--out", "x"), "No spot of"),
        (("export", "--section", "{store}", "--format", "geojson", "--out", "x"), "Nothing is"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    store: Path, drawing: Path, arguments: tuple[str, ...], said: str
) -> None:
    filled = [a.format(store=store, drawing=drawing) for a in arguments]
    status, _, err = _run(*filled)
    assert status == 2
    assert said in err
    assert err.strip().count("\n") == 0
