"""Graph networks: GCN, Deep Graph Infomax, and the mean convolution of Anand et al."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

if TYPE_CHECKING:
    from spotscope.nets.graph import Graph

Readout = Literal["mean", "sum"]


class GCNLayer(nn.Module):
    """``H' = PReLU(A H W + b)`` for a normalised adjacency A (Kipf and Welling 2017; DGI)."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(width_in, width, bias=False)
        self.bias = nn.Parameter(torch.zeros(width))
        self.activation = nn.PReLU()
        nn.init.xavier_uniform_(self.linear.weight)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Return (n, width) from `x` (n, width_in); `graph` is ``Graph.normalised()``."""
        return self.finished(graph.propagate(self.linear(x)))

    def of_sums(self, sums: Tensor) -> Tensor:
        """Return the same from ``sums = A x`` (n, width_in), for ``(A x) W = A (x W)``."""
        return self.finished(self.linear(sums))

    def finished(self, product: Tensor) -> Tensor:
        """Return the same from ``product = A H W`` (n, width)."""
        return self.activation(product + self.bias)


class DeepGraphInfomax(nn.Module):
    """Train a graph encoder to tell a section's nodes from shuffled ones (Velickovic et al. 2019).

    ``L = -mean[log D(z_i, h) + log(1 - D(z'_i, h))] / 2`` with ``D(z, h) = sigmoid(z^T W h)``,
    z' the encoding of features shuffled within the section, and h the section's summary. ln 2 at
    chance. ST-GCHB's equation 1 is the sum over nodes, 2n times this.

    Parameters
    ----------
    encoder
        Maps (features, graph) to (n, width); has `width`.
    readout
        "mean": ``h = sigmoid(mean_i z_i)`` (DGI and the code of ST-GCHB); "sum": ``h = sum_i
        z_i`` (ST-GCHB's text), which grows with the section.
    """

    def __init__(self, encoder: nn.Module, readout: Readout = "mean") -> None:
        super().__init__()
        self.encoder = encoder
        self.readout = readout
        width = int(encoder.width)  # type: ignore[arg-type]
        self.discriminator = nn.Parameter(torch.empty(width, width))
        nn.init.xavier_uniform_(self.discriminator)

    def forward(
        self, x: Tensor, graph: Graph, section: Tensor, order: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the logits (n,) of the true and of the shuffled nodes.

        Parameters
        ----------
        x
            (n, d).
        graph
            Normalised, block-diagonal over sections.
        section
            (n,) whole numbers from 0.
        order
            A permutation within sections; None draws one.
        """
        order = shuffle_within(section) if order is None else order
        true, shuffled = self.encoder(x, graph), self.encoder(x[order], graph)
        toward = self.summary(true, section) @ self.discriminator.T
        return (true * toward[section]).sum(dim=1), (shuffled * toward[section]).sum(dim=1)

    def loss(
        self, x: Tensor, graph: Graph, section: Tensor, order: Tensor | None = None
    ) -> Tensor:
        """Return the mean binary cross-entropy, a scalar; see `forward`."""
        true, shuffled = self(x, graph, section, order)
        return 0.5 * (
            binary_cross_entropy_with_logits(true, torch.ones_like(true))
            + binary_cross_entropy_with_logits(shuffled, torch.zeros_like(shuffled))
        )

    def summary(self, nodes: Tensor, section: Tensor) -> Tensor:
        """Return each section's summary (S, width) of its `nodes` (n, width)."""
        n_sections = int(section.max()) + 1
        total = nodes.new_zeros(n_sections, nodes.shape[1]).index_add(0, section, nodes)
        if self.readout == "sum":
            return total
        sizes = torch.bincount(section, minlength=n_sections).clamp(min=1)
        return (total / sizes[:, None]).sigmoid()


def shuffle_within(section: Tensor) -> Tensor:
    """Return a random permutation (n,) that moves no node to another section."""
    chance = torch.rand(len(section), device=section.device)
    by_chance = chance.argsort()
    shuffled = by_chance[section[by_chance].argsort(stable=True)]
    order = torch.empty_like(shuffled)
    order[section.argsort(stable=True)] = shuffled
    return order


class MeanConv(nn.Module):
    """``h'_i = FFN([h_i || mean of h over i's neighbours])`` (Anand et al.; GraphSAGE).

    FFN is batch normalisation, dropout, Linear, ReLU. A node without neighbours sees zeros.
    """

    def __init__(self, width_in: int, width: int, dropout: float = 0.8) -> None:
        super().__init__()
        self.feed = _feed_forward(2 * width_in, width, dropout)

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        """Return (n, width) from `h` (n, width_in); `graph` is ``Graph.averaged()``."""
        return self.feed(torch.cat([h, graph.propagate(h)], dim=1))


class MeanConvNetwork(nn.Module):
    """Anand et al.'s graph network: two mean convolutions, then a linear output.

    Parameters
    ----------
    width_in, width_out
        32 pooled image features and 250 genes in the paper.
    hidden, dropout
        32 and 0.8 in the paper.
    """

    def __init__(
        self, width_in: int, width_out: int, hidden: int = 32, dropout: float = 0.8
    ) -> None:
        super().__init__()
        self.before = _feed_forward(width_in, hidden, dropout)
        self.convolutions = nn.ModuleList(MeanConv(hidden, hidden, dropout) for _ in range(2))
        self.out = nn.Linear(hidden, width_out)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Return (n, width_out) from `x` (n, width_in); `graph` is ``Graph.averaged()``."""
        h = self.before(x)
        for convolution in self.convolutions:
            h = h + convolution(h, graph)
        return self.out(h)


def _feed_forward(width_in: int, width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm1d(width_in), nn.Dropout(dropout), nn.Linear(width_in, width), nn.ReLU()
    )
