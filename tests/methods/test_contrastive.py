from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spotscope.data.cohort import Cohort
from spotscope.data.places import Places
from spotscope.errors import Cancelled, SpotScopeError
from spotscope.methods.base import get_method, load_method
from spotscope.training.embed import embed_spots
from spotscope.training.settings import TrainingSettings

NAMES = ("clip", "bleep", "mclstexp")


def _settings(**more: object) -> dict[str, object]:
    return {
        "panel": {"n_genes": 60},
        "epochs": 12,
        "batch_size": 64,
        "learning_rate": 1e-3,
        "neighbours": 20,
        "width": 32,
        "device": "cpu",
        **more,
    }


def _mean_pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(0), b - b.mean(0)
    norm = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return float(((a * b).sum(0) / np.where(norm > 0, norm, np.inf)).mean())


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_on_frozen_features_predicts_a_new_patient_and_survives_the_disk(
    name: str, split: tuple[Cohort, Cohort], tmp_path: Path
) -> None:
    train, test = split
    method = get_method(name)(_settings(), encoder="stain").fit(train)
    places = Places.on_spots(test.sections[0])
    found = method.predict(places)
    assert _mean_pearson(found.expression, test.expression(found.genes)) > 0.15
    assert found.uncertainty is not None
    assert found.uncertainty.shape == found.expression.shape
    assert method.scores["loss"] < method.scores["chance"]
    method.save(tmp_path / "model")
    again = load_method(tmp_path / "model").predict(places)
    np.testing.assert_allclose(again.expression, found.expression, atol=1e-5)


def test_the_published_form_of_mclstexp_embeds_by_batch_and_survives_the_disk(
    split: tuple[Cohort, Cohort], tmp_path: Path
) -> None:
    train, test = split
    settings = _settings(paper_compat=True, epochs=2)
    method = get_method("mclstexp")(settings, encoder="stain").fit(train)
    assert any("depends on which spots are embedded with it, 64" in n for n in method.notes)
    table, known = method.spot_table(train), method.reference.embeddings.numpy()
    for size, same in ((64, True), (65, False)):
        made = embed_spots(method.model, table, batch_size=size)
        assert np.allclose(made, known, atol=1e-5) == same
    method.save(tmp_path / "model")
    places = Places.on_spots(test.sections[0])
    np.testing.assert_allclose(
        load_method(tmp_path / "model").predict(places).expression,
        method.predict(places).expression,
        atol=1e-5,
    )


@pytest.fixture(scope="module")
def small_network(tmp_path_factory: pytest.TempPathFactory) -> str:
    import timm
    from safetensors.torch import save_file

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("test_resnet", pretrained=False, num_classes=0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(network.state_dict(), path)
    return f"local:{path}#timm:test_resnet"


@pytest.mark.parametrize("trainable", ["all", "last"])
def test_a_trained_network_comes_back_without_its_first_weights(
    trainable: str, small_network: str, split: tuple[Cohort, Cohort], tmp_path: Path
) -> None:
    train, test = split
    settings = _settings(epochs=1, trainable=trainable, panel={"n_genes": 20})
    method = get_method("bleep")(settings, encoder=small_network).fit(train)
    places = Places.on_spots(test.sections[0])
    found = method.predict(places)
    method.save(tmp_path / "model")
    weights = Path(small_network.removeprefix("local:").partition("#")[0])
    moved = weights.rename(weights.with_suffix(".away"))
    try:
        again = load_method(tmp_path / "model").predict(places)
    finally:
        moved.rename(weights)
    np.testing.assert_allclose(again.expression, found.expression, atol=1e-4)


def test_a_section_of_the_reference_is_refused(split: tuple[Cohort, Cohort]) -> None:
    train, _ = split
    method = get_method("clip")(_settings(epochs=1), encoder="stain").fit(train)
    with pytest.raises(SpotScopeError, match="in this model's reference"):
        method.predict(Places.on_spots(train.sections[0]))


def test_more_neighbours_than_training_spots_are_refused_before_training(
    split: tuple[Cohort, Cohort],
) -> None:
    with pytest.raises(SpotScopeError, match="cannot be had from"):
        get_method("clip")(_settings(neighbours=5000), encoder="stain").fit(split[0])


def test_other_patients_loss_ends_the_training_and_their_best_epoch_is_kept(
    three_patients: Cohort,
) -> None:
    first, second, third = (Cohort((section,)) for section in three_patients.sections)
    settings = _settings(epochs=60, patience=2, learning_rate=1e-2, panel={"n_genes": 20})
    method = get_method("clip")(settings, encoder="stain").fit(first, second)
    losses = [row["val_loss"] for row in method.history]
    assert len(losses) == int(np.argmin(losses)) + 3 < 60
    assert "lowest in epoch" in method.notes[0]
    assert set(method.reference.section_names) == set(first.names)  # not the validation's
    assert len(method.notes) == 1
    places = Places.on_spots(third.sections[0])
    shorter = {**settings, "epochs": int(np.argmin(losses)) + 1, "patience": None}
    again = get_method("clip")(shorter, encoder="stain").fit(first)
    np.testing.assert_allclose(
        method.predict(places).expression, again.predict(places).expression, atol=1e-5
    )


def test_patience_without_patients_to_validate_on_and_known_patients_are_told_of(
    split: tuple[Cohort, Cohort],
) -> None:
    train, _ = split
    settings = _settings(epochs=1, patience=1)
    method = get_method("clip")(settings, encoder="stain").fit(train)
    assert any("patience needs patients to validate on" in note for note in method.notes)
    section = train.sections[0].subset(np.arange(100))
    section.name = "again"
    method = get_method("clip")(settings, encoder="stain").fit(train, Cohort((section,)))
    (note,) = [note for note in method.provenance.notes if "flatters" in note]
    assert note.startswith(f"Patient {section.patient} was both trained and validated on")


def test_a_killed_training_goes_on_only_where_nothing_has_changed(
    split: tuple[Cohort, Cohort],
) -> None:
    train, test = split
    method = get_method("clip")(_settings(epochs=1), encoder="stain").fit(train)
    same = method._run_folder(train, None)
    assert same == method._run_folder(train, None)
    moved = train.sections[0].subset(np.arange(train.sections[0].n_spots))
    moved.measured().obsm["spatial"] = moved.measured().obsm["spatial"] + 3.0
    others = [
        method._run_folder(train, test),
        method._run_folder(Cohort((moved, *train.sections[1:])), None),
        method._run_folder(test, None),
    ]
    assert len({same, *others}) == 4


def test_neighbours_name_the_spots_that_a_prediction_was_made_from(
    split: tuple[Cohort, Cohort],
) -> None:
    from spotscope.progress import Progress

    train, test = split
    method = get_method("bleep")(_settings(epochs=3, neighbours=5), encoder="stain").fit(train)
    found = method.retrieve(Places.on_spots(test.sections[0]), Progress())
    sections, spots = method.reference.describe(found.neighbours.index)
    measured = {
        (section.name, str(barcode)): row
        for section in train.sections
        for barcode, row in zip(section.barcodes, section.expression(method.genes), strict=True)
    }
    mean = np.mean([measured[key] for key in zip(sections[7], spots[7], strict=True)], axis=0)
    np.testing.assert_allclose(found.expression[7], mean, atol=1e-5)


def test_bleep_as_published_has_hard_targets_and_by_default_soft_ones() -> None:
    method = get_method("bleep")
    published, ours = (
        method({"paper_compat": compat}, encoder="stain").loss() for compat in (True, False)
    )
    shared = torch.randn(1, 1, 256)  # spots of a tissue are alike
    image, spot = torch.nn.functional.layer_norm(2 * shared + torch.randn(2, 16, 256), (256,))
    from spotscope.nets.contrastive import soft_targets
    from spotscope.nets.projection import unit

    hard = soft_targets(image, spot, published.temperature)
    soft = soft_targets(unit(image), unit(spot), ours.temperature)
    assert hard.diagonal().min() > 1 - 1e-6
    assert soft.diagonal().max() < 0.9


def test_bleeps_loss_is_its_own_and_clips_the_plain_one() -> None:
    for compat in (True, False):
        bleep = get_method("bleep")({"paper_compat": compat}, encoder="stain").loss()
        assert (bleep.kind, bleep.published) == ("soft_target", compat)
        clip = get_method("clip")({"paper_compat": compat}, encoder="stain").loss()
        assert clip.kind == "hard"


@pytest.mark.parametrize("patches", [False, True])
def test_the_training_is_told_every_setting(
    patches: bool,
    small_network: str,
    split: tuple[Cohort, Cohort],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[TrainingSettings] = []

    def catch(model: object, data: object, settings: TrainingSettings, **_: object) -> None:
        told.append(settings)
        raise Cancelled

    monkeypatch.setattr("spotscope.training.engine.train", catch)
    own = {"epochs": 7, "batch_size": 33, "learning_rate": 0.02, "weight_decay": 0.3}
    own |= {"accumulate": 3, "precision": "bfloat16"}
    settings = {**_settings(), **own, "patience": 4, "seed": 9}
    encoder = small_network if patches else "stain"
    with pytest.raises(Cancelled):
        get_method("clip")(settings, encoder=encoder).fit(split[0])
    (found,) = told
    assert {name: getattr(found, name) for name in own} == own
    assert (found.patience, found.seed, found.device) == (4, 9, "cpu")
    assert (found.augmentation is not None) == patches
    with pytest.raises(Cancelled):
        get_method("clip")({**settings, "augment": False}, encoder=encoder).fit(split[0])
    assert told[1].augmentation is None


def test_neighbours_lie_at_their_offsets_in_spot_distances(split: tuple[Cohort, Cohort]) -> None:
    method = get_method("mclstexp")(_settings(around=6), encoder="stain")
    method.genes = list(split[0].genes[:5])
    expression, offsets, present = method.spot_table(split[0]).spot_inputs(torch.arange(40))
    torch.testing.assert_close(
        expression[:, 0], torch.from_numpy(split[0].expression(method.genes)[:40])
    )
    apart = offsets.norm(dim=2)
    assert (apart[:, 0] == 0).all()
    nearest = apart[:, 1][present[:, 1]]
    torch.testing.assert_close(nearest.median(), torch.tensor(1.0), atol=0.05, rtol=0)


@pytest.mark.parametrize("name", ["bleep", "mclstexp"])
def test_neighbours_weigh_as_the_method_says(name: str, split: tuple[Cohort, Cohort]) -> None:
    from spotscope.progress import Progress

    method = get_method(name)(_settings(epochs=1, neighbours=5), encoder="stain").fit(split[0])
    found = method.retrieve(Places.on_spots(split[1].sections[0]), Progress())
    if name == "bleep":
        np.testing.assert_allclose(found.weights, 0.2, rtol=1e-5)
        return
    shares = 1 / (found.neighbours.distance2.double().numpy() + 1e-6)
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.weights, shares, rtol=1e-4)
    assert np.ptp(found.weights, axis=1).max() > 0.01


def test_the_search_runs_where_the_network_does_when_the_reference_fits(
    split: tuple[Cohort, Cohort], monkeypatch: pytest.MonkeyPatch
) -> None:
    from spotscope.nets.retrieval import ReferenceIndex

    method = get_method("clip")(_settings(epochs=1), encoder="stain").fit(split[0])
    places = Places(split[1].sections[0], split[1].sections[0].centres_px[:3])
    before = method.predict(places).expression
    asked, moved = [], []
    for fits in (False, True):
        monkeypatch.setattr(
            ReferenceIndex, "fits", lambda _, device, fits=fits: (asked.append(device), fits)[1]
        )
        monkeypatch.setattr(ReferenceIndex, "to", lambda _, device: moved.append(device))
        np.testing.assert_array_equal(method.predict(places).expression, before)
        assert moved == (["cpu"] if fits else [])
    assert asked == ["cpu", "cpu"]


def test_the_same_seed_trains_the_same_model(split: tuple[Cohort, Cohort]) -> None:
    train, test = split
    places = Places.on_spots(test.sections[0])
    first, second = (
        get_method("clip")(_settings(epochs=2, seed=seed), encoder="stain")
        .fit(train)
        .predict(places)
        for seed in (1, 1)
    )
    np.testing.assert_array_equal(first.expression, second.expression)


@pytest.mark.parametrize("name", ["clip", "bleep", "st_gchb", "tpirbae"])
def test_the_settings_say_the_temperature_and_length_that_are_used(name: str) -> None:
    method = get_method(name)
    ours, published = (method.Settings(paper_compat=compat) for compat in (False, True))
    assert (ours.temperature, ours.normalise) == (0.1, True)
    assert (published.temperature, published.normalise) == (1.0, False)
    for settings in (ours, published):
        assert method.Settings.model_validate(settings.model_dump()) == settings
        loss = method(settings, encoder="stain").loss()
        assert loss.normalise == settings.normalise
        used = (loss.temperature, loss.target_temperature)
        assert settings.temperature in [pytest.approx(float(t)) for t in used if t is not None]
    set_ = method.Settings(paper_compat=True, temperature=0.3, normalise=True)
    assert (set_.temperature, set_.normalise) == (0.3, True)
