"""mclSTExp (Min et al. 2024): a Transformer over spots, DenseNet-121 over patches, CLIP's loss.

A spot's token is its expression plus its position; two pre-norm layers of 8 heads; both sides go
through projection heads to 256; hard targets at temperature 1; 200 neighbours chosen by cosine and
weighted by 1/d². See docs/methods/mclstexp.md for what differs and why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from spotscope.methods.contrastive import (
    ContrastiveMethod,
    ContrastiveSettings,
    sections_positions,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from spotscope.data.cohort import Cohort
    from spotscope.methods.base import MethodSettings
    from spotscope.nets.contrastive import ContrastiveLoss
    from spotscope.progress import Progress
    from spotscope.training.data import SpotTable


class MclstexpSettings(ContrastiveSettings):
    """Settings of `mclstexp`: AdamW 1e-4 / 1e-3, batches of 128, 90 epochs, 200 neighbours."""

    epochs: int = Field(90, ge=1, title="Epochs", description="Passes over the training spots.")
    batch_size: int = Field(128, ge=2, title="Batch", description="Spots compared at a time.")
    learning_rate: float = Field(1e-4, gt=0, title="Learning rate", description="Of AdamW.")
    dropout: float = Field(0.0, ge=0, lt=1, title="Dropout", description="In the two heads.")
    neighbours: int = Field(
        200, ge=1, title="Neighbours", description="Reference spots that a prediction averages."
    )
    weights: Literal["mean", "softmax", "inverse"] = Field(
        "inverse", title="Weights", description="How much each of them counts."
    )
    around: int = Field(
        8, ge=1, le=64, title="Spots around", description="Neighbours on the tissue attended to."
    )


class MclstexpMethod(ContrastiveMethod):
    """Contrastive pair whose spot encoder attends to the spot's neighbours on the tissue.

    As published, attention goes across whichever spots share a shuffled batch and positions are
    absolute rows of a table; both are kept under `paper_compat`.
    """

    name: ClassVar[str] = "mclstexp"
    title: ClassVar[str] = "mclSTExp"
    summary: ClassVar[str] = "Transformer over spots, contrastive pair, prediction by retrieval"
    Settings: ClassVar[type[MethodSettings]] = MclstexpSettings
    settings: MclstexpSettings
    trunk: ClassVar[str] = "densenet121"

    def learn(self, cohort: Cohort, validation: Cohort | None, progress: Progress) -> None:
        """Train as the others do; warn of what the published attention means."""
        super().learn(cohort, validation, progress)
        if self.settings.paper_compat:
            self.notes.append(
                "As published, a reference spot's embedding depends on which spots are embedded"
                f" with it, {self.settings.batch_size} in a row; only the same sections in the"
                " same order give the same predictions."
            )

    def spot_table(self, cohort: Cohort) -> SpotTable:
        """Return expression with the neighbours on the tissue, or with array positions."""
        import torch

        from spotscope.training.data import NeighbourTable, SpotTable

        expression = torch.from_numpy(cohort.expression(self.genes))
        if self.settings.paper_compat:
            return SpotTable(expression, *self._array(cohort))
        centres, pitches = [], []
        for positions, pitch in sections_positions(cohort):
            centres.append(positions)
            pitches.append(np.full(len(positions), pitch))
        return NeighbourTable(
            expression,
            torch.from_numpy(np.concatenate(centres)),
            torch.from_numpy(cohort.section_of.astype(np.int64)),
            self.settings.around,
            torch.from_numpy(np.concatenate(pitches)),
        )

    def spot_encoder(self, cohort: Cohort | None) -> tuple[nn.Module, int]:
        """Return the Transformer over the neighbourhood, or over the batch as published."""
        import torch

        from spotscope.nets.spots import BatchTransformer, NeighbourTransformer

        n_genes = len(self.genes)
        if not self.settings.paper_compat:
            return NeighbourTransformer(n_genes), n_genes
        if cohort is not None:
            rows, cols = self._array(cohort)
        else:
            rows, cols = (
                torch.arange(self.shapes[f"net.spot_encoder.{name}.weight"][0])
                for name in ("row", "col")
            )
        return BatchTransformer(n_genes, rows, cols), n_genes

    def embedding_batch(self) -> int:
        """Return the training's batch as published, for embeddings depend on it there."""
        return self.settings.batch_size if self.settings.paper_compat else 1024

    def loss(self) -> ContrastiveLoss:
        """Return CLIP's loss."""
        from spotscope.nets.contrastive import ContrastiveLoss

        settings = self.settings
        return ContrastiveLoss(
            "hard", temperature=settings.temperature, normalise=settings.normalise
        )

    def _array(self, cohort: Cohort) -> tuple[Tensor, Tensor]:
        """Return each spot's row and column on a grid of one pitch, from 0 in each section."""
        import torch

        steps = []
        for positions, pitch in sections_positions(cohort):
            steps.append(np.rint((positions - positions.min(axis=0)) / pitch).astype(np.int64))
        rows, cols = np.concatenate(steps).T
        return torch.from_numpy(rows.copy()), torch.from_numpy(cols.copy())
