from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import nbinom, poisson

from spotscope.nets.counts import (
    MLP,
    CountHead,
    nb_log_likelihood,
    poisson_log_likelihood,
    zinb_log_likelihood,
)


def test_nb_of_zero_matches_the_hand() -> None:
    got = nb_log_likelihood(torch.tensor(0.0), torch.tensor(2.0), 0.5)
    assert got.item() == pytest.approx(-math.log(2) / 0.5, rel=1e-6)
    assert got.item() == pytest.approx(-1.3863, abs=1e-4)


@pytest.mark.parametrize("alpha", [4.0, 0.5, 0.02, 0.0101, 0.0099, 1e-3])
def test_nb_matches_scipy_on_both_sides_of_the_series(alpha: float) -> None:
    counts = torch.tensor([0.0, 1.0, 3.0, 20.0, 400.0])
    mean = torch.tensor([0.3, 2.0, 3.0, 10.0, 350.0])
    r = 1 / alpha
    expected = nbinom.logpmf(counts.numpy(), r, r / (r + mean.double().numpy()))
    exact = nb_log_likelihood(counts.double(), mean.double(), alpha)
    np.testing.assert_allclose(exact.numpy(), expected, rtol=1e-8, atol=1e-8)
    got = nb_log_likelihood(counts, mean, alpha)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4, atol=1e-4)


def test_nb_tends_to_poisson() -> None:
    counts = torch.tensor([0.0, 2.0, 50.0])
    mean = torch.tensor([0.5, 2.0, 40.0])
    limit = poisson.logpmf(counts.numpy(), mean.numpy())
    np.testing.assert_allclose(poisson_log_likelihood(counts, mean).numpy(), limit, rtol=1e-5)
    for alpha in (0.0, 1e-8):
        got = nb_log_likelihood(counts, mean, alpha)
        np.testing.assert_allclose(got.numpy(), limit, rtol=2e-5)


def test_zinb_without_extra_zeros_is_nb_and_with_them_favours_zero() -> None:
    counts = torch.tensor([0.0, 1.0, 7.0])
    mean = torch.tensor([2.0, 2.0, 2.0])
    nb = nb_log_likelihood(counts, mean, 0.5)
    none = zinb_log_likelihood(counts, mean, 0.5, torch.full((3,), -60.0))
    torch.testing.assert_close(none, nb)
    half = zinb_log_likelihood(counts, mean, 0.5, torch.zeros(3))
    expected = torch.cat([(0.5 + 0.5 * nb[:1].exp()).log(), nb[1:] + math.log(0.5)])
    torch.testing.assert_close(half, expected)


def test_likelihoods_sum_to_one() -> None:
    counts = torch.arange(400.0)
    for logs in (
        nb_log_likelihood(counts, torch.tensor(5.0), 0.5),
        nb_log_likelihood(counts, torch.tensor(5.0), 0.005),
        zinb_log_likelihood(counts, torch.tensor(5.0), 0.5, torch.tensor(0.3)),
    ):
        assert logs.exp().sum().item() == pytest.approx(1, abs=2e-5)


@pytest.mark.parametrize("kind", ["poisson", "nb", "zinb"])
def test_count_head_recovers_a_rate_and_depth_does_not_move_it(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1500, 1, generator=generator)
    size = torch.rand(1500, generator=generator) * 1.5 + 0.5
    counts = torch.poisson(size[:, None] * (0.5 + 0.8 * x).exp(), generator=generator)
    head = CountHead(1, 1, kind)
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=30, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = head.loss(x, counts, size)
        loss.backward()
        return loss

    optimiser.step(closure)
    assert head.predictor.weight.item() == pytest.approx(0.8, abs=0.1)
    assert head.predictor.bias.item() == pytest.approx(0.5, abs=0.1)


def test_anands_network_has_three_hidden_layers_with_dropout_between() -> None:
    network = MLP(64, 250)
    kinds = [type(layer).__name__ for layer in network.layers]
    hidden = ["Linear", "ReLU", "Dropout"]
    assert kinds == [*hidden, *hidden, "Linear", "ReLU", "Linear"]
    assert network.eval()(torch.zeros(2, 64)).shape == (2, 250)
    assert MLP(3, 2, hidden=())(torch.zeros(1, 3)).shape == (1, 2)
