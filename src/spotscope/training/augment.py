"""Patches from bytes to numbers, with or without random changes, a whole batch at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Optical density of haematoxylin and eosin in red, green, blue (Ruifrok and Johnston 2001); the
# third is what is perpendicular to both.
_STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105))


@dataclass(frozen=True)
class Augmentation:
    """Random changes that leave the tissue what it is.

    Attributes
    ----------
    turns
        One of the eight flips and quarter turns, each as likely.
    stain
        Each stain's amount is multiplied by 1 +- this, evenly (Tellez et al. 2019: 0.05 light).
    base
        To each stain's amount this is added, +-, evenly, in optical density.
    """

    turns: bool = True
    stain: float = 0.1
    base: float = 0.02

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return images as `to_images` does, changed, from RGB `pixels` (n, H, W, 3) uint8."""
        if self.turns and pixels.shape[1] == pixels.shape[2]:
            pixels = turned(pixels)
        if self.stain or self.base:
            return stained(pixels, self.stain, self.base)
        return to_images(pixels)


def to_images(pixels: Tensor) -> Tensor:
    """Return (n, 3, H, W) float32 of 0 to 1, channels last in memory, from (n, H, W, 3) uint8."""
    return pixels.permute(0, 3, 1, 2).float().div_(255)


def turned(pixels: Tensor) -> Tensor:
    """Return `pixels` (n, S, S, 3), each in one of its eight symmetries at random."""
    chosen = torch.randint(0, 2, (3, len(pixels), 1, 1, 1), device=pixels.device).bool()
    pixels = torch.where(chosen[0], pixels.flip(1), pixels)
    pixels = torch.where(chosen[1], pixels.flip(2), pixels)
    return torch.where(chosen[2], pixels.transpose(1, 2), pixels)


def stained(pixels: Tensor, stain: float, base: float) -> Tensor:
    """Return images with each patch's haematoxylin and eosin changed at random.

    With ``d = -ln((x + 1)/256)`` and the stains' densities as rows of M, the amounts ``c = d
    M^-1`` become ``c * (1 + a) + b``, a and b even within +-`stain` and +-`base`, and
    ``d' = c' M``: one 3 x 3 matrix and one offset a patch.
    """
    device, n = pixels.device, len(pixels)
    matrix = _stain_matrix(device)
    scale = 1 + stain * (2 * torch.rand(n, 1, 3, device=device) - 1)
    offset = base * (2 * torch.rand(n, 1, 3, device=device) - 1)
    density = pixels.flatten(1, 2).float().add_(1).div_(256).log_().neg_()
    with torch.autocast(device.type, enabled=False):
        change = (torch.linalg.inv(matrix) * scale) @ matrix  # (n, 3, 3)
        density = torch.baddbmm(offset @ matrix, density, change)
    images = density.neg_().exp_().mul_(256).sub_(1).div_(255).clamp_(0, 1)
    return images.view(pixels.shape).permute(0, 3, 1, 2)


def _stain_matrix(device: torch.device) -> Tensor:
    pair = torch.nn.functional.normalize(torch.tensor(_STAINS), dim=1)
    rest = torch.nn.functional.normalize(torch.linalg.cross(pair[0], pair[1]), dim=0)
    return torch.cat([pair, rest[None]]).to(device)
