"""The truth of a simulated section: known everywhere, and what the counts are drawn from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spotscope.data.simulate import SUBTYPES, SimulatedSection, Truth
from spotscope.errors import SpotScopeError


@pytest.fixture(scope="module")
def section(study: list[SimulatedSection]) -> SimulatedSection:
    return study[0]


def test_expression_is_the_mean_of_log1p_cp10k_over_many_draws(section: SimulatedSection) -> None:
    places = section.centres_px[::4]
    rng = np.random.default_rng(0)
    n = 1500
    total = 0.0
    for _ in range(n):
        counts = section.truth.draw(rng, places)
        total = total + np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    error = section.truth.expression(places) - total / n
    assert abs(error.mean()) < 0.01
    assert error.std() < 0.03
    assert np.abs(error).max() < 0.25


def test_counts_have_the_negative_binomial_variance(section: SimulatedSection) -> None:
    truth = replace(section.truth, depth_sd=0.0, dropout=0.0)
    place = np.repeat(section.centres_px[:1], 6000, axis=0)
    counts = truth.draw(np.random.default_rng(1), place)
    mean = truth.mean_counts(section.centres_px[:1])[0]
    many = mean > 2
    assert many.sum() > 20
    assert np.allclose(counts.mean(axis=0)[many], mean[many], rtol=0.08)
    expected = mean + mean**2 / truth.dispersion
    assert np.allclose(counts.var(axis=0)[many], expected[many], rtol=0.2)


def test_dropout_adds_zeros_where_counts_are_low(section: SimulatedSection) -> None:
    place = np.repeat(section.centres_px[:1], 4000, axis=0)
    kept = replace(section.truth, depth_sd=0.0, dropout=0.0)
    lossy = replace(kept, dropout=0.5)
    zeros = [(t.draw(np.random.default_rng(1), place) == 0).mean(axis=0) for t in (kept, lossy)]
    mean = kept.mean_counts(place[:1])[0]
    lost = lossy.lost(mean)
    assert np.allclose(zeros[1], lost + (1 - lost) * zeros[0], atol=0.04)
    assert lost[mean.argmin()] > lost[mean.argmax()]


def test_truth_between_nodes_is_linear_in_its_factors(section: SimulatedSection) -> None:
    step = section.truth.step_px
    node, half = np.array([[10.0, 12.0]]) * step, np.array([[0.0, step / 2]])
    ends = [section.truth.density_at(p)[0] for p in (node, node + 2 * half)]
    assert section.truth.density_at(node)[0] == pytest.approx(section.truth.density[10, 12])
    assert section.truth.density_at(node + half)[0] == pytest.approx(np.mean(ends))


def test_truth_at_spots_is_the_map_sampled_there(section: SimulatedSection) -> None:
    genes = ["ERBB2", "COL1A1", "ADIPOQ"]
    rows, cols = section.image.shape[:2]
    everywhere = np.argwhere(np.ones((rows // 4, cols // 4))) * 4.0
    value = section.truth.expression(everywhere, genes).reshape(rows // 4, cols // 4, 3)
    at_spots = section.truth.expression(section.centres_px, genes)
    nearest = np.rint(section.centres_px / 4).astype(int)
    assert np.allclose(value[tuple(nearest.T)], at_spots, atol=0.25)
    assert np.abs(value[tuple(nearest.T)] - at_spots).mean() < 0.03


def test_one_gene_is_the_same_alone_and_among_all(section: SimulatedSection) -> None:
    names = list(section.truth.genes.names)
    alone = section.truth.expression(section.centres_px, ["KRT19"])[:, 0]
    among = section.truth.expression(section.centres_px)[:, names.index("KRT19")]
    assert np.allclose(alone, among, rtol=1e-6)


def test_labels_are_the_largest_share(section: SimulatedSection) -> None:
    shares = section.truth.shares_at(section.centres_px)
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-5)
    expected = np.array(SUBTYPES)[shares.argmax(axis=1)]
    assert np.array_equal(section.spots.obs["subtype"].to_numpy().astype(str), expected)


def test_density_is_of_the_nuclei_that_are_drawn(section: SimulatedSection) -> None:
    """Immune infiltrate is the densest tissue, fat the sparsest, and glass has none."""
    found = section.truth.density_at(section.centres_px)
    label = section.spots.obs["subtype"].to_numpy().astype(str)
    median = {name: np.median(found[label == name]) for name in set(label)}
    assert max(median, key=median.get) == "immune infiltrate"
    assert min(median, key=median.get) == "adipose tissue"
    assert section.truth.density_at([[2.0, 2.0]])[0] == 0


def test_tissue_is_under_every_spot_and_not_in_the_corners(section: SimulatedSection) -> None:
    assert section.truth.on_tissue(section.centres_px).all()
    rows, cols = section.image.shape[:2]
    corners = [[0, 0], [0, cols - 1], [rows - 1, 0], [rows - 1, cols - 1]]
    assert not section.truth.on_tissue(corners).any()


def test_the_genes_are_two_hundred_distinct_symbols_with_markers_of_each_subtype(
    section: SimulatedSection,
) -> None:
    model = section.truth.genes
    assert len(set(model.names)) == len(model.names) == 200
    for index, subtype in enumerate(SUBTYPES):
        genes = model.markers(subtype)
        assert len(genes) >= 10
        rates = model.by_subtype[section.truth.columns(genes)]
        assert np.all(rates.argmax(axis=1) == index)


def test_field_genes_follow_the_smooth_field(section: SimulatedSection) -> None:
    truth = section.truth
    low, high = (replace(truth, field=np.full_like(truth.field, v)) for v in (-1, 1))
    genes = ["VEGFA", "ISG15"]
    rise = high.expression(section.centres_px, genes) - low.expression(section.centres_px, genes)
    assert rise[:, 0].mean() > 0.3
    assert rise[:, 1].mean() < -0.3


def test_an_unknown_gene_is_refused(section: SimulatedSection) -> None:
    with pytest.raises(SpotScopeError, match="no gene 'XYZ'"):
        section.truth.expression(section.centres_px, ["XYZ"])


def test_truth_is_written_and_read_without_pickle(
    section: SimulatedSection, tmp_path: Path
) -> None:
    path = tmp_path / "a.truth.npz"
    section.truth.save(path)
    again = Truth.load(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.truth.json", "a.truth.npz"]
    assert again.genes.groups == section.truth.genes.groups
    assert np.array_equal(
        again.expression(section.centres_px), section.truth.expression(section.centres_px)
    )


def test_an_absent_truth_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(SpotScopeError, match="make the study again"):
        Truth.load(tmp_path / "none.truth.npz")
