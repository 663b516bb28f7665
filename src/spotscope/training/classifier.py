"""A classifier of patches on the image side of a contrastive pair, or on features as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from spotscope.training.models import StepResult, Trainable

if TYPE_CHECKING:
    from spotscope.training.models import Batch

HeadKind = Literal["linear", "mlp"]
_HIDDEN = 256


class ClassifierModel(Trainable):
    """Image features, perhaps a contrastive projection, and a head to classes.

    It is called as a contrastive model's image side is, with logits (B, K) for embeddings.

    Parameters
    ----------
    image_encoder
        Called with (images, *image_inputs); gives (B, w).
    projection
        Of the contrastive pair; ``nn.Identity()`` for none.
    head
        Gives (B, K) logits.
    class_weights
        (K,) weight of each class's spots in the loss.
    chance
        The loss of a model that knows nothing but how frequent the classes are.
    frozen_projection
        Leave the projection as it is.
    """

    smallest_batch = 2
    class_weights: Tensor

    def __init__(
        self,
        image_encoder: nn.Module,
        projection: nn.Module,
        head: nn.Module,
        class_weights: Tensor,
        chance: float = 0.0,
        *,
        frozen_projection: bool = False,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.projection = projection
        self.head = head
        self.chance = chance
        self.frozen_projection = frozen_projection
        self.register_buffer("class_weights", class_weights, persistent=False)
        if frozen_projection:
            projection.requires_grad_(False)

    def image_head(self, features: Tensor) -> Tensor:
        """Return logits (B, K) of the image encoder's `features` (B, w)."""
        return self.head(self.projection(features))

    def embed_images(self, images: Tensor, *inputs: Tensor) -> Tensor:
        """Return logits (B, K) of `images` (B, 3, px, px) with values 0 to 1."""
        return self.image_head(self.image_encoder(images, *inputs))

    def step(self, batch: Batch) -> StepResult:
        """Return the cross-entropy of the classes, which are the spots' only input."""
        (classes,) = batch.spot_inputs
        logits = self.image_head(self.image_encoder(batch.images, *batch.image_inputs)).float()
        loss = cross_entropy(logits, classes, weight=self.class_weights)
        right = (logits.argmax(dim=1) == classes).float().mean()
        return StepResult(loss, logits.new_tensor(self.chance), {"accuracy": right})

    def train(self, mode: bool = True) -> ClassifierModel:
        """Set training mode; a frozen projection stays in evaluation mode."""
        super().train(mode)
        if self.frozen_projection:
            self.projection.eval()
        return self


def classifier_head(kind: HeadKind, width: int, n_classes: int) -> nn.Module:
    """Return a head from `width` features to logits: one layer, or two with dropout between."""
    if kind == "linear":
        return nn.Linear(width, n_classes)
    return nn.Sequential(
        nn.Linear(width, _HIDDEN), nn.GELU(), nn.Dropout(0.1), nn.Linear(_HIDDEN, n_classes)
    )


def weights_and_chance(classes: Tensor, n_classes: int, balanced: bool) -> tuple[Tensor, float]:
    """Return each class's weight and the loss of guessing by frequency.

    Balanced weights are ``n / (K n_k)``, so that every class counts the same and chance is ln K.
    """
    share = torch.bincount(classes, minlength=n_classes).float() / len(classes)
    weights = 1 / (n_classes * share) if balanced else torch.ones(n_classes)
    told = share * weights
    return weights, float(-(told / told.sum() * (told / told.sum()).log()).sum())
