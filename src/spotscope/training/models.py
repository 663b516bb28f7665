"""What the engine can train, and the contrastive model that the papers' methods share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from torch import Tensor, nn

from spotscope.nets.contrastive import ContrastiveLoss, PairLoss, top_k_hits


@dataclass
class Batch:
    """One forward pass's spots, on the device.

    Attributes
    ----------
    index
        (B,) numbers of the spots.
    images
        (M, 3, px, px) float of 0 to 1, channels last, the spots' own first; None without patches.
    image_inputs, spot_inputs
        Of `SpotTable`.
    """

    index: Tensor
    images: Tensor | None
    image_inputs: tuple[Tensor, ...]
    spot_inputs: tuple[Tensor, ...]


@dataclass
class StepResult:
    """What a forward pass says.

    Attributes
    ----------
    loss
        Scalar to minimise.
    chance
        Scalar without gradient: the loss of a model that knows nothing; None when there is none.
    values
        Scalars without gradient to show, such as "top1".
    """

    loss: Tensor
    chance: Tensor | None = None
    values: dict[str, Tensor] = field(default_factory=dict)


class Trainable(nn.Module, ABC):
    """A network that knows its loss.

    Attributes
    ----------
    smallest_batch
        Spots that a forward pass needs to mean anything.
    """

    smallest_batch: int = 1

    @abstractmethod
    def step(self, batch: Batch) -> StepResult:
        """Return the loss of `batch`."""


class ContrastiveModel(Trainable):
    """Two encoders whose embeddings of the same spot are drawn together.

    CLIP, BLEEP, mclSTExp, ST-GCHB and TPIRBAE are this with their encoders, heads and loss.

    Parameters
    ----------
    image_encoder
        Called with (images, *image_inputs); gives (B, w).
    image_head
        Maps (B, w) to the joint space (B, d).
    spot_encoder
        Called with the spot inputs; gives (B, v). ``nn.Identity()`` for BLEEP, whose head takes
        the expression itself.
    spot_head
        Maps (B, v) to (B, d).
    loss
        Of the pairs.
    """

    smallest_batch = 2

    def __init__(
        self,
        image_encoder: nn.Module,
        image_head: nn.Module,
        spot_encoder: nn.Module,
        spot_head: nn.Module,
        loss: ContrastiveLoss,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.image_head = image_head
        self.spot_encoder = spot_encoder
        self.spot_head = spot_head
        self.loss = loss

    def embed_images(self, images: Tensor, *inputs: Tensor) -> Tensor:
        """Return (B, d) of `images` (M, 3, px, px) with values 0 to 1."""
        return self.image_head(self.image_encoder(images, *inputs))

    def embed_spots(self, *inputs: Tensor) -> Tensor:
        """Return (B, d) of the spot encoder's `inputs`."""
        return self.spot_head(self.spot_encoder(*inputs))

    def step(self, batch: Batch) -> StepResult:
        """Return the contrastive loss with the in-batch retrieval, plus `further_losses`."""
        image_features = self.image_encoder(batch.images, *batch.image_inputs)
        spot_features = self.spot_encoder(*batch.spot_inputs)
        image, spot = self.image_head(image_features), self.spot_head(spot_features)
        further = self.further_losses(batch, image_features, spot_features)
        return pairs_result(self.loss(image, spot), further)

    def further_losses(
        self, batch: Batch, image_features: Tensor, spot_features: Tensor
    ) -> dict[str, Tensor]:
        """Return named losses to add, such as ST-GCHB's bottleneck; none here."""
        return {}


def pairs_result(pairs: PairLoss, further: dict[str, Tensor]) -> StepResult:
    """Return the result of a step: the loss of its pairs and what is added to it."""
    top1, top5 = top_k_hits(pairs.logits)
    values = {"top1": top1, "top5": top5}
    if further:
        values |= {name: value.detach() for name, value in further.items()}
        # The verdict "not learning" compares this part alone with chance.
        values["contrastive"] = pairs.loss.detach()
    return StepResult(sum(further.values(), pairs.loss), pairs.chance, values)
