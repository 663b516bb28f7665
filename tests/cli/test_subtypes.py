from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from spotscope.cli import app
from spotscope.data.section import Section
from spotscope.data.store import open_section, write_section
from spotscope.data.subtype_runs import list_subtype_runs
from spotscope.encoders.base import Encoder

QUICK = ["--set", "epochs=2", "--set", "device=cpu"]


@pytest.fixture
def stores(
    make_section: Callable[..., Section],
    colour_encoder: Encoder,
    quick_encoder: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> list[Path]:
    """Three patients, whose spots are labelled dark or pale."""
    for module in ("spotscope.encoders.base", "spotscope.methods.subtypes"):
        monkeypatch.setattr(f"{module}.get_encoder", lambda spec: colour_encoder)
    paths = []
    for seed, patient in enumerate("ABC"):
        section = make_section(f"{patient}1", patient, seed)
        depth = np.asarray(section.counts.sum(axis=1)).ravel()
        dark = depth > np.median(depth)
        section.measured().obs["subtype"] = pd.Categorical(np.where(dark, "dark", "pale"))
        paths.append(tmp_path / f"{patient}1.zarr")
        write_section(section, paths[-1])
    return paths


def _run(*args: object) -> tuple[int, str, str]:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["subtypes", *map(str, args)])
    return result.exit_code, result.stdout, result.stderr


def test_a_classifier_goes_from_training_to_a_table(stores: list[Path], tmp_path: Path) -> None:
    model, table = tmp_path / "model", tmp_path / "told.csv"
    status, out, err = _run("train", *stores[:2], "--out", model, *QUICK)
    assert status == 0, err
    assert "60 labelled spots of 2 subtypes (dark, pale)" in out
    status, out, err = _run("predict", model, stores[2], "--out", table)
    assert status == 0, err
    told = pd.read_csv(table, index_col="spot")
    assert list(told) == ["row_px", "col_px", "subtype", "distance", "dark", "pale"]
    np.testing.assert_allclose(told[["dark", "pale"]].sum(axis=1), 1, atol=1e-5)
    status, out, err = _run("predict", model, stores[0], "--out", table)
    assert "trained on A1 itself" in err
    assert len(list_subtype_runs(open_section(stores[0]))) == 1


def test_training_prints_the_validation_beside_the_commonest_class_and_can_go_on(
    stores: list[Path], tmp_path: Path
) -> None:
    status, out, err = _run("train", *stores, "--out", tmp_path / "first", *QUICK)
    assert status == 0, err
    assert "Each patient held out in turn (A, B, C)." in out
    assert "| commonest class | 0." in out
    again = ("train", *stores, "--out", tmp_path / "second", "--warm", tmp_path / "first", *QUICK)
    status, out, err = _run(*again)
    assert status == 0, err
    assert "90 labelled spots" in out
    status, _, err = _run("train", *stores, "--out", tmp_path / "third", "--exclude", "dark")
    assert status == 2
    assert "All labelled spots are 'pale'" in err
    status, _, err = _run(
        "train", *stores, "--out", tmp_path / "x", "--learn", "counts", "--warm", "."
    )
    assert (status, "leave out --warm" in err) == (2, True)


def test_evaluate_scores_the_image_alone_and_after_a_pair(
    stores: list[Path], tmp_path: Path
) -> None:
    scores, text = tmp_path / "scores.json", tmp_path / "scores.md"
    pair = ["epochs=1", "trainable=none", "neighbours=5", "device=cpu", "panel.n_genes=8"]
    options: list[Any] = [each for setting in pair for each in ("--pair", setting)]
    status, out, err = _run(
        "evaluate", *stores, "--after", "clip", *options, *QUICK,
        "--json", scores, "--markdown", text,
    )  # fmt: skip
    assert status == 0, err
    assert {r["method"] for r in json.loads(scores.read_text())} == {"image", "clip", "majority"}
    assert "| majority |" in text.read_text()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--after", "ridge"), "no image side"),
        (("--after", "clip", "--pair", "nonsense=1"), "has a setting 'nonsense'"),
        (("--set", "nonsense=1"), "no setting 'nonsense'"),
    ],
)
def test_what_cannot_be_is_told_in_one_sentence(
    args: tuple[str, ...], words: str, stores: list[Path]
) -> None:
    status, _, err = _run("evaluate", *stores, *QUICK, *args)
    assert status == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("command", ["train", "predict", "evaluate"])
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    status, out, _ = _run(command, "--help")
    assert status == 0
    examples = [line for line in out.splitlines() if line.strip().startswith("spotscope ")]
    assert examples
    assert all(line.split()[1:3] == ["subtypes", command] for line in examples)
