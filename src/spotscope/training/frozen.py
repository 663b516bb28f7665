"""Training on image features that were computed once and stay as they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spotscope.training.data import SpotTable


class FrozenFeatures(nn.Module):
    """Hands a spot's features on in place of an image network."""

    def forward(self, images: Tensor | None, features: Tensor) -> Tensor:
        """Return `features` (B, w); there are no images."""
        return features


class FeatureTable(SpotTable):
    """The spots of another table, with image features in place of patches.

    Parameters
    ----------
    spots
        What the spot encoder takes.
    features
        (N, w).
    """

    def __init__(self, spots: SpotTable, features: Tensor) -> None:
        super().__init__(features)
        self.spots = spots

    def to(self, device: torch.device) -> None:
        """Move both to `device`."""
        super().to(device)
        self.spots.to(device)

    def spot_inputs(self, index: Tensor) -> tuple[Tensor, ...]:
        """Return the spot encoder's inputs."""
        return self.spots.spot_inputs(index)

    def image_inputs(self, index: Tensor) -> tuple[Tensor, ...]:
        """Return the features of spots `index`."""
        return (self.tables[0][index],)
