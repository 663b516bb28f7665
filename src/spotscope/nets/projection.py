"""The projection head that BLEEP, TPIRBAE, mclSTExp and ST-GCHB put on both branches."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """Map features to the joint space.

    ``p = W1 x + b1``, ``y = LayerNorm(p + dropout(W2 GELU(p) + b2))``: Linear, GELU, Linear,
    dropout, residual, LayerNorm (BLEEP, NeurIPS 2023; TPIRBAE section 4 uses the same).

    Parameters
    ----------
    width_in
        Features a row.
    width
        Width of the joint space: 256 (BLEEP, mclSTExp, TPIRBAE), 128 (ST-GCHB).
    dropout
        0.1 (BLEEP, TPIRBAE), 0 (mclSTExp), 0.4 (ST-GCHB).
    """

    def __init__(self, width_in: int, width: int = 256, dropout: float = 0.1) -> None:
        super().__init__()
        self.width = width
        self.project = nn.Linear(width_in, width)
        self.refine = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        """Return the embeddings (n, width) of `features` (n, width_in)."""
        projected = self.project(features)
        refined = self.dropout(self.refine(nn.functional.gelu(projected)))
        return self.norm(projected + refined)


def unit(embeddings: Tensor) -> Tensor:
    """Return `embeddings` (n, d) scaled to length one; a zero row stays zero."""
    return nn.functional.normalize(embeddings, dim=-1, eps=torch.finfo(embeddings.dtype).tiny)
