"""Losses that pull a patch and its spot together: CLIP, BLEEP, TPIRBAE and ST-GCHB.

Throughout, `image` and `spot` are the embeddings (B, d) of B pairs, row i of one belonging to row
i of the other; the logits are ``S_ij = image_i . spot_j / temperature`` (B, B). A temperature
always divides. Everything is computed in float32 whatever the autocast, because logits of
un-normalised embeddings reach several hundred.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from spotscope.nets.projection import unit

LossKind = Literal["hard", "soft_target", "weighted", "weighted_separate", "alignment"]
LARGEST_LOG_SCALE = math.log(100.0)  # CLIP's clamp of the learnt temperature


def hard_loss(logits: Tensor) -> Tensor:
    """Return CLIP's symmetric InfoNCE, TPIRBAE's L_SI.

    ``-1/(2B) sum_i [log softmax_j(S_ij)_i + log softmax_j(S_ji)_i]``; ln B at chance
    (Radford et al. 2021; TPIRBAE section 3.2).
    """
    return 0.5 * (_matched_terms(logits) + _matched_terms(logits.T)).mean()


def soft_target_loss(
    logits: Tensor,
    image: Tensor,
    spot: Tensor,
    target_temperature: float | Tensor = 1.0,
    *,
    published: bool = False,
) -> Tensor:
    """Return BLEEP's loss: cross-entropy against soft targets from within-modality similarity.

    ``M = (I I^T + P P^T)/2``, ``T = softmax_j(M / target_temperature)``, and the loss is the mean
    of CE(S, T) and CE(S^T, softmax_j(M^T / target_temperature)); ln B for constant logits (Xie et
    al., NeurIPS 2023). The targets carry no gradient: else they could be made to follow the
    logits. With LayerNorm-256 embeddings that are not normalised and a temperature of 1 the
    targets are one-hot to 1e-6 and this is `hard_loss`.

    Parameters
    ----------
    logits
        (B, B), rows are images.
    image, spot
        Embeddings (B, d) that the targets are made from.
    target_temperature
        Divides the similarities before the softmax.
    published
        As the published code does: T, with its gradient, for the rows of the spots, and its
        transpose, whose rows do not sum to one, for those of the images.
    """
    targets = soft_targets(image, spot, target_temperature)
    if published:
        return 0.5 * (cross_entropy(logits.T, targets) + cross_entropy(logits, targets.T))
    targets = targets.detach()  # M is symmetric, so that softmax(M^T) is softmax(M)
    return 0.5 * (cross_entropy(logits, targets) + cross_entropy(logits.T, targets))


def soft_targets(image: Tensor, spot: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Return ``softmax_j((I I^T + P P^T)/(2 temperature))`` (B, B); rows sum to one."""
    return ((image @ image.T + spot @ spot.T) / (2 * temperature)).softmax(dim=1)


def alignment_loss(logits: Tensor, image: Tensor, spot: Tensor, scale: float = 1.0) -> Tensor:
    """Return ST-GCHB's alignment (its equations 6 and 7), the mean over all 2B rows.

    ``T = softmax((sim_img + sim_spt)/2 * scale)`` with the paper's `scale` that multiplies, and
    CE(C, T) and CE(C^T, T^T), where the rows of C = S^T are the spots (Chi et al. 2024; the comma
    of equation 6 read as a plus).
    """
    return soft_target_loss(logits, image, spot, 1.0 / scale, published=True)


def weighted_loss(
    logits: Tensor,
    image: Tensor,
    spot: Tensor,
    weight_temperature: float = 1.0,
    *,
    separate: bool = False,
    normalise_weights: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return TPIRBAE's weighted symmetric InfoNCE and its value at chance.

    ``L_v = 1/B sum_i w^v_ii log softmax_j(S_ij)_i``, ``L_g`` alike on ``S^T``, and the loss is
    ``-(L_v + L_g)/2``. L_WSI: ``w^v = w^g = softmax_j((S^vv + S^gg)/(2 weight_temperature))``;
    L_SWSI: ``w^v = softmax_j(S^vv)``, ``w^g = softmax_j(S^gg)`` (Nishimura et al., section 3.2;
    only the diagonal enters). The weights carry no gradient: else the loss could shrink by making
    the weights small.

    Parameters
    ----------
    logits
        (B, B), rows are images.
    image, spot
        Embeddings (B, d) that the weights are made from.
    weight_temperature
        Divides the similarities within the weights; the paper's L_SWSI has none (1).
    separate
        L_SWSI in place of L_WSI.
    normalise_weights
        Divide each direction's weights by their mean, so that chance is ln B and uniform weights
        give `hard_loss`; False is the paper's form, where uniform weights 1/B give it divided by
        B.
    """
    images = (image @ image.T).detach()
    spots = (spot @ spot.T).detach()
    if separate:
        to_spot = _diagonal(images, weight_temperature)
        to_image = _diagonal(spots, weight_temperature)
    else:
        to_spot = to_image = _diagonal((images + spots) / 2, weight_temperature)
    if normalise_weights:
        to_spot, to_image = to_spot / to_spot.mean(), to_image / to_image.mean()
    terms = to_spot * _matched_terms(logits) + to_image * _matched_terms(logits.T)
    chance = 0.5 * (to_spot + to_image).mean() * math.log(len(logits))
    return 0.5 * terms.mean(), chance


def _diagonal(similarity: Tensor, temperature: float) -> Tensor:
    return (similarity / temperature).softmax(dim=1).diagonal()


def _matched_terms(logits: Tensor) -> Tensor:
    """Return ``-log softmax_j(S_ij)_i`` for each row i."""
    labels = torch.arange(len(logits), device=logits.device)
    return cross_entropy(logits, labels, reduction="none")


@torch.no_grad()
def top_k_hits(logits: Tensor, ks: tuple[int, ...] = (1, 5)) -> list[Tensor]:
    """Return, for each k, the share of rows whose own column is among its k largest logits.

    Ties count against the row, so constant logits score zero rather than one.
    """
    rank = (logits >= logits.diagonal().unsqueeze(1)).sum(dim=1) - 1
    return [(rank < k).float().mean() for k in ks]


@dataclass
class PairLoss:
    """What a contrastive loss says of one batch.

    Attributes
    ----------
    loss
        Scalar, with its gradient.
    chance
        Scalar; the same loss for embeddings that know nothing.
    logits
        (B, B), rows are images, without gradient.
    """

    loss: Tensor
    chance: Tensor
    logits: Tensor


class ContrastiveLoss(nn.Module):
    """A contrastive loss over a batch of pairs with its temperature.

    Parameters
    ----------
    kind
        "hard" (CLIP, mclSTExp, L_SI), "soft_target" (BLEEP), "weighted" (L_WSI),
        "weighted_separate" (L_SWSI) or "alignment" (ST-GCHB).
    temperature
        Divides the logits, and the soft targets of "soft_target".
    learn_temperature
        Train it, with ``1/temperature`` at most 100 (CLIP).
    normalise
        Scale embeddings to length one first. False is what all five publications do.
    target_temperature
        Divides the similarities of the targets ("alignment") or weights ("weighted",
        "weighted_separate"); None means `temperature` for "soft_target" and 1 otherwise.
    published
        "soft_target": the targets of BLEEP's code, transposed for the images and with their
        gradient; "weighted" and "weighted_separate": the paper's weights, not normalised.
    """

    def __init__(
        self,
        kind: LossKind = "hard",
        *,
        temperature: float = 1.0,
        learn_temperature: bool = False,
        normalise: bool = False,
        target_temperature: float | None = None,
        published: bool = False,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.normalise = normalise
        self.target_temperature = target_temperature
        self.published = published
        log_scale = torch.tensor(-math.log(temperature))
        if learn_temperature:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    @property
    def temperature(self) -> Tensor:
        """The temperature now, a scalar of at least 0.01 when it is learnt."""
        if isinstance(self.log_scale, nn.Parameter):
            with torch.no_grad():  # in place: a clamp inside the graph would stop its gradient
                self.log_scale.clamp_(max=LARGEST_LOG_SCALE)
        return (-self.log_scale).exp()

    def forward(self, image: Tensor, spot: Tensor) -> PairLoss:
        """Return the loss of the pairs `image` (B, d) and `spot` (B, d)."""
        with torch.autocast(image.device.type, enabled=False):
            image, spot = image.float(), spot.float()
            if self.normalise:
                image, spot = unit(image), unit(spot)
            logits = image @ spot.T / self.temperature
            loss, chance = self._loss(logits, image, spot)
        return PairLoss(loss, chance.detach(), logits.detach())

    def _loss(self, logits: Tensor, image: Tensor, spot: Tensor) -> tuple[Tensor, Tensor]:
        chance = logits.new_tensor(math.log(len(logits)))
        own = 1.0 if self.target_temperature is None else self.target_temperature
        if self.kind == "hard":
            return hard_loss(logits), chance
        if self.kind == "soft_target":
            given = self.target_temperature
            temperature = self.temperature if given is None else given
            published = self.published
            return soft_target_loss(logits, image, spot, temperature, published=published), chance
        if self.kind == "alignment":
            return alignment_loss(logits, image, spot, 1.0 / own), chance
        return weighted_loss(
            logits,
            image,
            spot,
            own,
            separate=self.kind == "weighted_separate",
            normalise_weights=not self.published,
        )
