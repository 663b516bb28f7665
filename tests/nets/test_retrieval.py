from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spotscope.errors import Cancelled, SpotScopeError
from spotscope.nets.retrieval import Neighbours, ReferenceIndex, neighbour_weights
from spotscope.nets.topk import largest, largest_of_rows
from spotscope.progress import Progress


def reference(n: int = 60, width: int = 8, metric: str = "cosine") -> ReferenceIndex:
    rng = np.random.default_rng(0)
    return ReferenceIndex(
        rng.normal(size=(n, width)).astype(np.float32),
        rng.random((n, 5)).astype(np.float32),
        [f"S{i % 3}" for i in range(n)],
        [f"spot-{i}é" for i in range(n)],
        metric=metric,
    )


@pytest.mark.parametrize("k", [1, 7, 200])
@pytest.mark.parametrize("n", [200, 5003, 40000])
def test_largest_of_rows_equals_sorting(n: int, k: int) -> None:
    scores = torch.randn(9, n, generator=torch.Generator().manual_seed(n))
    expected = scores.sort(dim=1, descending=True)
    values, columns = largest_of_rows(scores, k)
    assert torch.equal(values, expected.values[:, :k])
    assert torch.equal(columns, expected.indices[:, :k])


def test_largest_of_rows_with_ties_still_names_what_it_returns() -> None:
    scores = torch.randint(0, 4, (5, 3000), generator=torch.Generator().manual_seed(0)).float()
    values, columns = largest_of_rows(scores, 50)
    assert torch.equal(scores.gather(1, columns), values)
    assert torch.equal(values, scores.sort(dim=1, descending=True).values[:, :50])
    assert all(len(set(row)) == 50 for row in columns.tolist())


@pytest.mark.parametrize("budget", [2_000, 40_000, None])
def test_blocks_of_any_size_give_the_same_neighbours(budget: int | None) -> None:
    generator = torch.Generator().manual_seed(1)
    queries = torch.randn(37, 16, generator=generator)
    references = torch.randn(2111, 16, generator=generator)
    expected = (queries @ references.T).sort(dim=1, descending=True)
    scores, index = largest(queries, references, 12, Progress(), budget)
    torch.testing.assert_close(scores, expected.values[:, :12])
    assert torch.equal(index, expected.indices[:, :12])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_equal_a_brute_force_search(metric: str) -> None:
    index = reference(500, metric=metric)
    queries = torch.randn(33, 8, generator=torch.Generator().manual_seed(5)) * 3 + 1
    found = index.search(queries, 20)
    distance = torch.cdist(queries.double(), index.embeddings.double())
    if metric == "cosine":
        rows = torch.nn.functional.normalize(queries.double(), dim=1)
        keys = torch.nn.functional.normalize(index.embeddings.double(), dim=1)
        order = (rows @ keys.T).sort(dim=1, descending=True)
    else:
        order = (-distance).sort(dim=1, descending=True)
    assert torch.equal(found.index, order.indices[:, :20])
    torch.testing.assert_close(found.similarity.double(), order.values[:, :20], rtol=0, atol=2e-6)
    exact = distance.gather(1, found.index) ** 2
    torch.testing.assert_close(found.distance2.double(), exact, rtol=1e-5, atol=1e-5)


def test_euclidean_search_is_exact_far_from_the_origin() -> None:
    rng = np.random.default_rng(2)
    points = (rng.normal(size=(400, 4)) + 1000).astype(np.float32)
    index = ReferenceIndex(
        points, np.zeros((400, 1)), ["A"] * 400, [str(i) for i in range(400)], metric="euclidean"
    )
    queries = torch.from_numpy((rng.normal(size=(20, 4)) + 1000).astype(np.float32))
    exact = torch.cdist(queries.double(), torch.from_numpy(points).double())
    assert torch.equal(index.search(queries, 5).index, exact.argsort(dim=1)[:, :5])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("weights", ["mean", "softmax", "inverse"])
def test_a_query_that_is_a_reference_returns_its_expression(metric: str, weights: str) -> None:
    index = reference(metric=metric)
    got = index.retrieve(index.embeddings[:6], 1, query_sections=["Q"], weights=weights)
    np.testing.assert_array_equal(got.expression, index.expression[:6].numpy())
    np.testing.assert_array_equal(got.spread, 0)
    assert got.neighbours.index[:, 0].tolist() == list(range(6))


def test_all_references_with_equal_weight_give_the_column_mean_and_spread() -> None:
    index = reference()
    got = index.retrieve(torch.randn(3, 8), 60, query_sections=[])
    values = index.expression.numpy().astype(np.float64)
    np.testing.assert_allclose(got.expression, np.tile(values.mean(0), (3, 1)), rtol=1e-5)
    np.testing.assert_allclose(got.spread, np.tile(values.std(0), (3, 1)), rtol=1e-5)


@pytest.mark.parametrize("weights", ["mean", "softmax", "inverse"])
def test_weights_sum_to_one_and_never_rise_with_distance(weights: str) -> None:
    similarity = torch.tensor([[0.9, 0.5, -0.2]])
    distance2 = torch.tensor([[0.0, 0.3, 2.0]])
    found = Neighbours(torch.tensor([[4, 1, 2]]), similarity, distance2)
    share = neighbour_weights(found, weights)
    assert share.sum().item() == pytest.approx(1, rel=1e-6)
    assert torch.isfinite(share).all()
    assert (share.diff(dim=1) <= 0).all()
    if weights != "mean":
        assert (share.diff(dim=1) < 0).all()


def test_inverse_weights_match_the_hand_and_combine_as_stated() -> None:
    index = reference(metric="euclidean")
    queries = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    got = index.retrieve(queries, 5, query_sections=["Q"], weights="inverse", eps=0.5)
    share = 1 / (got.neighbours.distance2.double().numpy() + 0.5)
    share /= share.sum(axis=1, keepdims=True)
    values = index.expression.double().numpy()[got.neighbours.index.numpy()]
    mean = np.einsum("qk,qkg->qg", share, values)
    spread = np.sqrt(np.einsum("qk,qkg->qg", share, (values - mean[:, None]) ** 2))
    np.testing.assert_allclose(got.weights, share, rtol=1e-5)
    np.testing.assert_allclose(got.expression, mean, rtol=1e-5)
    np.testing.assert_allclose(got.spread, spread, rtol=1e-4)


def test_a_reference_survives_being_saved(tmp_path: Path) -> None:
    index = reference(metric="euclidean")
    index.save(tmp_path / "reference.safetensors")
    again = ReferenceIndex.load(tmp_path / "reference.safetensors")
    queries = torch.randn(4, 8)
    first, second = (i.retrieve(queries, 3, query_sections=["Q"]) for i in (index, again))
    np.testing.assert_array_equal(first.expression, second.expression)
    assert again.metric == "euclidean"
    sections, spots = again.describe(torch.tensor([[4, 5]]))
    assert sections.tolist() == [["S1", "S2"]]
    assert spots.tolist() == [["spot-4é", "spot-5é"]]


def test_bad_requests_are_refused_in_a_sentence(tmp_path: Path) -> None:
    index = reference()
    queries = torch.randn(2, 8)
    with pytest.raises(SpotScopeError, match="Section 'S1' is in this model's reference"):
        index.retrieve(queries, 3, query_sections=["Q", "S1"])
    with pytest.raises(SpotScopeError, match="k = 61 neighbours cannot be had from 60"):
        index.search(queries, 61)
    with pytest.raises(SpotScopeError, match="choose k from 1"):
        index.search(queries, 0)
    with pytest.raises(SpotScopeError, match="width 8"):
        index.search(torch.randn(2, 9), 3)
    with pytest.raises(SpotScopeError, match="is not a number"):
        index.search(torch.full((1, 8), torch.nan), 3)
    with pytest.raises(SpotScopeError, match="at least one spot"):
        ReferenceIndex(np.zeros((0, 3)), np.zeros((0, 2)), [], [])
    with pytest.raises(SpotScopeError, match="expression is not a number"):
        ReferenceIndex(np.zeros((1, 3)), np.full((1, 2), np.nan), ["A"], ["1"])
    (tmp_path / "torn.safetensors").write_bytes(b"\x00" * 30)
    with pytest.raises(SpotScopeError, match="missing or damaged"):
        ReferenceIndex.load(tmp_path / "torn.safetensors")


def test_a_reference_goes_to_a_gpu_that_has_room_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    index = reference()  # 60 spots of 8 and 5 numbers
    needed = 60 * (2 * 8 + 5) * 4
    for free, fits in ((2 * needed, False), (2 * needed + 1, True)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device, free=free: (free, 10**9))
        assert index.fits("cuda:0") == fits
    assert not index.fits("cpu")
    assert not index.fits("mps")


def test_search_can_be_cancelled() -> None:
    progress = Progress()
    progress.cancel.set()
    with pytest.raises(Cancelled):
        reference().search(torch.randn(2, 8), 3, progress)
