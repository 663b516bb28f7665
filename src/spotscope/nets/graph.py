"""Neighbourhoods of spots: graphs, block-diagonal batches of them, and tables of neighbours.

No edge ever joins two sections. Positions may be in any one unit, micrometres as a rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class Graph:
    """Weighted directed edges among `n` nodes.

    Attributes
    ----------
    receivers, senders
        (E,) int64; an edge carries the sender's features to the receiver.
    weights
        (E,) float32.
    n
        Nodes; one without an edge is allowed.
    """

    receivers: Tensor
    senders: Tensor
    weights: Tensor
    n: int

    def to(self, device: torch.device | str) -> Graph:
        """Return the graph on `device`."""
        return Graph(
            self.receivers.to(device), self.senders.to(device), self.weights.to(device), self.n
        )

    def propagate(self, x: Tensor) -> Tensor:
        """Return ``A x`` (n, d) for `x` (n, d): the weighted sum over each node's senders."""
        messages = x[self.senders] * self.weights[:, None].to(x.dtype)
        return x.new_zeros(self.n, x.shape[1]).index_add(0, self.receivers, messages)

    def normalised(self) -> Graph:
        """Return ``D^-1/2 (A + I) D^-1/2`` (Kipf and Welling 2017), D the degrees of A + I.

        Every node gets its own loop first, so that an isolated one keeps its features.
        """
        loops = torch.arange(self.n, device=self.receivers.device)
        apart = self.receivers != self.senders
        receivers = torch.cat([self.receivers[apart], loops])
        senders = torch.cat([self.senders[apart], loops])
        weights = torch.cat([self.weights[apart], torch.ones_like(loops, dtype=torch.float32)])
        into = self.weights.new_zeros(self.n).index_add(0, receivers, weights).rsqrt()
        out = self.weights.new_zeros(self.n).index_add(0, senders, weights).rsqrt()
        return Graph(receivers, senders, into[receivers] * weights * out[senders], self.n)

    def averaged(self) -> Graph:
        """Return the graph whose `propagate` is the mean over senders; 0 without any."""
        total = self.weights.new_zeros(self.n).index_add(0, self.receivers, self.weights)
        return Graph(self.receivers, self.senders, self.weights / total[self.receivers], self.n)

    def around(self, seeds: Tensor, hops: int = 1) -> tuple[Tensor, Graph]:
        """Return what `hops` propagations need to be exact at `seeds`.

        Returns
        -------
        nodes
            (m,) the seeds first, in their order, then the nodes that reach them.
        graph
            On these m nodes, with the weights of this graph.
        """
        wanted = torch.zeros(self.n, dtype=torch.bool, device=seeds.device)
        wanted[seeds] = True
        used = torch.zeros_like(self.receivers, dtype=torch.bool)
        for _ in range(hops):
            used = wanted[self.receivers]
            wanted[self.senders[used]] = True
        wanted[seeds] = False
        nodes = torch.cat([seeds, wanted.nonzero().squeeze(1)])
        place = torch.zeros(self.n, dtype=torch.int64, device=seeds.device)
        place[nodes] = torch.arange(len(nodes), device=seeds.device)
        kept = (self.receivers[used], self.senders[used])
        return nodes, Graph(place[kept[0]], place[kept[1]], self.weights[used], len(nodes))


def knn_graph(positions: Tensor, section: Tensor, k: int, *, symmetric: bool = True) -> Graph:
    """Join each spot to its `k` nearest others of its section, with weight one.

    Parameters
    ----------
    positions
        (n, 2).
    section
        (n,) whole numbers.
    k
        Fewer where a section has fewer spots.
    symmetric
        Keep an edge both ways when it holds one way.
    """
    table, present = neighbour_table(positions, section, k)
    receivers = torch.arange(len(table))[:, None].expand_as(table)[present]
    return _unweighted(receivers, table[present], len(table), symmetric)


def radius_graph(positions: Tensor, section: Tensor, radius: float) -> Graph:
    """Join all pairs of a section that are closer than `radius`, with weight one.

    ST-GCHB's ``A_ij = 1 iff dist < R``; 1.1 pitches joins the 6 neighbours of a hexagonal grid
    or the 4 of a square one.
    """
    from scipy.spatial import cKDTree

    pairs = [np.zeros((0, 2), dtype=np.int64)]
    for members, points in _by_section(positions, section):
        near = cKDTree(points).query_pairs(np.nextafter(radius, 0), output_type="ndarray")
        pairs.append(members[near])
    joined = torch.from_numpy(np.concatenate(pairs))
    return _unweighted(joined[:, 0], joined[:, 1], len(positions), symmetric=True)


def neighbour_table(
    positions: Tensor, section: Tensor, k: int, *, include_self: bool = False
) -> tuple[Tensor, Tensor]:
    """Return each spot's `k` nearest of its own section, nearest first.

    Returns
    -------
    table
        (n, k) int64, or (n, 1 + k) with the spot itself first when `include_self`; the spot's own
        index fills up what a small section lacks.
    present
        The same shape, bool; False where filled up.
    """
    from scipy.spatial import cKDTree

    n = len(positions)
    table = np.tile(np.arange(n)[:, None], (1, 1 + k))
    present = np.zeros((n, 1 + k), dtype=bool)
    present[:, 0] = True
    for members, points in _by_section(positions, section):
        reach = min(1 + k, len(points))
        _, found = cKDTree(points).query(points, k=range(1, reach + 1))
        table[members, :reach] = members[_self_first(found)]
        present[members, :reach] = True
    start = 0 if include_self else 1
    return torch.from_numpy(table[:, start:].copy()), torch.from_numpy(present[:, start:].copy())


def pool_neighbours(features: Tensor, table: Tensor, present: Tensor) -> Tensor:
    """Return the mean of `features` (n, d) over each row of a `neighbour_table`.

    Anand et al.'s kNN pooling is over the 15 nearest spots; whether the spot counts among them is
    the table's choice. A spot with no neighbour gets zeros.
    """
    weights = present.to(features.dtype)
    total = (features[table] * weights[..., None]).sum(dim=1)
    return total / weights.sum(dim=1, keepdim=True).clamp(min=1)


def block_diagonal(graphs: Sequence[Graph]) -> Graph:
    """Return one graph whose blocks are `graphs`, for their nodes stacked in the same order."""
    starts = np.cumsum([0, *(graph.n for graph in graphs)])
    return Graph(
        torch.cat([graph.receivers + int(s) for graph, s in zip(graphs, starts, strict=False)]),
        torch.cat([graph.senders + int(s) for graph, s in zip(graphs, starts, strict=False)]),
        torch.cat([graph.weights for graph in graphs]),
        int(starts[-1]),
    )


def _by_section(positions: Tensor, section: Tensor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    points = positions.detach().cpu().numpy().astype(np.float64)
    codes = section.detach().cpu().numpy()
    for code in np.unique(codes):
        members = np.flatnonzero(codes == code)
        yield members, points[members]


def _self_first(found: np.ndarray) -> np.ndarray:
    """Put each row's own index first; where spots coincide the tree may name another one."""
    own = np.arange(len(found))[:, None]
    place = np.where((found == own).any(axis=1), (found == own).argmax(axis=1), -1)
    swapped = found.copy()
    rows = np.arange(len(found))
    swapped[rows, place] = found[:, 0]
    swapped[:, 0] = own[:, 0]
    return swapped


def _unweighted(receivers: Tensor, senders: Tensor, n: int, symmetric: bool) -> Graph:
    key = receivers * n + senders
    if symmetric:
        key = torch.cat([key, senders * n + receivers])
    key = key.unique()
    return Graph(key // n, key % n, torch.ones(len(key)), n)
