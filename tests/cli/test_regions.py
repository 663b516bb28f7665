from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from spotscope.cli import app
from spotscope.data.places import Places
from spotscope.data.prediction import Prediction
from spotscope.data.runs import write_run
from spotscope.data.section import SUBTYPE
from spotscope.data.store import open_section, write_section

GENES = [f"G{i}" for i in range(8)]


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *args: CliRunner().invoke(app, ["compare", *map(str, args)])


@pytest.fixture(scope="module")
def made(make_section, tmp_path_factory):
    section = make_section("A1", "A", 3)
    section.measured().obs[SUBTYPE] = pd.Categorical(np.repeat(["in situ", "stroma", "fat"], 10))
    store = write_section(section, tmp_path_factory.mktemp("made") / "A1.zarr").store
    section = open_section(store)
    values = 0.5 * section.expression(GENES)
    places = Places.on_spots(section)
    said = {"title": "Ridge", "training_sections": ["A1"], "training_patients": ["A"]}
    write_run(section, "run-1", Prediction(GENES, values, None, places, said), None)
    return store


@pytest.fixture
def store(made, tmp_path):
    return shutil.copytree(made, tmp_path / "A1.zarr")


def test_a_prediction_is_compared_by_regions_and_every_figure_written(run, store, tmp_path):
    files = [tmp_path / name for name in ("r.json", "r.md", "r")]
    asked = ["--groups", "in situ", "fat", "--genes", "G3,G4"]
    options = ["--json", files[0], "--markdown", files[1], "--csv", files[2]]
    outcome = run(store, *asked, *options)
    assert outcome.exit_code == 0, outcome.output
    assert "in situ > fat" in outcome.stdout
    assert "Warning: The model was trained on A1 itself" in outcome.stdout
    assert json.loads(files[0].read_text())["contrasts"][0]["reference"] == "fat"
    assert "| region | spots | pattern r | G3 | G4 |" in files[1].read_text()
    assert len(pd.read_csv(files[2] / "means.csv")) == 24


def test_tables_never_replace_a_folder(run, store, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all")
    outcome = run(store, "--csv", tmp_path / "mine")
    assert outcome.exit_code == 2
    assert "choose another name for the tables" in outcome.stderr
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all"


def test_an_unknown_region_is_answered_with_those_that_exist(run, store):
    outcome = run(store, "--groups", "bone")
    assert outcome.exit_code == 2
    assert outcome.stderr.strip() == ("There is no region 'bone'; choose fat, in situ, stroma.")
