from __future__ import annotations

import math

import pytest
import torch

from spotscope.nets.gcn import DeepGraphInfomax, GCNLayer, MeanConvNetwork, shuffle_within
from spotscope.nets.graph import (
    Graph,
    block_diagonal,
    knn_graph,
    neighbour_table,
    pool_neighbours,
    radius_graph,
)


def grid(n: int = 5, pitch: float = 200.0) -> torch.Tensor:
    rows, cols = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    return torch.stack([rows.flatten(), cols.flatten()], dim=1) * pitch


def dense(graph: Graph) -> torch.Tensor:
    matrix = torch.zeros(graph.n, graph.n)
    matrix[graph.receivers, graph.senders] = graph.weights
    return matrix


def one(n: int) -> torch.Tensor:
    return torch.zeros(n, dtype=torch.int64)


def test_radius_joins_what_is_nearer_both_ways_and_leaves_sections_apart() -> None:
    positions = torch.cat([grid(3), grid(3)])
    section = torch.tensor([0] * 9 + [7] * 9)
    matrix = dense(radius_graph(positions, section, 220))
    assert matrix[4].sum() == 4
    assert matrix[0].sum() == 2
    torch.testing.assert_close(matrix, matrix.T)
    assert matrix[:9, 9:].sum() == 0
    assert dense(radius_graph(positions, section, 200)).sum() == 0  # "nearer than", not "at"


def test_knn_joins_the_nearest_and_a_small_section_has_fewer() -> None:
    positions = torch.tensor([[0.0, 0], [0, 1], [0, 3], [0, 7], [0, 0]])
    section = torch.tensor([0, 0, 0, 0, 1])
    directed = dense(knn_graph(positions, section, 1, symmetric=False))
    assert directed.nonzero().tolist() == [[0, 1], [1, 0], [2, 1], [3, 2]]
    both = dense(knn_graph(positions, section, 1))
    torch.testing.assert_close(both, both.T)
    assert both[4].sum() == 0
    table, present = neighbour_table(positions, section, 9)
    assert present.sum(dim=1).tolist() == [3, 3, 3, 3, 0]
    assert table[0, :3].tolist() == [1, 2, 3]


def test_neighbours_of_spots_at_one_place_exclude_the_spot_itself() -> None:
    positions = torch.zeros(4, 2)
    table, present = neighbour_table(positions, one(4), 2)
    assert bool(present.all())
    assert all(i not in row for i, row in enumerate(table.tolist()))
    with_self, _ = neighbour_table(positions, one(4), 2, include_self=True)
    assert with_self[:, 0].tolist() == [0, 1, 2, 3]


def test_normalised_adjacency_is_the_stated_product_with_loops() -> None:
    graph = radius_graph(grid(3), one(9), 220)
    a = dense(graph) + torch.eye(9)
    d = torch.diag(a.sum(dim=1).rsqrt())
    torch.testing.assert_close(dense(graph.normalised()), d @ a @ d)
    x = torch.randn(9, 4)
    torch.testing.assert_close(graph.normalised().propagate(x), d @ a @ d @ x)


def test_average_is_over_neighbours_alone_and_zero_without_any() -> None:
    graph = Graph(torch.tensor([0, 0, 1]), torch.tensor([1, 2, 0]), torch.ones(3), 4)
    x = torch.tensor([[1.0], [2.0], [6.0], [9.0]])
    expected = torch.tensor([[4.0], [1.0], [0.0], [0.0]])
    torch.testing.assert_close(graph.averaged().propagate(x), expected)


def test_pooling_of_constant_features_is_constant_and_excludes_the_spot() -> None:
    positions = grid(4)
    table, present = neighbour_table(positions, one(16), 3)
    torch.testing.assert_close(
        pool_neighbours(torch.ones(16, 2), table, present), torch.ones(16, 2)
    )
    spike = torch.zeros(16, 1)
    spike[5] = 1
    assert pool_neighbours(spike, table, present)[5] == 0
    table, present = neighbour_table(positions, one(16), 3, include_self=True)
    assert pool_neighbours(spike, table, present)[5] == 0.25


def test_propagation_around_seeds_equals_that_of_the_whole() -> None:
    torch.manual_seed(0)
    positions = torch.cat([grid(6), grid(6)])
    section = torch.tensor([0] * 36 + [1] * 36)
    graph = knn_graph(positions, section, 4).normalised()
    x = torch.randn(72, 5)
    seeds = torch.tensor([40, 3, 17])
    for hops in (1, 2):
        whole = x
        for _ in range(hops):
            whole = graph.propagate(whole)
        nodes, part = graph.around(seeds, hops)
        assert nodes[:3].tolist() == seeds.tolist()
        assert len(nodes) < 72
        local = x[nodes]
        for _ in range(hops):
            local = part.propagate(local)
        torch.testing.assert_close(local[:3], whole[seeds])


@pytest.mark.parametrize("network", ["gcn", "mean"])
def test_a_graph_network_follows_a_shuffle_of_the_nodes(network: str) -> None:
    torch.manual_seed(1)
    raw = knn_graph(grid(5), one(25), 4)
    order = torch.randperm(25)
    place = order.argsort()
    moved = Graph(place[raw.receivers], place[raw.senders], raw.weights, 25)
    x = torch.randn(25, 6)
    if network == "gcn":
        net, kind = GCNLayer(6, 3), Graph.normalised
    else:
        net, kind = MeanConvNetwork(6, 3, hidden=8), Graph.averaged
    net.eval()
    torch.testing.assert_close(net(x[order], kind(moved)), net(x, kind(raw))[order])


@pytest.mark.parametrize("network", ["gcn", "mean"])
def test_blocks_give_what_each_section_gives_and_lone_nodes_are_finite(network: str) -> None:
    torch.manual_seed(2)
    graphs = [radius_graph(grid(3), one(9), 220), radius_graph(grid(1), one(1), 220)]
    if network == "gcn":
        net, kind = GCNLayer(6, 3), Graph.normalised
    else:
        net, kind = MeanConvNetwork(6, 3, hidden=8), Graph.averaged
    net.eval()
    x = torch.randn(10, 6)
    together = net(x, kind(block_diagonal(graphs)))
    apart = torch.cat([net(x[:9], kind(graphs[0])), net(x[9:], kind(graphs[1]))])
    torch.testing.assert_close(together, apart)
    assert torch.isfinite(together).all()


def test_gcn_of_an_identity_adjacency_is_a_plain_layer() -> None:
    layer = GCNLayer(4, 3)
    torch.nn.init.normal_(layer.bias)
    alone = Graph(one(0), one(0), torch.zeros(0), 7).normalised()
    x = torch.randn(7, 4)
    expected = torch.nn.functional.prelu(
        x @ layer.linear.weight.T + layer.bias, layer.activation.weight
    )
    torch.testing.assert_close(layer(x, alone), expected)


@pytest.mark.parametrize("readout", ["mean", "sum"])
def test_infomax_with_a_discriminator_of_zero_is_at_ln_2(readout: str) -> None:
    dgi = DeepGraphInfomax(GCNLayer(4, 3), readout)
    torch.nn.init.zeros_(dgi.discriminator)
    graph = radius_graph(grid(3), one(9), 220).normalised()
    assert dgi.loss(torch.randn(9, 4), graph, one(9)).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("readout", ["mean", "sum"])
def test_infomax_is_the_stated_equation(readout: str) -> None:
    torch.manual_seed(5)
    dgi = DeepGraphInfomax(GCNLayer(4, 3), readout)
    graph = radius_graph(grid(3), one(9), 220).normalised()
    x, order = torch.randn(9, 4), torch.randperm(9)
    z, other = dgi.encoder(x, graph), dgi.encoder(x[order], graph)
    h = z.sum(dim=0) if readout == "sum" else torch.sigmoid(z.mean(dim=0))

    def right(node: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(node @ dgi.discriminator @ h)

    terms = [right(a).log() + (1 - right(b)).log() for a, b in zip(z, other, strict=True)]
    expected = -torch.stack(terms).mean() / 2
    torch.testing.assert_close(dgi.loss(x, graph, one(9), order), expected)


def test_infomax_shuffles_within_sections_alone() -> None:
    section = torch.tensor([0, 1, 0, 1, 1, 0, 2, 0])
    orders = [shuffle_within(section) for _ in range(20)]
    for order in orders:
        assert order.sort().values.tolist() == list(range(8))
        assert section[order].tolist() == section.tolist()
    assert any(order.tolist() != list(range(8)) for order in orders)


@pytest.mark.parametrize("readout", ["mean", "sum"])
def test_infomax_of_blocks_is_that_of_each_section(readout: str) -> None:
    torch.manual_seed(3)
    dgi = DeepGraphInfomax(GCNLayer(4, 3), readout)
    graphs = [radius_graph(grid(n), one(n * n), 220) for n in (3, 4)]
    x = torch.randn(25, 4)
    section = torch.tensor([0] * 9 + [1] * 16)
    order = shuffle_within(section)
    together = dgi(x, block_diagonal(graphs).normalised(), section, order)
    first = dgi(x[:9], graphs[0].normalised(), one(9), order[:9])
    second = dgi(x[9:], graphs[1].normalised(), one(16), order[9:] - 9)
    for whole, a, b in zip(together, first, second, strict=True):
        torch.testing.assert_close(whole, torch.cat([a, b]))


def test_infomax_learns_structure() -> None:
    torch.manual_seed(4)
    positions = grid(12)
    x = torch.stack([(positions[:, 0] > 1100).float(), (positions[:, 1] > 1100).float()], dim=1)
    x = x + 0.1 * torch.randn_like(x)
    graph = radius_graph(positions, one(144), 220).normalised()
    dgi = DeepGraphInfomax(GCNLayer(2, 16))
    optimiser = torch.optim.Adam(dgi.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        loss = dgi.loss(x, graph, one(144))
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.5
