from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Lasso, Ridge

from spotscope.methods.anand import Data
from spotscope.methods.anand_linear import LASSO_PENALTIES, RIDGE_PENALTIES
from spotscope.methods.base import get_method
from spotscope.progress import Progress


def _data() -> tuple[Data, np.ndarray]:
    """Return 4 groups of 30 spots, one gene that follows the inputs and one that does not."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(120, 20)) * np.linspace(1, 5, 20) + 3
    follows = inputs[:, :3] @ [1.0, -1.0, 0.5] + 0.1 * rng.normal(size=120)
    targets = np.column_stack([follows, rng.normal(size=120)])
    return Data(inputs, targets, np.ones(120)), np.repeat(np.arange(4), 30)


@pytest.mark.parametrize("name", ["lasso", "anand_ridge"])
def test_each_gene_gets_the_penalty_that_serves_held_out_groups_best(name: str) -> None:
    data, held = _data()
    method = get_method(name)(encoder="stain")
    predicted, tested = method.regress(data, held, Progress())
    assert tested.all()
    penalties = LASSO_PENALTIES if name == "lasso" else RIDGE_PENALTIES
    errors = []
    for penalty in penalties:
        missed = np.zeros(2)
        for group in range(4):
            fit, hold = held != group, held == group
            mean, spread = data.inputs[fit].mean(0), data.inputs[fit].std(0)
            if name == "lasso":
                model = Lasso(alpha=penalty, max_iter=20_000)
            else:
                model = Ridge(alpha=penalty)
            model.fit((data.inputs[fit] - mean) / spread, data.targets[fit])
            told = model.predict((data.inputs[hold] - mean) / spread)
            missed += ((told - data.targets[hold]) ** 2).sum(axis=0)
        errors.append(missed)
    ours = ((predicted - data.targets) ** 2).sum(axis=0)
    np.testing.assert_allclose(ours, np.min(errors, axis=0), rtol=0.01)
    best = np.argmin(errors, axis=0)
    assert penalties[best[0]] < penalties[best[1]]  # what follows nothing is held back most
    strength = np.abs(method._weights).sum(axis=0)
    assert strength[0] > 2 * strength[1]


def test_held_out_groups_enter_no_standardisation_of_their_own_prediction() -> None:
    data, held = _data()
    method = get_method("linear")(encoder="stain")
    before, _ = method.regress(data, held, Progress())
    moved = data.targets.copy()
    moved[held == 2] += 100.0
    after, _ = method.regress(Data(data.inputs, moved, data.sizes), held, Progress())
    np.testing.assert_allclose(after[held == 2], before[held == 2])
    assert np.abs(after[held == 1] - before[held == 1]).mean() > 10


def test_given_validation_spots_choose_and_are_not_learnt_from() -> None:
    data, held = _data()
    held = np.where(held < 3, -1, 0)
    method = get_method("anand_ridge")(encoder="stain")
    _, tested = method.regress(data, held, Progress())
    assert tested.tolist() == (held == 0).tolist()
    np.testing.assert_allclose(method._mean, data.inputs[held < 0].mean(axis=0))
