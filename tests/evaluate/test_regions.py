from __future__ import annotations

import threading

import numpy as np
import pytest
from scipy import sparse, stats

from spotscope.errors import Cancelled, SpotScopeError
from spotscope.evaluate.regions import (
    REST,
    UNASSIGNED,
    by_size,
    contrast,
    leiden_clusters,
    region_means,
)
from spotscope.progress import Progress

GENES = [f"G{i}" for i in range(40)]
NAMES = ["cancer", "stroma", "fat"]


@pytest.fixture
def regions():
    """Spots of three regions whose genes have their own level in each, and some of none."""
    rng = np.random.default_rng(0)
    levels = rng.normal(3, 1, (3, len(GENES)))
    codes = np.repeat([0, 1, 2, UNASSIGNED], [30, 20, 10, 5])
    measured = levels[codes] + rng.normal(0, 0.5, (65, len(GENES)))
    predicted = 0.6 * levels[codes] + rng.normal(0, 0.1, (65, len(GENES)))
    return measured, predicted, codes


def test_averages_are_those_of_each_regions_spots(regions):
    measured, predicted, codes = regions
    found = region_means(measured, predicted, codes, NAMES, GENES)
    assert found.regions == NAMES
    assert found.sizes.tolist() == [30, 20, 10]
    np.testing.assert_allclose(found.measured[1], measured[30:50].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.predicted[2], predicted[50:60].mean(axis=0), rtol=1e-12)
    apart = np.abs(found.measured - found.predicted)
    np.testing.assert_allclose(found.error, apart.mean(axis=0), rtol=1e-12)


def test_correlations_are_over_spots_over_regions_and_over_genes(regions):
    measured, predicted, codes = regions
    found = region_means(measured, predicted, codes, NAMES, GENES)
    known = codes >= 0
    spots = stats.pearsonr(measured[known, 3], predicted[known, 3])[0]
    np.testing.assert_allclose(found.spots[3], spots, rtol=1e-9)
    over = stats.pearsonr(found.measured[:, 3], found.predicted[:, 3])[0]
    np.testing.assert_allclose(found.correlation[3], over, rtol=1e-9)
    one, two = (
        average[0] - values[known].mean(axis=0)
        for average, values in ((found.measured, measured), (found.predicted, predicted))
    )
    np.testing.assert_allclose(found.pattern[0], stats.pearsonr(one, two)[0], rtol=1e-9)
    assert found.pattern.min() > 0.95


def test_a_constant_prediction_correlates_with_nothing(regions):
    measured, _, codes = regions
    constant = np.tile(measured.mean(axis=0), (len(measured), 1))
    found = region_means(measured, constant, codes, NAMES, GENES)
    for values in (found.spots, found.correlation, found.pattern):
        assert np.isnan(values).all()


def test_two_regions_have_no_correlation_between_them(regions):
    measured, predicted, codes = regions
    found = region_means(measured, predicted, np.where(codes == 2, -1, codes), NAMES, GENES)
    assert found.regions == ["cancer", "stroma"]
    assert np.isnan(found.correlation).all()
    assert np.isfinite(found.error).all()


def test_regions_of_too_few_spots_are_left_out_and_one_region_is_refused(regions):
    measured, predicted, codes = regions
    codes = codes.copy()
    codes[52:60] = UNASSIGNED
    assert region_means(measured, predicted, codes, NAMES, GENES).regions == NAMES[:2]
    with pytest.raises(SpotScopeError, match="Only 1 region has 3 spots or more"):
        region_means(measured, predicted, np.where(codes == 0, 0, -1), NAMES, GENES)


def test_differences_are_welchs_t_on_measured_and_on_predicted_values(regions):
    measured, predicted, codes = regions
    found = contrast(measured, predicted, codes, NAMES, GENES, "cancer", "fat")
    assert found.sizes == (30, 10)
    for ranked, values in ((found.measured, measured), (found.predicted, predicted)):
        one, two = values[codes == 0], values[codes == 2]
        np.testing.assert_allclose(
            ranked.fold, (one.mean(axis=0) - two.mean(axis=0)) / np.log(2), atol=1e-5
        )
        t = stats.ttest_ind(one, two, equal_var=False)
        np.testing.assert_allclose(ranked.score, t.statistic, rtol=1e-3)
        adjusted = stats.false_discovery_control(t.pvalue)
        np.testing.assert_allclose(ranked.p, adjusted, rtol=0.02, atol=1e-30)
    assert found.correlation > 0.97
    assert found.same_sign > 0.8


def test_more_genes_than_are_tested_at_once_are_tested_the_same():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(40, 230))
    codes = np.repeat([0, 1], 20)
    genes = [f"G{i}" for i in range(230)]
    found = contrast(values, values[:, ::-1], codes, ["a", "b"], genes, "a", "b").measured
    t = stats.ttest_ind(values[:20], values[20:], equal_var=False)
    np.testing.assert_allclose(found.score, t.statistic, rtol=1e-3)
    np.testing.assert_allclose(found.p, stats.false_discovery_control(t.pvalue), rtol=1e-2)


def test_the_rest_are_all_other_spots_that_have_a_region(regions):
    found = contrast(*regions, NAMES, GENES, "stroma")
    assert (found.reference, found.sizes) == (REST, (20, 40))


def test_leading_genes_are_shared_as_far_as_the_prediction_follows(regions):
    measured, predicted, codes = regions
    rng = np.random.default_rng(2)
    right = contrast(measured, predicted, codes, NAMES, GENES, "cancer", "stroma", top=8)
    wrong = contrast(
        measured, rng.normal(size=measured.shape), codes, NAMES, GENES, "cancer", "stroma", top=8
    )
    for sign in (1, -1):
        assert len(right.shared(sign)) >= 6
        assert right.by_chance(sign)[1] < 1e-3
        assert right.by_chance(sign)[0] == pytest.approx(8 * 8 / 40)
        assert wrong.by_chance(sign)[1] > 0.01
    up, _ = right.leading(1)
    down, _ = right.leading(-1)
    assert not set(up) & set(down)
    assert abs(wrong.correlation) < 0.4


def test_no_more_than_a_quarter_of_the_genes_lead(regions):
    assert contrast(*regions, NAMES, GENES, "cancer", top=500).top == 10


def test_a_gene_that_is_the_same_everywhere_differs_nowhere(regions):
    measured, predicted, codes = regions
    measured, predicted = measured.copy(), predicted.copy()
    measured[:, 5] = predicted[:, 5] = 2.0
    found = contrast(measured, predicted, codes, NAMES, GENES, "cancer", "stroma")
    assert (found.measured.score[5], found.measured.p[5], found.measured.fold[5]) == (0, 1, 0)
    assert "G5" not in {*found.leading(1)[0], *found.leading(-1)[0]}


@pytest.mark.parametrize(
    ("group", "reference", "said"),
    [
        ("bone", REST, "no region 'bone'; choose cancer, stroma, fat"),
        ("cancer", "bone", "no region 'bone'"),
        ("cancer", "cancer", "named twice"),
        ("fat", "cancer", "'fat' has 2 spots here"),
    ],
)
def test_regions_that_cannot_be_compared_are_refused(regions, group, reference, said):
    measured, predicted, codes = regions
    codes = codes.copy()
    codes[52:60] = UNASSIGNED
    with pytest.raises(SpotScopeError, match=said):
        contrast(measured, predicted, codes, NAMES, GENES, group, reference)


def test_a_comparison_can_be_cancelled(regions):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        contrast(*regions, NAMES, GENES, "cancer", progress=Progress(cancel=cancel))


def test_clusters_are_found_again_numbered_by_size_and_empty_spots_have_none():
    rng = np.random.default_rng(3)
    kinds = np.repeat([0, 1, 2], [20, 50, 35])
    rates = rng.gamma(1.0, 2.0, (3, 120))
    counts = rng.poisson(8 * rates[kinds]).astype(np.float32)
    counts[[4, 60]] = 0
    found = leiden_clusters(sparse.csr_matrix(counts), resolution=0.5)
    assert np.flatnonzero(found == UNASSIGNED).tolist() == [4, 60]
    kept = found >= 0
    assert [np.unique(found[kept & (kinds == kind)]).tolist() for kind in range(3)] == [
        [2],
        [0],
        [1],
    ]
    again = leiden_clusters(sparse.csr_matrix(counts), resolution=0.5)
    np.testing.assert_array_equal(again, found)


def test_too_few_spots_to_cluster_are_refused():
    counts = sparse.csr_matrix(np.ones((6, 20), np.float32))
    with pytest.raises(SpotScopeError, match="6 spots with counts and 20 genes .* are too few"):
        leiden_clusters(counts)


def test_regions_are_numbered_from_the_largest():
    assert by_size(np.array([5, 5, -1, 2, 2, 2])).tolist() == [1, 1, -1, 0, 0, 0]
