"""Spot encoders: mclSTExp's Transformer in two forms, and a sampled latent variable."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from spotscope.errors import SpotScopeError


class NeighbourTransformer(nn.Module):
    """Encode a spot from its expression and that of its own spatial neighbours.

    mclSTExp's encoder (Min et al. 2024: a token is the expression plus a learnt position,
    pre-norm layers, 8 heads of 64, feed-forward of width G) with two corrections: attention goes
    to the spot's neighbours on the tissue instead of a random batch, and positions are offsets
    from the spot in units of the pitch instead of absolute rows. So a spot's embedding depends
    neither on the batch nor on where its section lies on the slide. The first token is the spot
    and is what comes out.

    Parameters
    ----------
    n_genes
        G, the width of a token and of the result.
    layers, heads, head_width, dropout
        2, 8, 64 and 0 in the paper.
    """

    def __init__(
        self,
        n_genes: int,
        layers: int = 2,
        heads: int = 8,
        head_width: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.width = n_genes
        self.position = nn.Linear(4 * _WAVES, n_genes, bias=False)
        self.layers = nn.ModuleList(
            _Layer(n_genes, heads, head_width, dropout) for _ in range(layers)
        )

    def forward(self, expression: Tensor, offsets: Tensor, present: Tensor) -> Tensor:
        """Return (B, G) for B spots with K neighbours each.

        Parameters
        ----------
        expression
            (B, 1 + K, G), the spot first.
        offsets
            (B, 1 + K, 2) from the spot, row and col in pitch units; the first is zero.
        present
            (B, 1 + K) bool, False where a spot has fewer neighbours.
        """
        tokens = expression + self.position(_waves(offsets))
        mask = present[:, None, None, :]
        for layer in self.layers[:-1]:
            tokens = layer(tokens, tokens, mask)
        return self.layers[-1](tokens[:, :1], tokens, mask)[:, 0]


class BatchTransformer(nn.Module):
    """mclSTExp's published spot encoder: attention over the batch, absolute positions.

    ``token = expression + E_row[row] + E_col[col]``, two pre-norm layers across the B spots of
    the batch (Min et al. 2024 and its code). A spot's embedding depends on which other spots are
    in the batch, so embed in fixed, ordered batches of the training size.

    Parameters
    ----------
    n_genes
        G, the width of a token and of the result.
    rows, cols
        Array positions of all training spots, integers from 0. The published tables have 65,536
        rows whose unseen entries stay random; these have what training needs, and an unseen
        position is refused.
    layers, heads, head_width, dropout
        2, 8, 64 and 0 in the paper.
    """

    seen_rows: Tensor
    seen_cols: Tensor

    def __init__(
        self,
        n_genes: int,
        rows: Tensor,
        cols: Tensor,
        layers: int = 2,
        heads: int = 8,
        head_width: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.width = n_genes
        self.register_buffer("seen_rows", _seen(rows))
        self.register_buffer("seen_cols", _seen(cols))
        self.row = nn.Embedding(len(self.seen_rows), n_genes)
        self.col = nn.Embedding(len(self.seen_cols), n_genes)
        self.layers = nn.ModuleList(
            _Layer(n_genes, heads, head_width, dropout) for _ in range(layers)
        )

    def forward(self, expression: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """Return (B, G) from `expression` (B, G) at `rows` and `cols` (B,).

        Raises
        ------
        SpotScopeError
            In evaluation, at a row or column that no training spot had.
        """
        if not self.training:
            _refuse_unseen(rows, self.seen_rows, "row")
            _refuse_unseen(cols, self.seen_cols, "column")
        tokens = (expression + self.row(rows) + self.col(cols))[None]
        for layer in self.layers:
            tokens = layer(tokens, tokens, None)
        return tokens[0]


class LatentSampler(nn.Module):
    """A frozen latent variable as spot features: sampled in training, its mean in evaluation.

    TPIRBAE's gene side, ``z = mu + sigma * e`` with ``e ~ N(0, 1)`` anew at each step
    (Nishimura et al., section 3.2), for a posterior computed once because its encoder is frozen.
    """

    def __init__(self, width: int = 30) -> None:
        super().__init__()
        self.width = width

    def forward(self, mean: Tensor, scale: Tensor) -> Tensor:
        """Return (B, width) from the posterior's `mean` and standard deviation `scale`."""
        return mean + scale * torch.randn_like(scale) if self.training else mean


class _Layer(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual."""

    def __init__(self, width: int, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        inner = heads * head_width
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, inner, bias=False)
        self.key_value = nn.Linear(width, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width)
        self.feed_norm = nn.LayerNorm(width)
        self.feed_in = nn.Linear(width, width)
        self.feed_out = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Let `queries` (B, Q, width), the first Q of `tokens` (B, T, width), attend to these."""
        normed = self.norm(tokens)
        query = self._split(self.query(normed[:, : queries.shape[1]]))
        key, value = self.key_value(normed).chunk(2, dim=-1)
        drop = self.dropout if self.training else 0.0
        attended = scaled_dot_product_attention(
            query, self._split(key), self._split(value), attn_mask=mask, dropout_p=drop
        )
        attended = attended.transpose(1, 2).flatten(2)
        queries = queries + self.drop(self.out(attended))
        fed = self.feed_out(self.drop(gelu(self.feed_in(self.feed_norm(queries)))))
        return queries + self.drop(fed)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


_WAVES = 6  # wavelengths of 2 to 64 pitches: from the next spot to across a section


def _waves(offsets: Tensor) -> Tensor:
    """Return sines and cosines (..., 4 * _WAVES) of `offsets` (..., 2) in pitch units."""
    lengths = 2.0 ** torch.arange(1, _WAVES + 1, device=offsets.device, dtype=offsets.dtype)
    phase = (2 * math.pi * offsets[..., None] / lengths).flatten(-2)
    return torch.cat([phase.sin(), phase.cos()], dim=-1)


def _seen(positions: Tensor) -> Tensor:
    if len(positions) == 0 or positions.min() < 0 or positions.is_floating_point():
        raise SpotScopeError(
            "Absolute positions must be the array rows and columns of the spots, whole numbers"
            " from 0; without them use the relative positions."
        )
    seen = torch.zeros(int(positions.max()) + 1, dtype=torch.bool)
    seen[positions.cpu()] = True
    return seen


def _refuse_unseen(positions: Tensor, seen: Tensor, what: str) -> None:
    known = (positions >= 0) & (positions < len(seen))
    known &= seen[positions.clamp(0, len(seen) - 1)]
    if not bool(known.all()):
        raise SpotScopeError(
            f"Array {what} {int(positions[~known][0])} was in no training section, so its"
            " published position embedding is random; use the relative positions."
        )
