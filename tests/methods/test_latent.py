from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spotscope.data.cohort import Cohort
from spotscope.errors import Cancelled, SpotScopeError
from spotscope.methods import latent_training
from spotscope.methods.latent import (
    UNKNOWN,
    LatentSettings,
    LatentSpace,
    cohort_labels,
    fit_latent,
    frozen,
)
from spotscope.methods.latent_training import (
    learn_scanvi,
    learn_scvi,
    scanvi_from,
    train_latent_model,
)
from spotscope.progress import Progress, Step

QUICK = LatentSettings(width=5, hidden=16, epochs=3, label_epochs=2, device="cpu")


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    """200 spots of two patients and 100 genes."""
    rng = np.random.default_rng(0)
    rate = rng.gamma(2.0, 2.0, (2, 100))[np.arange(200) % 2]
    return rng.poisson(rate).astype(np.float32)


@pytest.fixture(scope="module")
def patients() -> np.ndarray:
    return np.array(["A", "B"])[np.arange(200) % 2]


@pytest.fixture(scope="module")
def scanvi(counts: np.ndarray, patients: np.ndarray) -> Any:
    labels = np.array(["tumour", "stroma", UNKNOWN, UNKNOWN])[np.arange(200) // 50]
    labels = np.append(labels[:-1], "tumour")  # 101 labelled: a last batch of one, were it 100
    return train_latent_model(counts, patients, labels, QUICK)


@pytest.fixture(scope="module")
def space(scanvi: Any) -> LatentSpace:
    return frozen(scanvi, "scanvi", [f"G{i}" for i in range(100)], QUICK, ["A", "B"])


def test_the_frozen_encoder_gives_what_the_library_gives_directly_and_by_its_interface(
    scanvi: Any, space: LatentSpace, counts: np.ndarray
) -> None:
    mean, variance = scanvi.get_latent_representation(return_dist=True)
    scanvi.module.eval()
    with torch.no_grad():
        direct, _ = scanvi.module.z_encoder(torch.log1p(torch.from_numpy(counts)))
    ours, scale = space.encode(counts)
    np.testing.assert_allclose(ours, mean, atol=2e-5)
    np.testing.assert_allclose(ours, direct.loc.numpy(), atol=2e-5)
    np.testing.assert_allclose(scale**2, variance, rtol=1e-4)


def test_the_patient_does_not_enter_the_encoder(scanvi: Any, counts: np.ndarray) -> None:
    x = torch.from_numpy(counts[:8])
    scanvi.module.eval()
    with torch.no_grad():
        found = [
            scanvi.module.inference(x, torch.full((8, 1), patient))["qz"].loc for patient in (0, 1)
        ]
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_the_frozen_classifier_tells_what_the_library_tells(
    scanvi: Any, space: LatentSpace, counts: np.ndarray
) -> None:
    told = scanvi.predict(soft=True)
    assert list(told.columns) == space.classes
    assert set(space.classes) == {"stroma", "tumour"}
    np.testing.assert_allclose(told.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(space.tell(space.encode(counts)[0]), told, atol=1e-5)
    without = dataclasses.replace(space, classes=[])
    with pytest.raises(SpotScopeError, match="without subtypes"):
        without.tell(space.encode(counts)[0])


def test_scanvi_leaves_the_scvi_it_begins_at_as_it_is(
    counts: np.ndarray, patients: np.ndarray
) -> None:
    scvi = learn_scvi(counts, patients, QUICK)
    before = {name: value.clone() for name, value in scvi.module.state_dict().items()}
    labels = np.array(["a", "b", UNKNOWN])[np.arange(200) % 3]
    first = learn_scanvi(scvi, labels, QUICK).predict(soft=True)
    learn_scanvi(scvi, np.roll(labels, 1), QUICK)
    again = learn_scanvi(scvi, labels, QUICK).predict(soft=True)
    assert all(torch.equal(before[n], v) for n, v in scvi.module.state_dict().items())
    np.testing.assert_allclose(first, again, atol=1e-6)


def test_a_space_survives_the_disk_without_a_pickle(
    space: LatentSpace, counts: np.ndarray, tmp_path: Path
) -> None:
    space.save(tmp_path / "space")
    assert {p.suffix for p in (tmp_path / "space").iterdir()} == {".json", ".safetensors"}
    again = LatentSpace.load(tmp_path / "space")
    assert (again.genes, again.kind, again.settings) == (space.genes, space.kind, space.settings)
    for ours, theirs in zip(again.encode(counts), space.encode(counts), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    (tmp_path / "space" / "latent.json").write_text("{")
    with pytest.raises(SpotScopeError, match="no whole latent space"):
        LatentSpace.load(tmp_path / "space")


def test_its_weights_cannot_be_written_to(space: LatentSpace) -> None:
    with pytest.raises(ValueError, match="read-only"):
        space.weights["mean.bias"][0] = 1


@pytest.mark.parametrize("wrong", [0.5, -1.0, np.nan])
def test_what_are_no_counts_are_refused(
    wrong: float, counts: np.ndarray, patients: np.ndarray, space: LatentSpace
) -> None:
    spoilt = counts.copy()
    spoilt[3, 4] = wrong
    with pytest.raises(SpotScopeError, match="raw counts"):
        train_latent_model(spoilt, patients, None, QUICK)
    with pytest.raises(SpotScopeError, match="raw counts"):
        space.encode(spoilt)


def test_labels_of_less_than_two_subtypes_are_refused(
    counts: np.ndarray, patients: np.ndarray
) -> None:
    with pytest.raises(SpotScopeError, match="no spot is labelled"):
        train_latent_model(counts, patients, np.full(200, UNKNOWN), QUICK)
    with pytest.raises(SpotScopeError, match="only 'tumour' is labelled"):
        train_latent_model(counts, patients, np.full(200, "tumour"), QUICK)


def test_a_model_set_up_with_other_labels_is_refused(
    counts: np.ndarray, patients: np.ndarray
) -> None:
    import scvi

    table = latent_training._table(counts, patients)
    table.obs["other"] = patients
    scvi.model.SCVI.setup_anndata(table, batch_key="patient", labels_key="other")
    with pytest.raises(SpotScopeError, match="set up with the labels 'other'"):
        scanvi_from(scvi.model.SCVI(table), "subtype")


def test_a_cancelled_training_stops_within_a_batch_and_reports_until_then(
    counts: np.ndarray, patients: np.ndarray
) -> None:
    stop, told = threading.Event(), []

    def listen(step: Step) -> None:
        told.append(step.message)
        if "epoch 2" in step.message:
            stop.set()

    endless = LatentSettings(width=5, hidden=16, epochs=100_000, device="cpu")
    with pytest.raises(Cancelled):
        train_latent_model(counts, patients, None, endless, Progress(listen, stop))
    assert told[1:] == [f"Latent space: epoch {i} of 100000" for i in (1, 2)]


def test_hidden_patients_labels_are_unknown_before_the_set_up(
    three_patients: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def catch(counts: Any, patients: Any, labels: Any, *_: Any) -> Any:
        seen.update(patients=patients, labels=labels)
        raise Cancelled

    monkeypatch.setattr(latent_training, "train_latent_model", catch)
    held = three_patients.patients[2]
    with pytest.raises(Cancelled):
        fit_latent(three_patients, "scanvi", QUICK, hidden=[held])
    own = seen["patients"] == held
    assert set(seen["labels"][own]) == {UNKNOWN}
    truth = cohort_labels(three_patients)
    assert len(set(truth[own]) - {UNKNOWN}) > 1
    np.testing.assert_array_equal(seen["labels"][~own], truth[~own])


def test_the_same_seed_learns_the_same_space(counts: np.ndarray, patients: np.ndarray) -> None:
    first, second = (
        train_latent_model(counts, patients, None, QUICK).get_latent_representation()
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_the_prior_has_its_whole_weight_by_the_middle_of_any_run(
    counts: np.ndarray, patients: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    import scvi

    told: list[dict[str, Any]] = []
    monkeypatch.setattr(scvi.model.SCVI, "train", lambda _self, **given: told.append(given))
    for epochs in (1, 40):
        settings = dataclasses.replace(QUICK, epochs=epochs, kl_weight=2.0)
        train_latent_model(counts, patients, None, settings)
        plan = told[-1]["plan_kwargs"]
        assert told[-1]["max_epochs"] == epochs
        assert plan["n_epochs_kl_warmup"] == max(1, epochs // 2)
        assert plan["max_kl_weight"] == 2.0


def test_no_batch_of_a_single_spot_is_left() -> None:
    assert latent_training._batch_size(128, [257, 40]) == 127
    assert latent_training._batch_size(128, [129, 255]) == 126


@pytest.mark.parametrize("rate", [1e3, 1e8])
def test_a_loss_that_is_no_number_is_refused_with_the_batch(
    rate: float, counts: np.ndarray, patients: np.ndarray
) -> None:
    wild = dataclasses.replace(QUICK, learning_rate=rate)
    with pytest.raises(SpotScopeError, match=r"no longer a number after batch \d+ of epoch \d+;"):
        train_latent_model(counts, patients, None, wild)
