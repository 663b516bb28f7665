from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spotscope.data.cohort import Cohort
from spotscope.data.places import Places
from spotscope.errors import Cancelled, SpotScopeError
from spotscope.methods import tpirbae
from spotscope.methods.base import load_method
from spotscope.methods.latent import LatentSpace, fit_latent
from spotscope.methods.tpirbae import TpirbaeMethod
from spotscope.nets.contrastive import weighted_loss
from spotscope.progress import Progress


def _settings(**more: object) -> dict[str, object]:
    return {
        "panel": {"n_genes": 60},
        "latent_width": 8,
        "latent_epochs": 40,
        "label_epochs": 3,
        "epochs": 10,
        "batch_size": 64,
        "learning_rate": 3e-3,
        "neighbours": 20,
        "width": 32,
        "device": "cpu",
        **more,
    }


@pytest.fixture(scope="module")
def trained(split: tuple[Cohort, Cohort]) -> tuple[TpirbaeMethod, dict[str, np.ndarray]]:
    """A model, and copies of its latent encoder's numbers from before the pair was trained."""
    before: dict[str, np.ndarray] = {}

    def spy(*args: object, **options: object) -> LatentSpace:
        space = fit_latent(*args, **options)
        before.update({name: value.copy() for name, value in space.weights.items()})
        return space

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tpirbae, "fit_latent", spy)
        return TpirbaeMethod(_settings(), encoder="stain").fit(split[0]), before


def test_nothing_of_the_latent_encoder_moves_while_the_pair_is_trained(
    trained: tuple[TpirbaeMethod, dict[str, np.ndarray]],
) -> None:
    method, before = trained
    assert method.latent is not None
    assert before.keys() == method.latent.weights.keys()
    for name, value in method.latent.weights.items():
        np.testing.assert_array_equal(value, before[name])
    assert not list(method.model.spot_encoder.parameters())
    assert not list(method.model.spot_encoder.buffers())


def test_it_learns_the_pairs_and_predicts_a_new_patient_after_the_disk(
    trained: tuple[TpirbaeMethod, dict[str, np.ndarray]],
    split: tuple[Cohort, Cohort],
    tmp_path: Path,
) -> None:
    method, _ = trained
    assert method.scores["loss"] < 0.98 * method.scores["chance"]
    places = Places.on_spots(split[1].sections[0])
    found = method.predict(places)
    method.save(tmp_path / "model")
    assert not (method._run_folder(split[0], None) / "latent").exists()
    again = load_method(tmp_path / "model")
    assert isinstance(again, TpirbaeMethod)
    np.testing.assert_allclose(again.predict(places).expression, found.expression, atol=1e-5)
    assert again.latent is not None
    assert method.latent is not None
    assert again.latent.record() == method.latent.record()


def test_the_test_patient_teaches_nothing(
    trained: tuple[TpirbaeMethod, dict[str, np.ndarray]], split: tuple[Cohort, Cohort]
) -> None:
    method, _ = trained
    assert method.latent is not None
    assert method.latent.patients == split[0].patients
    assert not set(method.latent.patients) & set(split[1].patients)


def test_in_training_spots_are_sampled_from_their_posterior(
    trained: tuple[TpirbaeMethod, dict[str, np.ndarray]], split: tuple[Cohort, Cohort]
) -> None:
    method, _ = trained
    assert method.latent is not None
    mean, scale = (torch.from_numpy(part[:5]) for part in method.latent.posterior(split[0]))
    sampler = method.model.spot_encoder
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = torch.stack([sampler.train()(mean, scale) for _ in range(4000)])
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.07, rtol=0)
    torch.testing.assert_close(drawn.std(0), scale, atol=0, rtol=0.06)
    torch.testing.assert_close(sampler.eval()(mean, scale), mean)


@pytest.mark.parametrize("contrast", ["wsi", "swsi"])
def test_the_weighted_losses_are_the_papers_when_asked(contrast: str) -> None:
    loss = TpirbaeMethod({"contrast": contrast, "paper_compat": True}, encoder="stain").loss()
    image, spot = torch.randn(2, 6, 4)
    expected, _ = weighted_loss(
        image @ spot.T, image, spot, separate=contrast == "swsi", normalise_weights=False
    )
    torch.testing.assert_close(loss(image, spot).loss, expected)


def test_with_genes_in_place_of_the_latent_space_it_is_clip(split: tuple[Cohort, Cohort]) -> None:
    from spotscope.methods.clip import ClipMethod

    shared = {"panel": {"n_genes": 60}, "epochs": 2, "batch_size": 64, "width": 16}
    places = Places.on_spots(split[1].sections[0])
    ours = TpirbaeMethod({**shared, "latent": "genes"}, encoder="stain").fit(split[0])
    clip = ClipMethod(shared, encoder="stain").fit(split[0])
    np.testing.assert_array_equal(ours.predict(places).expression, clip.predict(places).expression)


def test_a_training_that_goes_on_keeps_its_latent_space(
    split: tuple[Cohort, Cohort], monkeypatch: pytest.MonkeyPatch
) -> None:
    spaces: list[LatentSpace] = []

    def spy(*args: object, **options: object) -> LatentSpace:
        spaces.append(fit_latent(*args, **options))
        return spaces[-1]

    monkeypatch.setattr(tpirbae, "fit_latent", spy)
    settings = _settings(latent="scvi", latent_epochs=1, epochs=1, seed=5)

    def stop(*_: object, **__: object) -> None:
        raise Cancelled

    with monkeypatch.context() as patch:
        patch.setattr("spotscope.training.engine.train", stop)
        with pytest.raises(Cancelled):
            TpirbaeMethod(settings, encoder="stain").fit(split[0])
    method = TpirbaeMethod(settings, encoder="stain").fit(split[0])
    assert len(spaces) == 1
    assert method.latent is not None
    np.testing.assert_array_equal(
        method.latent.weights["mean.weight"], spaces[0].weights["mean.weight"]
    )


def test_without_labels_scanvi_says_what_to_choose(split: tuple[Cohort, Cohort]) -> None:
    bare = []
    for section in split[0].sections:
        copy = section.subset(np.arange(40))
        del copy.measured().obs["subtype"]
        bare.append(copy)
    with pytest.raises(SpotScopeError, match="or choose scvi"):
        TpirbaeMethod(_settings(), encoder="stain").fit(Cohort(tuple(bare)), None, Progress())
