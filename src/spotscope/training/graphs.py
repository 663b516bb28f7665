"""Pairs whose two sides look along a graph of the spots, as in ST-GCHB.

A graph layer's ``A X W`` with fixed X is a product with the sums ``A X``, which are made once for
all spots; only where X comes from a network that is trained must a batch hold the neighbours too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from spotscope.errors import SpotScopeError
from spotscope.nets.gcn import DeepGraphInfomax, GCNLayer
from spotscope.nets.hsic import bottleneck, hsic, nhsic
from spotscope.training.data import SpotTable
from spotscope.training.frozen import FeatureTable
from spotscope.training.models import Batch, ContrastiveModel, StepResult, pairs_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotscope.nets.contrastive import ContrastiveLoss
    from spotscope.nets.graph import Graph
    from spotscope.progress import Progress

Side = Literal["spot", "image"]
LEARNING_RATE = 1e-3  # of Deep Graph Infomax, in the published code


class SummedFeatures(FeatureTable):
    """The spots of another table, with image features and their sums over the graph.

    Parameters
    ----------
    spots
        What the spot encoder takes.
    features, sums
        (N, w) each: X and ``A X``.
    """

    def __init__(self, spots: SpotTable, features: Tensor, sums: Tensor) -> None:
        super().__init__(spots, features)
        self.tables = (features, sums)

    def image_inputs(self, index: Tensor) -> tuple[Tensor, ...]:
        """Return the features of spots `index` and their sums."""
        return tuple(table[index] for table in self.tables)


class NeighbourPatches(SpotTable):
    """The spots of another table, each shown with the patches of its neighbours.

    Parameters
    ----------
    spots
        What the spot encoder takes.
    graph
        On all spots, with loops; no edge joins two sections.
    """

    def __init__(self, spots: SpotTable, graph: Graph) -> None:
        self.spots = spots
        self.senders, weights = _rows(graph)
        super().__init__(weights)

    def to(self, device: torch.device) -> None:
        """Move the weights and the other table; the patches' numbers are needed on the CPU."""
        super().to(device)
        self.spots.to(device)

    def patches_of(self, index: Tensor) -> Tensor:
        """Return (D B,) patches: the spots' own, then the next sender of each, and so on."""
        return self.senders[index].T.reshape(-1)

    def spot_inputs(self, index: Tensor) -> tuple[Tensor, ...]:
        """Return the spot encoder's inputs."""
        return self.spots.spot_inputs(index)

    def image_inputs(self, index: Tensor) -> tuple[Tensor, ...]:
        """Return the weights (B, D) of the senders."""
        return (self.tables[0][index],)


def _rows(graph: Graph) -> tuple[Tensor, Tensor]:
    """Return each node's senders (n, D), itself first, and their weights; the rest weighs 0."""
    apart = (graph.receivers != graph.senders).long()
    order = (graph.receivers * 2 + apart).argsort(stable=True)
    receivers = graph.receivers[order]
    counts = torch.bincount(receivers, minlength=graph.n)
    slot = torch.arange(len(order)) - (counts.cumsum(0) - counts)[receivers]
    most = int(counts.max())
    senders = torch.arange(graph.n)[:, None].repeat(1, most)
    weights = torch.zeros(graph.n, most)
    senders[receivers, slot] = graph.senders[order]
    weights[receivers, slot] = graph.weights[order]
    return senders, weights


class GraphSpots(nn.Module):
    """ST-GCHB's spot encoder: a graph layer over the components of the expression."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.graph = GCNLayer(width_in, width)

    def forward(self, components: Tensor, sums: Tensor) -> Tensor:
        """Return (B, width) from the `sums` (B, width_in) over the graph."""
        return self.graph.of_sums(sums)


class GraphImages(nn.Module):
    """ST-GCHB's image encoder: a graph layer over the features of patches.

    Parameters
    ----------
    trunk
        Maps images to features; None when these are frozen and given with their sums.
    width_in, width
        Of the features and of the layer.
    """

    def __init__(self, trunk: nn.Module | None, width_in: int, width: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.graph = GCNLayer(width_in, width)

    def forward(self, images: Tensor | None, *inputs: Tensor) -> Tensor:
        """Return (B, width); see `seen`."""
        return self.seen(images, *inputs)[1]

    def seen(self, images: Tensor | None, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the spots' own features (B, width_in) and the layer's output (B, width).

        Parameters
        ----------
        images, inputs
            Of `SummedFeatures` (no images) or `NeighbourPatches`.
        """
        if self.trunk is None:
            own, sums = inputs
        else:
            (weights,) = inputs
            n, senders = weights.shape
            features = self.trunk(images).view(senders, n, -1)
            own = features[0]
            sums = (features * weights.T[..., None]).sum(dim=0)
        return own, self.graph.of_sums(sums)


class GraphPair(ContrastiveModel):
    """A pair with ST-GCHB's bottlenecks.

    The loss is the contrastive one plus, for each side in `sides`, ``nHSIC(given; middle) - beta
    nHSIC(result; middle)`` (Chi et al. 2024, equation 5): given are the components or the patch's
    features, middle is the graph layer's output, result the embedding. The terms are shown as
    "nhsic_input" and "nhsic_output", those of the images with "image_" before them.

    Parameters
    ----------
    image_encoder, image_head, spot_encoder, spot_head, loss
        Of `ContrastiveModel`.
    sides
        Which sides have a bottleneck.
    beta
        Weight of what is kept against what is forgotten.
    scale
        Width of the Gaussian kernels; None takes the median distance in the batch.
    published
        Take HSIC for nHSIC in the second term of the images, as the published code does.
    """

    image_encoder: GraphImages

    def __init__(
        self,
        image_encoder: GraphImages,
        image_head: nn.Module,
        spot_encoder: nn.Module,
        spot_head: nn.Module,
        loss: ContrastiveLoss,
        *,
        sides: Sequence[Side] = ("spot",),
        beta: float = 25.0,
        scale: float | None = None,
        published: bool = False,
    ) -> None:
        super().__init__(image_encoder, image_head, spot_encoder, spot_head, loss)
        self.sides, self.beta, self.scale, self.published = sides, beta, scale, published

    def step(self, batch: Batch) -> StepResult:
        """Return the contrastive loss with the in-batch retrieval, plus the bottlenecks."""
        own, image_middle = self.image_encoder.seen(batch.images, *batch.image_inputs)
        spot_middle = self.spot_encoder(*batch.spot_inputs)
        image, spot = self.image_head(image_middle), self.spot_head(spot_middle)
        parts = {
            "spot": (batch.spot_inputs[0], spot_middle, spot),
            "image": (own, image_middle, image),
        }
        further: dict[str, Tensor] = {}
        terms: dict[str, Tensor] = {}
        for side in self.sides:
            prefix = "image_" if side == "image" else ""
            total, forget, keep = self._bottleneck(side, *parts[side])
            further[f"{prefix}bottleneck"] = total
            terms[f"{prefix}nhsic_input"] = forget.detach()
            terms[f"{prefix}nhsic_output"] = keep.detach()
        result = pairs_result(self.loss(image, spot), further)
        result.values |= terms
        return result

    def _bottleneck(
        self, side: Side, given: Tensor, middle: Tensor, made: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(given.device.type, enabled=False):  # distances need all digits
            given, middle, made = given.float(), middle.float(), made.float()
            if side == "image" and self.published:
                forget = nhsic(given, middle, self.scale, self.scale)
                keep = hsic(made, middle, self.scale, self.scale)
                return forget - self.beta * keep, forget, keep
            return bottleneck(given, middle, made, self.beta, self.scale)


def pretrain_graph(
    layer: GCNLayer,
    nodes: Tensor,
    graphs: Sequence[Graph],
    epochs: int,
    device: str,
    progress: Progress,
    message: str,
) -> float:
    """Train a graph layer by Deep Graph Infomax, in place, and leave it on the CPU.

    Parameters
    ----------
    nodes
        (N, width_in), the sections' nodes one after another; they stay as they are.
    graphs
        One a section, of as many nodes; a step of Adam each.

    Returns
    -------
    The mean loss of the last epoch; ln 2 = 0.693 at chance.
    """
    infomax = DeepGraphInfomax(layer).to(device)
    optimiser = torch.optim.Adam(infomax.parameters(), lr=LEARNING_RATE)
    sections = [
        (part, graph.to(device), torch.zeros(graph.n, dtype=torch.int64, device=device))
        for part, graph in zip(nodes.split([g.n for g in graphs]), graphs, strict=True)
        if graph.n > 1  # one spot cannot be shuffled
    ]
    mean = math.log(2)
    for epoch in range(epochs if sections else 0):
        total = 0.0
        for part, graph, alone in sections:
            progress.check()
            loss = infomax.loss(part.to(device), graph, alone)
            if not bool(loss.isfinite()):
                raise SpotScopeError(
                    f"{message}: the loss is not a number in epoch {epoch + 1}; leave this part"
                    " out (no graph epochs), or check the counts and the features."
                )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach())
        mean = total / len(sections)
        progress.report((epoch + 1) / epochs, f"{message}, epoch {epoch + 1} of {epochs}")
    layer.cpu()
    return mean
