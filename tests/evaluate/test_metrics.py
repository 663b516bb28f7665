from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from skimage.metrics import structural_similarity

from spotscope.evaluate.metrics import (
    METRICS,
    Lattice,
    gene_metrics,
    mean_over,
    pearson,
    r2,
    spearman,
    ssim,
    ssim_map,
)


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    measured = rng.gamma(2.0, size=(60, 4))
    return measured + rng.normal(size=measured.shape), measured


def section_at(centres):
    centres = np.asarray(centres, float)
    return SimpleNamespace(n_spots=len(centres), centres_px=centres)


def square(rows, cols, pitch=20.0):
    return np.stack(np.mgrid[:rows, :cols], -1).reshape(-1, 2) * pitch + 7


def test_figures_by_hand():
    predicted = np.array([[1.0], [2.0], [4.0]])
    measured = np.array([[2.0], [1.0], [6.0]])
    found = gene_metrics(predicted, measured, [2.0])
    assert found["mse"] == pytest.approx([(1 + 1 + 4) / 3])
    assert found["mae"] == pytest.approx([4 / 3])
    # Deviations from the means 7/3 and 3, times 3: (-4, -1, 5) and (-3, -6, 9).
    assert found["pearson"] == pytest.approx([63 / np.sqrt(42 * 126)])
    assert found["spearman"] == pytest.approx([0.5])
    assert found["r2"] == pytest.approx([1 - 6 / (0 + 1 + 16)])


def test_correlations_agree_with_scipy(pair):
    predicted, measured = pair
    measured[::3, 1] = 0  # ties
    for gene in range(4):
        expected = stats.pearsonr(predicted[:, gene], measured[:, gene]).statistic
        assert pearson(predicted, measured)[gene] == pytest.approx(expected, abs=1e-12)
        expected = stats.spearmanr(predicted[:, gene], measured[:, gene]).statistic
        assert spearman(predicted, measured)[gene] == pytest.approx(expected, abs=1e-12)


def test_pearson_ignores_a_positive_scale_and_shift_of_each_gene(pair):
    predicted, measured = pair
    moved = predicted * [3.0, 0.01, 1e4, 1.0] + [5.0, -2.0, 0.0, 9.0]
    np.testing.assert_allclose(pearson(moved, measured), pearson(predicted, measured), atol=1e-10)
    np.testing.assert_allclose(pearson(-predicted, measured), -pearson(predicted, measured))


@pytest.mark.parametrize("side", [0, 1])
def test_a_constant_gene_is_undefined_and_the_order_of_genes_is_kept(pair, side):
    pair[side][:, 2] = np.float32(0.1)
    for figure in (pearson, spearman):
        assert np.isnan(figure(*pair)).tolist() == [False, False, True, False]


def test_what_varies_in_the_last_digit_alone_is_constant(pair):
    predicted, measured = pair
    predicted[:, 0] = np.float32(1.7)
    predicted[::2, 0] = np.nextafter(np.float32(1.7), np.float32(2))
    assert np.isnan(pearson(predicted, measured)[0])


def test_undefined_figures_count_as_nothing_and_are_counted():
    assert mean_over([0.5, np.nan, 0.1, np.nan]) == (pytest.approx(0.15), 2)


def test_r2_compares_with_the_training_mean():
    measured = np.array([[1.0, 5.0], [3.0, 5.0]])
    assert r2(np.full((2, 2), [0.0, 4.0]), measured, [0.0, 4.0]).tolist() == [0, 0]
    assert r2(measured, measured, [0.0, 4.0]).tolist() == [1, 1]
    # The section's own mean 2 leaves 1 + 1 of the training mean's 1 + 9.
    assert r2(np.full((2, 2), [2.0, 4.0]), measured, [0.0, 4.0])[0] == pytest.approx(0.8)
    assert np.isnan(r2(measured, measured, [0.0, 5.0])).tolist() == [False, True]


def test_pooling_sections_is_another_question_than_the_mean_over_them():
    """Two sections of another mean level: pooled, the level alone correlates."""
    measured = [np.array([[0.0], [1.0], [2.0]]), np.array([[10.0], [11.0], [12.0]])]
    predicted = [np.array([[2.0], [1.0], [0.0]]), np.array([[12.0], [11.0], [10.0]])]
    each = [pearson(p, m)[0] for p, m in zip(predicted, measured, strict=True)]
    assert each == [pytest.approx(-1), pytest.approx(-1)]
    assert pearson(np.concatenate(predicted), np.concatenate(measured))[0] > 0.9


def test_the_lattice_of_a_square_pattern_has_one_cell_a_spot():
    lattice = Lattice.of(section_at(square(4, 6)))
    assert lattice.mask.all()
    assert lattice.nearest.tolist() == np.arange(24).reshape(4, 6).tolist()


def test_the_lattice_leaves_cells_without_a_spot_empty():
    keep = np.ones(81, bool)
    keep[[0, 40]] = False
    lattice = Lattice.of(section_at(square(9, 9)[keep]))
    assert np.flatnonzero(~lattice.mask).tolist() == [0, 40]


def test_every_spot_of_a_hexagonal_pattern_is_shown():
    rows, cols = np.mgrid[:12, :12]
    centres = np.stack([rows * np.sqrt(3) / 2, cols + 0.5 * (rows % 2)], -1).reshape(-1, 2) * 100
    lattice = Lattice.of(section_at(centres))
    shown = np.unique(lattice.nearest[lattice.mask])
    assert len(shown) > 0.8 * len(centres)


def test_ssim_is_that_of_scikit_image_on_a_full_lattice():
    rng = np.random.default_rng(1)
    measured = rng.random((20 * 30, 3))
    predicted = measured + 0.3 * rng.random(measured.shape)
    lattice = Lattice.of(section_at(square(20, 30)))
    found = ssim_map(predicted, measured, lattice)
    inside = np.s_[3:-3, 3:-3]  # there scikit-image and a masked window see the same cells
    for gene in range(3):
        x, y = (v[:, gene].reshape(20, 30) for v in (predicted, measured))
        _, full = structural_similarity(
            x, y, win_size=7, data_range=np.ptp(y), use_sample_covariance=False, full=True
        )
        np.testing.assert_allclose(found[inside][..., gene], full[inside], atol=1e-9)
    assert ssim(measured, measured, lattice) == pytest.approx([1, 1, 1])


def test_ssim_does_not_see_what_lies_off_the_tissue():
    rng = np.random.default_rng(2)
    centres = square(12, 12)
    left = centres[:, 1] < 120
    values = rng.random((144, 2))
    other = values + 0.2 * rng.random((144, 2))
    alone = ssim(other[left], values[left], Lattice.of(section_at(centres[left])))
    far = np.concatenate([centres[left], [[7.0, 4007.0]]])  # one spot far away widens the picture
    wide = ssim(
        np.concatenate([other[left], values[:1]]),
        np.concatenate([values[left], values[:1]]),
        Lattice.of(section_at(far)),
    )
    count = int(left.sum())
    np.testing.assert_allclose((wide * (count + 1) - 1) / count, alone, rtol=1e-9)


def test_all_metrics_are_there_and_ssim_needs_a_lattice(pair):
    predicted, measured = pair
    lattice = Lattice.of(section_at(square(6, 10)))
    assert tuple(gene_metrics(predicted, measured, np.zeros(4), lattice)) == METRICS
    assert "ssim" not in gene_metrics(predicted, measured, np.zeros(4))
