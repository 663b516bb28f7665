from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spotscope.data.cohort import Cohort
from spotscope.data.places import Places
from spotscope.encoders.features import features
from spotscope.errors import SpotScopeError
from spotscope.methods.base import get_method
from spotscope.methods.contrastive import ContrastiveMethod
from spotscope.methods.latent import UNKNOWN, cohort_labels
from spotscope.methods.pair_images import FrozenImages
from spotscope.methods.subtypes import SubtypeClassifier

QUICK: dict[str, Any] = {"device": "cpu", "epochs": 15}


def _pair(encoder: str, train: Cohort, **more: object) -> ContrastiveMethod:
    settings = {"panel": {"n_genes": 30}, "epochs": 2, "batch_size": 64, "width": 32, **more}
    pair = get_method("clip")({**settings, "device": "cpu"}, encoder=encoder).fit(train)
    assert isinstance(pair, ContrastiveMethod)
    return pair


@pytest.fixture(scope="module")
def on_stain(split: tuple[Cohort, Cohort]) -> ContrastiveMethod:
    return _pair("stain", split[0])


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


@pytest.fixture(scope="module")
def few(split: tuple[Cohort, Cohort]) -> tuple[Cohort, Cohort]:
    """The same sections with some 20 spots each: networks are slow on a CPU."""
    train, test = (
        Cohort(tuple(s.subset(np.arange(0, s.n_spots, 8)) for s in part.sections))
        for part in split
    )
    return train, test


@pytest.fixture(scope="module")
def on_network(small_network: str, few: tuple[Cohort, Cohort]) -> ContrastiveMethod:
    return _pair(small_network, few[0], epochs=1, neighbours=5)


def _state(pair: ContrastiveMethod) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in pair.model.state_dict().items()}


def _same(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_subtypes_of_a_new_patient_are_told_better_than_the_commonest(
    head: str, split: tuple[Cohort, Cohort], tmp_path: Path
) -> None:
    train, test = split
    classifier = SubtypeClassifier({**QUICK, "head": head, "balanced": False}, "stain").fit(train)
    places = Places.on_spots(test.sections[0])
    found = classifier.predict_subtypes(places)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    truth = cohort_labels(test)
    known = truth != UNKNOWN
    commonest = max(np.mean(truth[known] == name) for name in found.classes)
    assert np.mean(found.labels[known] == truth[known]) > commonest + 0.1
    classifier.save(tmp_path / "model")
    again = SubtypeClassifier.load(tmp_path / "model")
    assert again.record() == classifier.record()
    assert again.record()["training_patients"] == train.patients
    np.testing.assert_allclose(
        again.predict_subtypes(places).probabilities, found.probabilities, atol=1e-6
    )


@pytest.mark.parametrize("trunk", ["none", "all"])
def test_after_a_pair_on_features_the_head_is_gone_on_with_and_the_pair_stays_as_it_is(
    trunk: str, on_stain: ContrastiveMethod, split: tuple[Cohort, Cohort], tmp_path: Path
) -> None:
    before = _state(on_stain)
    classifier = SubtypeClassifier({**QUICK, "trunk": trunk}, pretrained=on_stain).fit(split[0])
    assert _same(before, _state(on_stain))
    pairs = {k: v for k, v in before.items() if k.startswith("image_head.")}
    ours = {
        name.replace("projection.", "image_head."): value
        for name, value in classifier.model.state_dict().items()
        if name.startswith("projection.")
    }
    assert ours.keys() == pairs.keys()
    assert _same(pairs, ours) == (trunk == "none")
    places = Places.on_spots(split[1].sections[0])
    found = classifier.predict_subtypes(places)
    assert classifier.record()["pretrained"] == "clip"
    classifier.save(tmp_path / "model")
    again = SubtypeClassifier.load(tmp_path / "model").predict_subtypes(places)
    np.testing.assert_allclose(again.probabilities, found.probabilities, atol=1e-6)


@pytest.mark.parametrize(("trunk", "start"), [("none", "auto"), ("last", "auto"), ("all", "head")])
def test_after_a_pair_with_its_network_only_what_may_be_trained_changes(
    trunk: str,
    start: str,
    on_network: ContrastiveMethod,
    few: tuple[Cohort, Cohort],
    tmp_path: Path,
) -> None:
    before = _state(on_network)
    settings = {**QUICK, "epochs": 1, "trunk": trunk, "start": start}
    classifier = SubtypeClassifier(settings, pretrained=on_network).fit(few[0])
    assert _same(before, _state(on_network))
    pairs = {k: v for k, v in before.items() if k.startswith("image_encoder.trunk.")}
    ours = classifier.model.state_dict()
    assert _same(pairs, ours) == (trunk == "none")
    first = "image_encoder.trunk.stem.conv1.weight"
    first = first if first in pairs else next(iter(pairs))
    assert torch.equal(pairs[first], ours[first]) == (trunk != "all")
    assert any(name.startswith("projection.") for name in ours) == (start == "head")
    places = Places.on_spots(few[1].sections[0])
    found = classifier.predict_subtypes(places)
    classifier.save(tmp_path / "model")
    again = SubtypeClassifier.load(tmp_path / "model").predict_subtypes(places)
    np.testing.assert_allclose(again.probabilities, found.probabilities, atol=1e-5)


def test_balance_gives_every_class_the_same_say() -> None:
    from spotscope.training.classifier import weights_and_chance

    classes = torch.tensor([0] * 8 + [1] * 2)
    weights, chance = weights_and_chance(classes, 2, balanced=True)
    torch.testing.assert_close(weights, torch.tensor([0.625, 2.5]))
    assert chance == pytest.approx(np.log(2))
    weights, chance = weights_and_chance(classes, 2, balanced=False)
    torch.testing.assert_close(weights, torch.ones(2))
    assert chance == pytest.approx(-0.8 * np.log(0.8) - 0.2 * np.log(0.2))


def test_features_are_standardised_over_the_sections_of_the_spots_learnt_from_alone(
    split: tuple[Cohort, Cohort],
) -> None:
    from spotscope.data.labelled import LabelledSpots
    from spotscope.progress import Progress

    both = Cohort((*split[0].sections, *split[1].sections))
    spots = LabelledSpots.among(both)
    classifier = SubtypeClassifier({**QUICK, "head": "mlp", "epochs": 1}, "stain")
    looked = classifier.look(spots, Progress())
    assert looked is not None
    train = spots.patient_of != split[1].patients[0]
    classifier.fit_spots(spots.of(train), looked.of(train))
    alone = SubtypeClassifier({**QUICK, "head": "mlp", "epochs": 1}, "stain").fit(split[0])
    assert isinstance(classifier.images, FrozenImages)
    assert isinstance(alone.images, FrozenImages)
    np.testing.assert_allclose(classifier.images.mean, alone.images.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(classifier.images.scale, alone.images.scale, rtol=1e-5, atol=1e-6)
    seen = np.concatenate(
        [features(Places.on_spots(s), alone._encoder) for s in split[0].sections]
    )
    np.testing.assert_allclose(alone.images.mean, seen.mean(axis=0), rtol=1e-4, atol=1e-5)
    varies = seen.std(axis=0) > 1e-6
    np.testing.assert_allclose(alone.images.scale[varies], seen.std(axis=0)[varies], rtol=1e-4)


def test_labels_of_one_class_or_none_are_refused(split: tuple[Cohort, Cohort]) -> None:
    section = split[0].sections[0]
    labels = section.labels
    assert labels is not None
    one = section.subset(labels.codes == 0)
    with pytest.raises(SpotScopeError, match="nothing to tell apart"):
        SubtypeClassifier(QUICK, "stain").fit(Cohort((one,)))
    del one.measured().obs["subtype"]
    with pytest.raises(SpotScopeError, match="has a subtype"):
        SubtypeClassifier(QUICK, "stain").fit(Cohort((one,)))


def test_a_model_of_expression_is_not_taken_for_a_classifier(
    on_stain: ContrastiveMethod, split: tuple[Cohort, Cohort], tmp_path: Path
) -> None:
    on_stain.save(tmp_path / "model")
    with pytest.raises(SpotScopeError, match="predicts expression"):
        SubtypeClassifier.load(tmp_path / "model")
    with pytest.raises(SpotScopeError, match="not trained yet"):
        SubtypeClassifier(QUICK, "stain").predict_subtypes(Places.on_spots(split[0].sections[0]))
