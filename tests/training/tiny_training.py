"""Spots whose patch and expression share a colour, and a small model for them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from spotscope.nets.contrastive import ContrastiveLoss
from spotscope.nets.counts import MLP
from spotscope.nets.projection import ProjectionHead
from spotscope.training.augment import Augmentation
from spotscope.training.data import SpotTable, TrainingData
from spotscope.training.engine import seeded
from spotscope.training.models import Batch, ContrastiveModel, StepResult, Trainable
from spotscope.training.patches import PatchStore
from spotscope.training.settings import TrainingSettings

SETTINGS = TrainingSettings(
    epochs=3, batch_size=24, learning_rate=1e-2, augmentation=Augmentation(), device="cpu"
)


class Convolution(nn.Module):
    """A convolution with batch statistics and dropout: what makes resuming hard."""

    def __init__(self) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(3, 8, 3, 2)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.1)

    def forward(self, images: Tensor) -> Tensor:
        return self.drop(torch.relu(self.norm(self.convolve(images))).mean((2, 3)))


def coloured(n: int = 100, seed: int = 0) -> TrainingData:
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (n, 1, 1, 3))
    pixels = np.broadcast_to(colours, (n, 8, 8, 3)).astype(np.uint8)
    expression = torch.from_numpy(colours.reshape(n, 3) / 255).float()
    store = PatchStore([pixels[: n // 3].copy(), pixels[n // 3 :].copy()])
    return TrainingData(SpotTable(expression), np.arange(n) % 3, store)


def contrastive(seed: int = 0) -> ContrastiveModel:
    with seeded(seed):
        return ContrastiveModel(
            Convolution(),
            ProjectionHead(8, 16),
            nn.Identity(),
            ProjectionHead(3, 16),
            ContrastiveLoss(normalise=True, temperature=0.1),
        )


class Regressor(Trainable):
    """A small network without images."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = MLP(width, 1, hidden=(8,), dropout=0)

    def step(self, batch: Batch) -> StepResult:
        x, y = batch.spot_inputs
        return StepResult((self.network(x) - y).square().mean())


def line(n: int = 96) -> TrainingData:
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(1))
    return TrainingData(SpotTable(x, x.sum(dim=1, keepdim=True)), np.arange(n) % 2)


def assert_same_weights(first: torch.nn.Module, second: torch.nn.Module) -> None:
    other = second.state_dict()
    for key, value in first.state_dict().items():
        assert torch.equal(value, other[key]), key
