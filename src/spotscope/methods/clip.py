"""CLIP on patches and spots: the plain contrastive baseline of TPIRBAE's comparison.

Radford et al. 2021; symmetric InfoNCE with hard targets (TPIRBAE's L_SI), the expression itself
through a projection head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from spotscope.methods.bleep import BleepMethod, BleepSettings

if TYPE_CHECKING:
    from spotscope.methods.base import MethodSettings
    from spotscope.nets.contrastive import ContrastiveLoss


class ClipSettings(BleepSettings):
    """Settings of `clip`."""


class ClipMethod(BleepMethod):
    """BLEEP's networks under CLIP's loss: the pair's own spot is right, all others are wrong."""

    name: ClassVar[str] = "clip"
    title: ClassVar[str] = "CLIP"
    summary: ClassVar[str] = "contrastive pair with hard targets, prediction by retrieval"
    Settings: ClassVar[type[MethodSettings]] = ClipSettings

    def loss(self) -> ContrastiveLoss:
        """Return L_SI."""
        from spotscope.nets.contrastive import ContrastiveLoss

        settings = self.settings
        return ContrastiveLoss(
            "hard",
            temperature=settings.temperature,
            normalise=settings.normalise,
        )
