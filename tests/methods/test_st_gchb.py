from __future__ import annotations

import copy
import dataclasses
import math
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from spotscope.data.cohort import Cohort
from spotscope.data.places import Places
from spotscope.errors import Cancelled, SpotScopeError
from spotscope.methods.base import get_method, load_method
from spotscope.methods.st_gchb import StGchbMethod
from spotscope.methods.st_gchb_graph import Spacing, as_matrix, positions_um
from spotscope.nets.hsic import hsic, nhsic
from spotscope.progress import Progress, Step
from spotscope.training.models import Batch

Split = tuple[Cohort, Cohort]


def _method(encoder: str = "stain", **more: object) -> StGchbMethod:
    settings = {
        "panel": {"n_genes": 60},
        "neighbours": 20,
        "width": 32,
        "device": "cpu",
        "graph_epochs": 25,
        **more,
    }
    method = get_method("st_gchb")(settings, encoder=encoder)
    assert isinstance(method, StGchbMethod)
    return method


def _mean_pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(0), b - b.mean(0)
    norm = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return float(((a * b).sum(0) / np.where(norm > 0, norm, np.inf)).mean())


@pytest.fixture(scope="module")
def fitted(split: Split) -> tuple[StGchbMethod, list[Step]]:
    steps: list[Step] = []
    method = _method().fit(split[0], progress=Progress(steps.append))
    return method, steps


@pytest.fixture
def batch(fitted: tuple[StGchbMethod, list[Step]], split: Split) -> Batch:
    spots = fitted[0].spot_table(split[0])
    shown = fitted[0].images.training(split[0], spots, Progress()).spots
    index = torch.arange(0, 96, 6)
    return Batch(index, None, shown.image_inputs(index), shown.spot_inputs(index))


def _hexagonal(rows: int, cols: int, pitch_um: float) -> np.ndarray:
    row, col = np.divmod(np.arange(rows * cols), cols)
    points = np.stack([row * math.sqrt(3) / 2, col + (row % 2) / 2], axis=1)
    return points * pitch_um


def _square(n: int, pitch_um: float) -> np.ndarray:
    return np.argwhere(np.ones((n, n))) * pitch_um


def _inner(points: np.ndarray, margin: float) -> np.ndarray:
    return ((points > points.min(0) + margin) & (points < points.max(0) - margin)).all(axis=1)


RING = np.array([[0.0, 100], [0, -100], [87, 50], [87, -50], [-87, 50], [-87, -50]])


def test_it_predicts_a_new_patient_and_survives_the_disk(
    fitted: tuple[StGchbMethod, list[Step]], split: Split, tmp_path: Path
) -> None:
    method, section = fitted[0], split[1].sections[0]
    spots, grid = Places.on_spots(section), Places.on_grid(section, 50.0)
    found, mapped = method.predict(spots), method.predict(grid)
    assert _mean_pearson(found.expression, section.expression(found.genes)) > 0.3
    method.save(tmp_path / "model")
    again = load_method(tmp_path / "model")
    np.testing.assert_allclose(again.predict(spots).expression, found.expression, atol=1e-5)
    np.testing.assert_allclose(again.predict(grid).expression, mapped.expression, atol=1e-5)


def test_the_graph_layers_learn_before_the_pair_and_both_terms_are_shown(
    fitted: tuple[StGchbMethod, list[Step]],
) -> None:
    method, steps = fitted
    assert method.scores["graph_spots"] < math.log(2)
    assert method.scores["graph_images"] < math.log(2)
    assert method.scores["contrastive"] < 0.8 * method.scores["chance"]
    last = next(step.values for step in reversed(steps) if "nhsic_input" in step.values)
    assert 0 < last["nhsic_input"] < 1
    assert 0 < last["nhsic_output"] < 1
    assert last["bottleneck"] == pytest.approx(
        last["nhsic_input"] - 25 * last["nhsic_output"], rel=1e-4
    )


def test_a_map_agrees_with_the_spots_whatever_its_stride(
    fitted: tuple[StGchbMethod, list[Step]], split: Split
) -> None:
    from scipy.spatial import cKDTree

    method, section = fitted[0], split[1].sections[0]
    spots = Places.on_spots(section)
    on_spots = method.predict(spots).expression
    middle = np.median(spots.centres_px, axis=0)
    within = np.abs(spots.centres_px - middle).max(axis=1) < 130
    whole = Places.on_grid(section, 50.0)
    window = _square(21, 25.0) + middle - 250
    for places, stride in ((whole, 50.0), (Places(section, window), 25.0)):
        apart, cell = cKDTree(places.centres_px).query(spots.centres_px)
        there = (apart < stride) & (within | (places is whole))
        assert there.sum() > 5
        mapped = method.predict(places).expression[cell]
        off = np.abs(mapped - on_spots)[there].mean()
        assert off < 0.25 * on_spots.std(axis=0).mean()


def test_a_single_point_gets_what_it_gets_among_its_neighbours(
    fitted: tuple[StGchbMethod, list[Step]], split: Split
) -> None:
    method, section = fitted[0], split[1].sections[0]
    spots = Places.on_spots(section)
    graph = method.spacing.graph(spots)
    counts = np.bincount(graph.receivers.numpy())
    two_deep = as_matrix(graph) @ (counts == 7) > 0.999
    chosen = int(np.flatnonzero(two_deep)[0])
    alone = method.predict(Places(section, spots.centres_px[[chosen]])).expression[0]
    np.testing.assert_allclose(alone, method.predict(spots).expression[chosen], atol=1e-5)


def test_predictions_follow_their_places_in_any_order(
    fitted: tuple[StGchbMethod, list[Step]], split: Split
) -> None:
    method, section = fitted[0], split[1].sections[0]
    spots = Places.on_spots(section)
    turned = method.predict(Places(section, spots.centres_px[::-1])).expression
    np.testing.assert_allclose(turned[::-1], method.predict(spots).expression, atol=1e-5)


def test_reference_embeddings_depend_on_no_batch(
    fitted: tuple[StGchbMethod, list[Step]], split: Split
) -> None:
    from spotscope.training.embed import embed_spots

    method, train = fitted[0], split[0]
    whole, small = (
        embed_spots(method.model, method.spot_table(train), batch_size=size) for size in (1024, 7)
    )
    np.testing.assert_allclose(whole, small, atol=1e-5)
    np.testing.assert_allclose(whole, method.reference.embeddings.numpy(), atol=1e-5)
    second = embed_spots(method.model, method.spot_table(Cohort(train.sections[1:])))
    np.testing.assert_allclose(whole[train.sections[0].n_spots :], second, atol=1e-5)


def test_components_and_spacing_come_from_the_training_sections_alone(split: Split) -> None:
    train, test = split
    with_validation = _method(epochs=1, graph_epochs=0).fit(train, validation=test)
    expression = train.expression(with_validation.genes)
    np.testing.assert_allclose(with_validation.mean, expression.mean(axis=0), atol=1e-5)
    assert len(with_validation.axes) == 60
    assert with_validation.spacing.radius_um == pytest.approx(160, rel=1e-6)
    assert len(with_validation.spacing.offsets_um) == 6
    assert "val_loss" in with_validation.history[-1]


def test_the_spots_side_takes_centred_components_and_their_sums_over_the_graph(
    fitted: tuple[StGchbMethod, list[Step]], split: Split
) -> None:
    method, train = fitted[0], split[0]
    own, sums = (table.numpy() for table in method.spot_table(train).tables)
    np.testing.assert_allclose(own.mean(axis=0), 0, atol=1e-4)
    weights = as_matrix(method.spacing.graph(Places.on_spots(train.sections[0])))
    first = train.sections[0].n_spots
    np.testing.assert_allclose(sums[:first], weights @ own[:first], atol=1e-4)
    assert np.abs(sums - own).max() > 0.1


def test_the_loss_is_the_pairs_plus_the_bottleneck(
    fitted: tuple[StGchbMethod, list[Step]], batch: Batch
) -> None:
    model = fitted[0].model.eval()
    result = model.step(batch)
    given, middle = batch.spot_inputs[0], model.spot_encoder(*batch.spot_inputs)
    made = model.spot_head(middle)
    forget, keep = nhsic(given, middle), nhsic(made, middle)
    torch.testing.assert_close(result.values["nhsic_input"], forget.detach())
    torch.testing.assert_close(result.values["nhsic_output"], keep.detach())
    image = model.image_head(model.image_encoder(None, *batch.image_inputs))
    pairs = model.loss(image, made)
    torch.testing.assert_close(result.loss, pairs.loss + forget - 25 * keep)


def test_the_published_image_term_is_not_normalised(
    fitted: tuple[StGchbMethod, list[Step]], batch: Batch
) -> None:
    model = fitted[0].model.eval()
    own, middle = model.image_encoder.seen(None, *batch.image_inputs)
    made = model.image_head(middle)
    expected = {False: nhsic(made, middle), True: hsic(made, middle)}
    for published, term in expected.items():
        model.sides, model.published = ("image",), published
        try:
            values = model.step(batch).values
        finally:
            model.sides, model.published = ("spot",), False
        torch.testing.assert_close(values["image_nhsic_output"], term.detach())
    torch.testing.assert_close(own, batch.image_inputs[0])


def test_dense_places_look_as_far_as_training_spots_did_and_at_as_many() -> None:
    spacing = Spacing(160.0, RING, None, False)
    for stride in (25.0, 40.0, 50.0):
        points = _square(int(900 / stride), stride)
        graph = spacing.joined(points)
        apart = np.linalg.norm(
            points[graph.receivers.numpy()] - points[graph.senders.numpy()], axis=1
        )
        counts = np.bincount(graph.receivers.numpy())
        inner = _inner(points, 130)
        assert set(counts[inner]) == {7}
        ends = apart[inner[graph.receivers.numpy()] & (apart > 0)]
        assert np.abs(ends - 100).max() < 0.75 * stride
        matrix = as_matrix(graph)
        assert abs(matrix - matrix.T).max() < 1e-6


def test_by_default_the_graph_is_symmetric_and_normalised_and_as_published_neither() -> None:
    # Spots on the rim of the array have their six nearest at distances that are not mutual.
    points = _hexagonal(7, 8, 100.0)
    ours = as_matrix(Spacing(160.0, RING, None, False).joined(points)).toarray()
    np.testing.assert_allclose(ours, ours.T)
    np.testing.assert_allclose(ours.sum(axis=1)[_inner(points, 190)], 1, atol=1e-6)
    published = as_matrix(Spacing(160.0, RING, 6, True).joined(points)).toarray()
    assert set(published.ravel()) == {0.0, 1.0}
    np.testing.assert_array_equal(published.sum(axis=1), 7)
    assert (published != published.T).any()
    by_number = as_matrix(Spacing(160.0, RING, 6, False).joined(points)).toarray()
    np.testing.assert_allclose(by_number, by_number.T)


def test_the_published_form_trains_predicts_and_comes_back(split: Split, tmp_path: Path) -> None:
    train, test = split
    method = _method(paper_compat=True, epochs=2).fit(train)
    assert method.settings.sides == ("spot", "image")
    assert method.loss().kind == "alignment"
    assert not method.loss().normalise
    assert method.model.scale == pytest.approx(7.0711, abs=1e-4)
    assert method.model.published
    assert "image_nhsic_output" in method.history[-1]
    places = Places.on_spots(test.sections[0])
    found = method.predict(places).expression
    assert _mean_pearson(found, test.expression(method.genes)) > 0.2
    method.save(tmp_path / "model")
    again = load_method(tmp_path / "model").predict(places).expression
    np.testing.assert_allclose(again, found, atol=1e-5)


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


def test_a_trained_network_sees_the_neighbours_patches_in_training_as_in_prediction(
    small_network: str, split: Split, tmp_path: Path
) -> None:
    from spotscope.training.augment import to_images

    section = split[0].sections[0]
    section = section.subset(np.arange(section.n_spots) < 48)
    train = Cohort((section,))
    method = _method(small_network, epochs=1, batch_size=64, graph_epochs=1).fit(train)
    shown = method.images.training(train, method.spot_table(train), Progress())
    index = torch.tensor([3, 27, 41])
    patches = shown.spots.patches_of(index)
    assert patches[:3].tolist() == index.tolist()
    images = to_images(shown.patches.take(patches))
    with torch.inference_mode():
        in_training = method.model.embed_images(images, *shown.spots.image_inputs(index)).numpy()
    everywhere = method.images.embed(method.model, Places.on_spots(section), "cpu", Progress())
    np.testing.assert_allclose(everywhere[index.numpy()], in_training, atol=1e-4)
    method.save(tmp_path / "model")
    Path(small_network.removeprefix("local:").partition("#")[0]).unlink()
    again = load_method(tmp_path / "model")
    places = Places(split[1].sections[0], Places.on_spots(split[1].sections[0]).centres_px[:20])
    np.testing.assert_allclose(
        again.predict(places).expression, method.predict(places).expression, atol=1e-4
    )


def test_it_can_be_cancelled_while_the_graph_layers_train(split: Split) -> None:
    cancel = threading.Event()

    def stop(step: Step) -> None:
        if "graph layer" in step.message:
            cancel.set()

    with pytest.raises(Cancelled):
        _method(graph_epochs=100_000).fit(split[0], progress=Progress(stop, cancel))


def test_a_slide_without_a_scale_is_refused_with_what_to_do(split: Split) -> None:
    section = copy.copy(split[0].sections[0])
    section.slide = dataclasses.replace(section.slide, mpp_um=None)
    with pytest.raises(SpotScopeError, match="--mpp"):
        positions_um(Places(section, np.zeros((2, 2))))


def test_a_lone_spot_is_its_own_graph() -> None:
    spacing = Spacing(160.0, RING, None, False)
    assert as_matrix(spacing.joined(np.zeros((1, 2)))).toarray().tolist() == [[1.0]]
    far = np.array([[0.0, 0.0], [900.0, 0.0]])
    np.testing.assert_array_equal(as_matrix(spacing.joined(far)).toarray(), np.eye(2))
