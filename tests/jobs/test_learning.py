from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from spotscope.data.places import Places
from spotscope.data.section import Section
from spotscope.data.store import open_section
from spotscope.data.subtype_runs import list_subtype_runs
from spotscope.encoders.base import Encoder
from spotscope.errors import Cancelled, SpotScopeError
from spotscope.jobs.learning import (
    as_classifier,
    learn_from_counts,
    learn_subtypes,
    predict_subtypes,
    tell_subtypes,
)
from spotscope.methods.subtypes import SubtypeClassifier
from spotscope.progress import Progress, Step

QUICK: dict[str, Any] = {"device": "cpu"}


def _labels(section: Section) -> np.ndarray:
    """Dark, middle or pale tissue, as the counts tell it; the slopes are `make_section`'s."""
    depth = np.asarray(section.counts.sum(axis=1)).ravel()
    limits = [20 * np.exp(seen * np.linspace(-2, 3, 12)[:-1]).sum() for seen in (0.4, 0.6)]
    return np.array(["pale", "middle", "dark"], object)[np.searchsorted(limits, depth)]


@pytest.fixture(scope="module")
def sections(make_section: Callable[..., Section]) -> list[Section]:
    """Three patients, whose spots are all labelled."""
    made = [make_section(f"{p}1", p, seed) for seed, p in enumerate("ABC")]
    for section in made:
        section.measured().obs["subtype"] = pd.Categorical(_labels(section))
    return made


@pytest.fixture(scope="module")
def model(
    sections: list[Section], colour_encoder: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("learnt") / "model"
    return learn_subtypes(sections[:2], out, encoder=colour_encoder, settings=QUICK)


@pytest.fixture
def known_encoder(colour_encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("spotscope.encoders.base", "spotscope.methods.subtypes"):
        monkeypatch.setattr(f"{module}.get_encoder", lambda spec: colour_encoder)


@pytest.mark.usefixtures("known_encoder")
def test_subtypes_are_learnt_validated_and_told_of_a_new_patient(
    model: Path, sections: list[Section]
) -> None:
    classifier = as_classifier(model)
    assert isinstance(classifier, SubtypeClassifier)
    assert classifier.classes == ["dark", "middle", "pale"]
    validation = classifier.validation
    assert validation is not None
    assert (validation["by"], validation["n_spots"]) == ("patients", 60)
    assert validation["scores"]["classifier"]["macro_f1"] > 0.6
    assert validation["scores"]["majority"]["macro_f1"] < 0.2
    told, grid = tell_subtypes(classifier, sections[2], stride_um=30)
    assert told is not None
    assert grid is not None
    assert np.mean(told.labels == _labels(sections[2])) > 0.6
    assert grid.places.grid is not None
    np.testing.assert_allclose(grid.probabilities.sum(axis=1), 1, atol=1e-5)
    again = as_classifier(model).predict_subtypes(told.places)
    np.testing.assert_array_equal(again.distance, told.distance)


@pytest.mark.usefixtures("known_encoder")
def test_subtypes_are_kept_in_the_store_and_may_take_the_place_of_earlier_ones(
    model: Path, tiny_stores: dict[str, Path], tmp_path: Path
) -> None:
    store = open_section(shutil.copytree(tiny_stores["B1"], tmp_path / "B1.zarr"))
    first = predict_subtypes(model, store, stride_um=40)
    second = predict_subtypes(model, store, on_grid=False, replaces=first)
    (run,) = list_subtype_runs(store)
    assert (run.id, run.has_grid, run.protocol) == (second, False, "trained on this section")
    assert run.validation == as_classifier(model).validation


@pytest.mark.usefixtures("known_encoder")
def test_labels_in_hand_take_the_place_of_those_in_the_section_which_stay(
    sections: list[Section], colour_encoder: Encoder, tmp_path: Path
) -> None:
    mine = np.full(30, None, object)
    mine[[0, 1, 2, 10, 11, 25]] = ["a", "b", "a", "b", "a", "ignored"]
    out = learn_subtypes(
        sections,
        tmp_path / "model",
        labels={"A1": mine},
        exclude=["ignored"],
        encoder=colour_encoder,
        settings=QUICK,
    )
    made = as_classifier(out)
    assert (made.classes, made.provenance.n_spots) == (["a", "b"], 5)
    assert made.provenance.training_sections == ["A1"]
    assert sections[0].labels.categories.tolist() == ["dark", "middle", "pale"]
    with pytest.raises(SpotScopeError, match="2 labels for the 30 spots"):
        learn_subtypes(sections, tmp_path / "x", labels={"A1": mine[:2]}, encoder=colour_encoder)


def _few(sections: list[Section], n: int) -> dict[str, np.ndarray]:
    """The labels of every n-th spot."""
    found = {}
    for section in sections:
        found[section.name] = np.full(30, None, object)
        found[section.name][::n] = _labels(section)[::n]
    return found


@pytest.mark.usefixtures("known_encoder")
def test_a_warm_retraining_is_short_and_ends_at_the_same_classifier(
    sections: list[Section], colour_encoder: Encoder, tmp_path: Path
) -> None:
    def learn(name: str, n: int, warm: Path | None = None) -> SubtypeClassifier:
        made = learn_subtypes(
            sections,
            tmp_path / name,
            labels=_few(sections, n),
            encoder=colour_encoder,
            settings=QUICK,
            warm=warm,
        )
        found = as_classifier(made)
        assert isinstance(found, SubtypeClassifier)
        return found

    cold = learn("cold", 1)
    learn("first", 2)
    warm = learn("first", 1, tmp_path / "first")  # it takes the earlier one's place
    places = tell_subtypes(cold, sections[0], on_grid=False)[0].places
    np.testing.assert_allclose(
        warm.predict_subtypes(places).probabilities,
        cold.predict_subtypes(places).probabilities,
        atol=2e-3,
    )
    assert warm.validation["scores"] == cold.validation["scores"]
    with pytest.raises(SpotScopeError, match="exists already"):
        learn("first", 1)


def test_a_cancelled_learning_leaves_nothing(
    sections: list[Section], colour_encoder: Encoder, tmp_path: Path
) -> None:
    for at in ("Learning", "Validating"):
        cancel, when = threading.Event(), 0.0

        def listen(step: Step, at: str = at, cancel: threading.Event = cancel) -> None:
            nonlocal when
            if step.message.startswith(at) and not cancel.is_set():
                cancel.set()
                when = time.monotonic()

        with pytest.raises(Cancelled):
            learn_subtypes(
                sections,
                tmp_path / "model",
                encoder=colour_encoder,
                settings=QUICK,
                progress=Progress(listen, cancel),
            )
        assert time.monotonic() - when < 1
        assert list(tmp_path.iterdir()) == []


def test_labels_that_teach_nothing_are_refused_in_one_sentence(
    sections: list[Section], colour_encoder: Encoder, tmp_path: Path
) -> None:
    none = np.full(30, None, object)
    for labels, words in (
        ({}, "No spot of these sections has a subtype"),
        ({"A1": none}, "No spot of these sections has a subtype"),
        ({"A1": np.full(30, "x", object)}, "All labelled spots are 'x'"),
    ):
        for learn in (learn_subtypes, learn_from_counts):
            with pytest.raises(SpotScopeError, match=words):
                learn(sections, tmp_path / "model", labels=labels)
    assert list(tmp_path.iterdir()) == []


def test_a_class_with_one_spot_is_learnt_but_not_validated(
    sections: list[Section], colour_encoder: Encoder, tmp_path: Path
) -> None:
    mine = np.array(["x", "y"], object)[np.arange(30) // 5 % 2]
    mine[3] = "nerve"
    out = learn_subtypes(
        sections[:1], tmp_path / "m", labels={"A1": mine}, encoder=colour_encoder, settings=QUICK
    )
    made = as_classifier(out)
    assert "nerve" in made.classes
    assert "nerve has one labelled spot" in made.validation["notes"][0]
    assert "nerve" not in made.validation["classes"]


def test_scanvi_completes_labels_from_counts(
    make_section: Callable[..., Section], tmp_path: Path
) -> None:
    from scipy import sparse

    rng, true = np.random.default_rng(0), np.array(["fat", "tumour"], object)[np.arange(30) % 2]
    rates = np.where((true == "fat")[:, None] == (np.arange(12) < 6), 30.0, 3.0)
    sections, labels = [], {}
    for seed, patient in enumerate("AB"):
        section = make_section(f"{patient}1", patient, seed)
        section.measured().X = sparse.csr_matrix(rng.poisson(rates).astype(np.float32))
        sections.append(section)
        labels[section.name] = np.where(np.arange(30) < 10, true, None)
    settings = {"width": 4, "epochs": 60, "label_epochs": 40, "n_genes": 12, "device": "cpu"}
    out = learn_from_counts(sections, tmp_path / "m", labels=labels, settings=settings)
    made = as_classifier(out)
    assert (made.classes, made.provenance.n_spots) == (["fat", "tumour"], 20)
    assert made.validation["by"] == "patients"
    assert made.validation["n_spots"] == 20
    assert made.validation["scores"]["classifier"]["accuracy"] > 0.9
    told, grid = tell_subtypes(made, sections[0])
    assert grid is None
    np.testing.assert_allclose(told.probabilities.sum(axis=1), 1, atol=1e-5)
    assert np.mean(told.labels[10:] == true[10:]) > 0.9
    with pytest.raises(SpotScopeError, match="measured spots alone"):
        made.predict_subtypes(Places.on_grid(sections[0], 40))
