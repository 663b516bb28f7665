from __future__ import annotations

import os
import threading

import pytest

from spotscope.errors import Cancelled, SpotScopeError
from spotscope.jobs.training import check_writable, train_model
from spotscope.methods.base import load_method
from spotscope.progress import Progress

SETTINGS = {"panel": {"n_genes": 8}, "context_um": (), "components": 6}


def test_a_model_is_trained_from_paths_and_loaded(tiny_stores, tmp_path, quick_encoder):
    steps = []
    out = train_model(
        "ridge",
        [tiny_stores["A1"], str(tiny_stores["B1"])],
        tmp_path / "model",
        settings=SETTINGS,
        progress=Progress(steps.append),
    )
    model = load_method(out)
    assert model.provenance.training_sections == ["A1", "B1"]
    assert len(model.genes) == 8
    assert steps[-1].fraction == 1.0


def test_validation_sections_are_not_trained_on(tiny_stores, tmp_path, quick_encoder):
    out = train_model(
        "ridge",
        [tiny_stores["A1"]],
        tmp_path / "model",
        settings=SETTINGS,
        validation=[tiny_stores["B1"]],
    )
    assert load_method(out).provenance.training_sections == ["A1"]
    with pytest.raises(SpotScopeError, match="both for training and for validation"):
        train_model(
            "ridge", [tiny_stores["A1"]], tmp_path / "other", validation=[tiny_stores["A1"]]
        )


def test_a_model_is_never_overwritten(tiny_stores, tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(SpotScopeError, match="exists already"):
        train_model("mean", [tiny_stores["A1"]], tmp_path / "model")


def test_a_cancelled_training_leaves_nothing(tiny_stores, tmp_path, quick_encoder):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        train_model(
            "ridge", [tiny_stores["A1"]], tmp_path / "model", progress=Progress(cancel=cancel)
        )
    assert list(tmp_path.iterdir()) == []


def test_a_section_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SpotScopeError, match="There is no .*nowhere.zarr"):
        train_model("mean", [tmp_path / "nowhere.zarr"], tmp_path / "model")


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    check_writable(tmp_path / "new" / "folder")
    (tmp_path / "file").write_text("")
    with pytest.raises(SpotScopeError, match="is a file"):
        check_writable(tmp_path / "file" / "inside")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(SpotScopeError, match="cannot be written"):
        check_writable(tmp_path)
