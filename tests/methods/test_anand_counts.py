from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spotscope.methods import anand_counts
from spotscope.methods.anand import Data, rate_to_expression
from spotscope.methods.base import get_method
from spotscope.nets.glm import moment_dispersion
from spotscope.progress import Progress


class Told:
    """A cohort that knows the expression of its spots."""

    def __init__(self, expression: np.ndarray) -> None:
        self._expression = expression

    def expression(self, genes: list[str]) -> np.ndarray:
        return self._expression


def _data() -> tuple[Data, np.ndarray]:
    """Return two groups of 60 spots of uneven library, and two genes, the second overdispersed."""
    rng = np.random.default_rng(1)
    inputs, sizes = rng.normal(size=(120, 3)), rng.lognormal(sigma=0.5, size=120)
    rate = np.exp(np.column_stack([0.8 * inputs[:, 0] + 1, np.full(120, 2.0)]))
    rate[:, 1] *= rng.gamma(1.0, 1.0, 120)
    counts = rng.poisson(rate * sizes[:, None]).astype(float)
    truth = rate_to_expression(counts / sizes[:, None], 5000.0)
    return Data(inputs, counts, sizes, Told(truth)), np.repeat([0, 1], 60)


def _method(name: str, **settings: Any) -> Any:
    method = get_method(name)(settings, encoder="stain")
    method._library = 5000.0
    return method


def test_dispersion_is_by_moments_of_rates_or_one() -> None:
    import torch

    data, _ = _data()
    rates = data.targets / data.sizes[:, None]
    found = _method("negative_binomial").dispersion(rates)
    np.testing.assert_array_equal(found, moment_dispersion(torch.from_numpy(rates)).numpy())
    assert found[1] > 0.5
    assert _method("negative_binomial", dispersion="constant").dispersion(rates).tolist() == [1, 1]
    assert (_method("poisson").dispersion(rates) < 1e-8).all()


@pytest.mark.parametrize("compat", [False, True])
def test_the_library_is_an_offset_unless_as_published(
    compat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, held = _data()
    method = _method("poisson", paper_compat=compat)
    seen: list[tuple[np.ndarray, float]] = []
    fitted = method._fitted

    def spy(given: Data, rows: np.ndarray, penalty: float) -> Any:
        seen.append((given.sizes, penalty))
        return fitted(given, rows, penalty)

    monkeypatch.setattr(method, "_fitted", spy)
    method.regress(data, held, Progress())
    for sizes, penalty in seen:
        np.testing.assert_array_equal(sizes, 1 if compat else data.sizes)
        assert (penalty == 0) == compat


def test_the_penalty_is_the_one_that_serves_held_out_groups_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, held = _data()
    errors = []
    for penalty in anand_counts.PENALTIES:
        with monkeypatch.context() as patch:
            patch.setattr(anand_counts, "PENALTIES", (penalty,))
            predicted, _ = _method("poisson").regress(data, held, Progress())
        missed = predicted - data.cohorts[0].expression([])
        errors.append((missed**2).sum(axis=0))
    assert np.ptp(errors, axis=0).min() > 1e-3
    predicted, tested = _method("poisson").regress(data, held, Progress())
    assert tested.all()
    found = ((predicted - data.cohorts[0].expression([])) ** 2).sum(axis=0)
    np.testing.assert_allclose(found, np.min(errors, axis=0), rtol=1e-5)


def test_a_rate_is_told_as_log1p_of_counts_per_10_000() -> None:
    assert rate_to_expression(np.array([2.0]), 4000.0)[0] == pytest.approx(np.log1p(5.0))
