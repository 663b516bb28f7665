from __future__ import annotations

import numpy as np

from spotscope.methods.anand import Data
from spotscope.methods.base import get_method
from spotscope.progress import Progress, Step


def _data() -> tuple[Data, np.ndarray]:
    """Return 80 spots in two groups; few enough to be learnt by heart."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(80, 10))
    targets = inputs[:, :2] + rng.normal(size=(80, 2))
    return Data(inputs, targets, np.ones(80)), np.repeat([0, 1], 40)


def test_the_epoch_that_held_out_spots_are_predicted_best_in_is_kept() -> None:
    data, held = _data()
    steps: list[Step] = []
    settings = {"epochs": 200, "patience": 10, "learning_rate": 0.01, "dropout": 0.0}
    method = get_method("mlp")(settings, encoder="stain")
    predicted, tested = method.regress(data, held, Progress(steps.append))
    losses = [step.values["val_loss"] for step in steps if "val_loss" in step.values]
    assert len(losses) == int(np.argmin(losses)) + 1 + 10 < 200
    assert losses[-1] > 1.02 * min(losses)
    missed = ((predicted[tested] - data.targets[tested]) ** 2).mean()
    np.testing.assert_allclose(missed, min(losses), rtol=1e-4)
    one_group = held[tested]
    assert len(set(one_group.tolist())) == 1
    np.testing.assert_allclose(method._mean, data.inputs[~tested].mean(axis=0))
    np.testing.assert_allclose(method._level, data.targets[~tested].mean(axis=0))


def test_the_optimisers_are_the_papers() -> None:
    import torch

    for name, kind in (("mlp", torch.optim.Adam), ("gnn", torch.optim.NAdam)):
        method = get_method(name)(encoder="stain")
        optimiser = method.optimiser(method.build(32, 5))
        assert type(optimiser) is kind
        assert optimiser.defaults["lr"] == 1e-3
