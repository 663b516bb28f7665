from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from spotscope import __version__
from spotscope.cli import app

COMMANDS = (
    "import", "train", "predict", "evaluate", "view", "methods", "encoders", "doctor", "demo",
    "simulate", "compare",
)  # fmt: skip
SETTINGS = ["--set", "panel.n_genes=8", "--set", "components=6", "--set", "context_um="]


@pytest.fixture
def run(monkeypatch):
    """Run a command; return its status, what it printed and what it complained of."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*args):
        result = CliRunner().invoke(app, [str(arg) for arg in args])
        return result.exit_code, result.stdout, result.stderr

    return call


@pytest.fixture
def stores(tiny_stores, tmp_path, quick_encoder):
    return {
        name: shutil.copytree(path, tmp_path / path.name) for name, path in tiny_stores.items()
    }


def assert_one_sentence(outcome, *words):
    status, _, stderr = outcome
    assert status == 2
    lines = [line for line in stderr.splitlines() if line.strip()]
    assert len(lines) == 1, stderr
    assert "Traceback" not in stderr
    for word in words:
        assert word in stderr


def test_a_section_goes_from_training_to_prediction(run, stores, tmp_path):
    model = tmp_path / "model"
    status, out, err = run("train", "ridge", stores["A1"], stores["A2"], "--out", model, *SETTINGS)
    assert status == 0, err
    assert "60 spots of 2 sections" in out
    assert json.loads((model / "settings.json").read_text())["components"] == 6
    status, out, err = run("predict", model, stores["B1"], stores["A1"], "--stride-um", 40)
    assert status == 0, err
    assert "(held-out patient)" in out
    assert "(trained on this section)" in out
    assert "8 genes on B1: " in out  # what it will do, before it does
    assert "its errors there say nothing" in err


def test_evaluate_takes_sections_in_a_row_and_writes_its_figures(run, stores, tmp_path):
    scores, table = tmp_path / "scores.json", tmp_path / "scores.md"
    status, out, err = run(
        "evaluate", "ridge", "--sections", *stores.values(), "--split", "section",
        "--markers", "G0,G10", *SETTINGS, "--json", scores, "--markdown", table,
    )  # fmt: skip
    assert status == 0, err
    assert "Mean over the held-out sections" in out
    assert "a new patient will score lower" in out
    records = json.loads(scores.read_text())
    assert {record["section"] for record in records} == {"A1", "A2", "B1", "all"}
    assert {record["method"] for record in records} == {"ridge", "mean", "knn"}
    assert "markers" in {record["panel"] for record in records}
    assert table.read_text().startswith("**Mean over the held-out sections**")


def test_evaluate_scores_named_test_sections(run, stores):
    status, out, err = run(
        "evaluate", "mean", "--sections", stores["A1"], stores["A2"], "--test", stores["B1"],
        "--set", "panel.n_genes=8",
    )  # fmt: skip
    assert status == 0, err
    assert "scored on 1 section" in out
    assert "B1 (B)" in out


def test_a_patient_split_of_one_patient_is_refused(run, stores):
    outcome = run("evaluate", "mean", "--sections", stores["A1"], stores["A2"])
    assert_one_sentence(outcome, "one patient", "--split section")


def test_a_model_of_genes_that_the_section_lacks_is_refused(run, stores, make_section, tmp_path):
    from spotscope.data.store import write_section

    run("train", "mean", stores["A1"], "--out", tmp_path / "model")
    mouse = tmp_path / "M1.zarr"
    write_section(make_section("M1", "M", prefix="Mm"), mouse)
    assert_one_sentence(run("predict", tmp_path / "model", mouse), "measures none of the", "Mm0")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (["panel.kind=markers"], ["panel is empty"]),
        (["panel.kind=markers", "panel.markers=NOPE,NADA"], ["panel is empty", "NOPE"]),
        (["panel.kind=file", "panel.file=/nowhere.txt"], ["nowhere.txt"]),
        (["panel.n_genes=0"], ["n_genes"]),
        (["components=many"], ["components"]),
        (["alpha=1"], ["no setting 'alpha'", "components", "panel.n_genes"]),
        (["components"], ["--set name=value"]),
    ],
)
def test_a_wrong_setting_is_told_in_one_sentence(run, stores, tmp_path, setting, words):
    pairs = [part for pair in setting for part in ("--set", pair)]
    outcome = run("train", "ridge", stores["A1"], "--out", tmp_path / "model", *pairs)
    assert_one_sentence(outcome, *words)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "setting", ["panel.n_genes=0", "panel.kind=markers", "alpha=1", "knn.x=1"]
)
def test_a_wrong_setting_of_an_evaluation_is_told_in_one_sentence(run, stores, setting):
    outcome = run("evaluate", "ridge", "--sections", *stores.values(), "--set", setting)
    assert_one_sentence(outcome)


def test_unknown_names_are_told_with_those_that_exist(run, stores, tmp_path):
    outcome = run("train", "rigde", stores["A1"], "--out", tmp_path / "model")
    assert_one_sentence(outcome, "rigde", "ridge", "knn")
    outcome = run("evaluate", "rigde", "--sections", *stores.values())
    assert_one_sentence(outcome, "rigde", "ridge")
    outcome = run("predict", tmp_path / "nowhere", stores["A1"])
    assert_one_sentence(outcome, "no model")
    outcome = run("train", "mean", tmp_path / "nowhere.zarr", "--out", tmp_path / "model")
    assert_one_sentence(outcome, "nowhere.zarr")
    assert_one_sentence(run("view", tmp_path / "nowhere.zarr"), "nowhere.zarr")
    assert_one_sentence(run("methods", "rigde"), "rigde")


def test_a_store_of_a_newer_version_is_refused(run, stores, tmp_path):
    meta = stores["A1"] / "zarr.json"
    content = json.loads(meta.read_text())
    content["attributes"]["spotscope"] |= {"format": 999, "version": "9.0"}
    meta.write_text(json.dumps(content))
    outcome = run("train", "mean", stores["A1"], "--out", tmp_path / "model")
    assert_one_sentence(outcome, "9.0", "update SpotScope")


def test_a_folder_that_cannot_be_written_is_refused(run, stores, tmp_path, monkeypatch):
    import os

    run("train", "mean", stores["A1"], "--out", tmp_path / "model")
    before = sorted(stores["B1"].rglob("*"))
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    outcome = run("train", "mean", stores["A1"], "--out", tmp_path / "other")
    assert_one_sentence(outcome, "cannot be written")
    outcome = run("predict", tmp_path / "model", stores["B1"])
    assert_one_sentence(outcome, "cannot be written")
    assert sorted(stores["B1"].rglob("*")) == before


def test_what_would_be_overwritten_is_kept(run, stores, tmp_path):
    (tmp_path / "model").mkdir()
    outcome = run("train", "mean", stores["A1"], "--out", tmp_path / "model")
    assert_one_sentence(outcome, "exists already")
    assert_one_sentence(run("simulate", tmp_path), "not empty")


def test_an_import_of_nothing_is_refused(run, tmp_path):
    outcome = run("import", tmp_path / "outs", "--out", tmp_path / "S.zarr")
    assert_one_sentence(outcome, "outs")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_is_imported_and_told_of(run, tmp_path):
    import numpy as np
    from PIL import Image

    image = np.full((300, 400, 3), 240, np.uint8)
    image[50:250, 50:350] = (190, 120, 180)
    Image.fromarray(image).save(tmp_path / "slide.png")
    status, out, err = run(
        "import", tmp_path / "slide.png", "--out", tmp_path / "S.zarr", "--mpp", 0.5,
        "--patient", "P7", "--name", "seven",
    )  # fmt: skip
    assert status == 0, err
    assert "seven of patient P7, a slide without spots, 400 × 300 pixels, 0.5 µm" in out


def test_a_slide_alone_is_predicted_only_with_a_place_for_its_store(run, stores, tmp_path):
    import numpy as np
    from PIL import Image

    run("train", "mean", stores["A1"], "--out", tmp_path / "model")
    Image.fromarray(np.full((60, 60, 3), 150, np.uint8)).save(tmp_path / "slide.png")
    assert_one_sentence(run("predict", tmp_path / "model", tmp_path / "slide.png"), "--out")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_an_ordinary_kill_cancel(run, stores, tmp_path, monkeypatch, number):
    from spotscope.methods.mean import MeanMethod

    learn = MeanMethod.learn

    def interrupted(self, cohort, validation, progress):
        signal.raise_signal(number)
        learn(self, cohort, validation, progress)

    monkeypatch.setattr(MeanMethod, "learn", interrupted)
    status, _, err = run("train", "mean", stores["A1"], "--out", tmp_path / "model")
    assert status == 130
    assert "Cancelled" in err
    assert not (tmp_path / "model").exists()


def test_a_defect_is_told_without_a_traceback(run, monkeypatch):
    def fail():
        raise RuntimeError("what nobody thought of")

    monkeypatch.setattr("spotscope.methods.base.methods", fail)
    status, _, err = run("methods")
    assert status == 1
    assert "what nobody thought of" in err
    assert "SPOTSCOPE_DEBUG=1" in err
    assert "Traceback" not in err


def test_methods_and_their_settings_are_listed(run):
    status, out, _ = run("methods")
    assert status == 0
    assert all(name in out for name in ("mean", "knn", "ridge"))
    status, out, _ = run("methods", "ridge")
    assert status == 0
    assert all(name in out for name in ("panel.n_genes", "1000", "components", "context_um"))


def test_encoders_are_listed(run):
    status, out, _ = run("encoders")
    assert status == 0
    assert "stain" in out
    assert "local:PATH#ARCH" in out


def test_a_broken_check_ends_doctor_with_status_1(run, monkeypatch):
    from spotscope.jobs.doctor import Check

    checks = [Check("memory", "ok", "8 GB"), Check("OpenGL", "broken", "[none]", "Install it.")]
    monkeypatch.setattr("spotscope.jobs.doctor.doctor", lambda progress: checks)
    status, out, _ = run("doctor")
    assert status == 1
    assert "Install it." in out
    assert "[none]" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(run, command):
    status, out, _ = run(command, "--help")
    assert status == 0
    examples = [line for line in out.splitlines() if line.strip().startswith("spotscope ")]
    assert examples or command in ("doctor", "encoders", "demo")
    assert all(line.split()[1] == command for line in examples)


def test_the_command_itself_works_and_starts_quickly(tmp_path):
    """In a process of its own: the script, its version, help without heavy libraries."""
    script = [sys.executable, "-c", "from spotscope.cli import main; main()"]
    done = subprocess.run([*script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"spotscope {__version__}"
    code = (
        "import sys\nfrom spotscope.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'torch', 'pandas', 'anndata', 'scanpy', 'zarr', 'napari', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "predict" in done.stdout
    began = time.process_time()
    missing = tmp_path / "nowhere"
    done = subprocess.run(
        [*script, "predict", str(missing), str(missing)], capture_output=True, text=True
    )
    assert time.process_time() - began < 5
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1


def test_training_figures_are_not_taken_for_held_out_scores():
    from spotscope.cli.models import _told

    assert _told({"pearson": 0.5}) == "; on spots that it set apart: pearson 0.500"
    assert (
        _told({"loss": 3.0, "chance": 5.5}) == "; the training ended at loss 3.000, chance 5.500"
    )
    assert _told({}) == ""
