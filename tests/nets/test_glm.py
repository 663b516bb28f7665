from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
import torch

from spotscope.nets.glm import fit_counts, moment_dispersion


def _simulated(alpha: float, n: int = 600, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)) @ rng.normal(size=(4, 4))  # correlated inputs
    beta = np.array([[0.3, 0.0, -0.2, 0.1], [0.0, 0.4, 0.0, -0.1]]).T
    size = rng.lognormal(sigma=0.6, size=n)
    mean = size[:, None] * np.exp(x @ beta * 0.4 + [1.0, 0.2])
    rate = rng.gamma(1 / alpha, alpha * mean) if alpha else mean
    return x, rng.poisson(rate), size, beta * 0.4


def _fitted(x: np.ndarray, y: np.ndarray, size: np.ndarray, alpha: float, penalty: float = 0.0):
    give = (torch.as_tensor(v, dtype=torch.float64) for v in (x, y, size))
    return fit_counts(*give, torch.full((y.shape[1],), alpha or 1e-10), penalty)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_without_a_penalty_it_equals_statsmodels(alpha: float) -> None:
    x, y, size, _ = _simulated(alpha)
    found = _fitted(x, y, size, alpha)
    family = sm.families.NegativeBinomial(alpha=alpha) if alpha else sm.families.Poisson()
    for gene in range(y.shape[1]):
        peer = sm.GLM(y[:, gene], sm.add_constant(x), family=family, offset=np.log(size)).fit()
        ours = np.r_[found.intercept[gene].item(), found.weights[:, gene].numpy()]
        np.testing.assert_allclose(ours, peer.params, atol=2e-4)


def test_simulated_coefficients_come_back_within_three_standard_errors() -> None:
    x, y, size, beta = _simulated(0.5, n=2000)
    found = _fitted(x, y, size, 0.5)
    for gene in range(2):
        family = sm.families.NegativeBinomial(alpha=0.5)
        peer = sm.GLM(y[:, gene], sm.add_constant(x), family=family, offset=np.log(size)).fit()
        off = np.abs(found.weights[:, gene].numpy() - beta[:, gene])
        assert (off < 3 * peer.bse[1:]).all()


def test_doubling_every_library_moves_the_intercept_alone() -> None:
    x, y, size, _ = _simulated(0.5)
    once, twice = _fitted(x, y, size, 0.5), _fitted(x, y, 2 * size, 0.5)
    torch.testing.assert_close(once.weights, twice.weights, atol=1e-5, rtol=0)
    torch.testing.assert_close(once.intercept - np.log(2), twice.intercept, atol=1e-5, rtol=0)


def test_a_large_penalty_leaves_the_mean_rate() -> None:
    x, y, size, _ = _simulated(0.0)
    found = _fitted(x, y, size, 0.0, penalty=1e9)
    assert found.weights.abs().max() < 1e-6
    np.testing.assert_allclose(found.intercept.exp(), y.sum(0) / size.sum(), rtol=1e-6)


def test_the_penalised_optimum_has_no_slope_left() -> None:
    x, y, size, _ = _simulated(0.5)
    alpha, penalty = 0.5, 0.05
    found = _fitted(x, y, size, alpha, penalty)
    eta = x @ found.weights.numpy() + found.intercept.numpy()
    mean = size[:, None] * np.exp(eta)
    slope = (y - mean) / (1 + alpha * mean)
    np.testing.assert_allclose(x.T @ slope / len(x), penalty * found.weights.numpy(), atol=2e-4)
    np.testing.assert_allclose(slope.mean(0), 0, atol=2e-4)


def test_a_gene_without_counts_stays_finite() -> None:
    x, y, size, _ = _simulated(0.5)
    found = _fitted(x, np.c_[y, np.zeros(len(y))], size, 0.5, penalty=1e-3)
    assert torch.isfinite(found.weights).all()
    assert found.log_rate(torch.as_tensor(x))[:, 2].exp().max() < 1e-3


def test_a_place_beyond_what_was_seen_gets_the_nearest_rate() -> None:
    x, y, size, _ = _simulated(0.0)
    found = _fitted(x, y, size, 0.0)
    far = torch.as_tensor(x * 100)
    assert (found.log_rate(far) <= found.high).all()
    assert (found.log_rate(far) >= found.low).all()


def test_dispersion_by_moments_finds_alpha_and_floors_at_poisson() -> None:
    rng = np.random.default_rng(1)
    mean = 5.0
    rates = np.c_[rng.poisson(rng.gamma(2.0, mean / 2.0, 200_000)), rng.poisson(mean, 200_000)]
    alpha = moment_dispersion(torch.as_tensor(rates, dtype=torch.float64))
    assert alpha[0].item() == pytest.approx(0.5, abs=0.02)
    assert alpha[1].item() < 0.005
    assert moment_dispersion(torch.ones(10, 1)).item() == pytest.approx(1e-8)
