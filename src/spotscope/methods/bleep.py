"""BLEEP (Xie et al., NeurIPS 2023): bi-modal embedding with soft targets, query by retrieval.

ResNet-50 and a projection head for the patch, a projection head straight from the expression for
the spot; cross-entropy against targets from within-modality similarity; the mean of the 50 nearest
reference spots. See docs/methods/bleep.md for what differs and why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from spotscope.methods.contrastive import ContrastiveMethod, ContrastiveSettings

if TYPE_CHECKING:
    from torch import nn

    from spotscope.data.cohort import Cohort
    from spotscope.methods.base import MethodSettings
    from spotscope.nets.contrastive import ContrastiveLoss
    from spotscope.training.data import SpotTable


class BleepSettings(ContrastiveSettings):
    """Settings of `bleep`: AdamW 1e-3 / 1e-3, batches of 256, 4 epochs, 50 neighbours."""

    temperature: float = Field(
        0.1,
        gt=0,
        title="Temperature",
        description="Divides the similarities; those of embeddings of length one, -1 to 1, need a"
        " small one to tell a pair from the rest.",
    )
    normalise: bool = Field(
        True, title="Unit length", description="Whether embeddings are scaled to length one."
    )

    PUBLISHED: ClassVar[dict[str, Any]] = {"normalise": False}
    """What `paper_compat` means for settings that are not set themselves."""

    @model_validator(mode="before")
    @classmethod
    def _resolved(cls, content: Any) -> Any:
        """Make what follows from other settings plain, so that a saved model says what it used."""
        if not isinstance(content, dict):
            return content
        if content.get("paper_compat"):
            content = {**cls.PUBLISHED, **content}
        if content.get("normalise", True) is False:  # similarities go up to the width then
            content = {"temperature": 1.0, **content}
        return content


class BleepMethod(ContrastiveMethod):
    """Contrastive pair with soft targets.

    As published, embeddings of LayerNorm-256 are compared without normalising at temperature 1,
    where the soft targets are one-hot to all digits and the loss is plain CLIP; the default scales
    embeddings to length one, so that the targets are soft.
    """

    name: ClassVar[str] = "bleep"
    title: ClassVar[str] = "BLEEP"
    summary: ClassVar[str] = "contrastive pair with soft targets, prediction by retrieval"
    Settings: ClassVar[type[MethodSettings]] = BleepSettings
    settings: BleepSettings

    def spot_table(self, cohort: Cohort) -> SpotTable:
        """Return the expression of the panel."""
        import torch

        from spotscope.training.data import SpotTable

        return SpotTable(torch.from_numpy(cohort.expression(self.genes)))

    def spot_encoder(self, cohort: Cohort | None) -> tuple[nn.Module, int]:
        """Return nothing to encode with: the head takes the expression itself."""
        from torch import nn

        return nn.Identity(), len(self.genes)

    def loss(self) -> ContrastiveLoss:
        """Return the soft-target loss."""
        from spotscope.nets.contrastive import ContrastiveLoss

        settings = self.settings
        return ContrastiveLoss(
            "soft_target",
            temperature=settings.temperature,
            normalise=settings.normalise,
            published=settings.paper_compat,
        )
