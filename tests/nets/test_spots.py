from __future__ import annotations

import pytest
import torch

from spotscope.errors import SpotScopeError
from spotscope.nets.graph import neighbour_table
from spotscope.nets.spots import BatchTransformer, LatentSampler, NeighbourTransformer


def neighbourhoods(
    positions: torch.Tensor, expression: torch.Tensor, k: int = 4
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    section = torch.zeros(len(positions), dtype=torch.int64)
    table, present = neighbour_table(positions, section, k, include_self=True)
    offsets = (positions[table] - positions[:, None, :]).float()
    return expression[table], offsets, present


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return neighbourhoods(torch.rand(20, 2) * 8, torch.rand(20, 11))


def test_embedding_does_not_depend_on_batch_size_or_order(
    inputs: tuple[torch.Tensor, ...],
) -> None:
    net = NeighbourTransformer(11).eval()
    whole = net(*inputs)
    order = torch.randperm(20)
    torch.testing.assert_close(net(*(part[order] for part in inputs)), whole[order])
    torch.testing.assert_close(net(*(part[6:7] for part in inputs)), whole[6:7])
    assert whole.shape == (20, 11)


def test_moving_the_section_leaves_the_embedding_and_moving_a_neighbour_changes_it() -> None:
    torch.manual_seed(1)
    positions = torch.randint(0, 50, (12, 2)).double()
    expression = torch.rand(12, 5)
    net = NeighbourTransformer(5).eval()
    before = net(*neighbourhoods(positions, expression))
    moved = net(*neighbourhoods(positions + 1000, expression))
    torch.testing.assert_close(moved, before)
    values, offsets, present = neighbourhoods(positions, expression)
    offsets[3, 1] += 1.0
    assert (net(values, offsets, present)[3] - before[3]).abs().max() > 1e-5


def test_what_lies_above_is_told_from_what_lies_below_and_near_from_far(
    inputs: tuple[torch.Tensor, ...],
) -> None:
    net = NeighbourTransformer(11).eval()
    values, offsets, present = inputs
    before = net(values, offsets, present)
    for other in (-offsets, offsets.flip(2), 2 * offsets):
        assert (net(values, other, present) - before).abs().max() > 1e-3


def test_absent_and_reordered_neighbours_leave_no_trace(inputs: tuple[torch.Tensor, ...]) -> None:
    net = NeighbourTransformer(11).eval()
    values, offsets, present = (part.clone() for part in inputs)
    present[:, 3:] = False
    before = net(values, offsets, present)
    values[:, 3:], offsets[:, 3:] = 99.0, -7.0
    torch.testing.assert_close(net(values, offsets, present), before)
    order = [0, 2, 1, 3, 4]
    torch.testing.assert_close(net(values[:, order], offsets[:, order], present[:, order]), before)


def test_published_form_depends_on_the_batch_but_not_on_its_order() -> None:
    torch.manual_seed(2)
    rows, cols = torch.arange(6), torch.arange(6).flip(0)
    net = BatchTransformer(7, rows, cols).eval()
    x = torch.rand(6, 7)
    whole = net(x, rows, cols)
    order = torch.randperm(6)
    torch.testing.assert_close(net(x[order], rows[order], cols[order]), whole[order])
    assert (net(x[:3], rows[:3], cols[:3]) - whole[:3]).abs().max() > 1e-4


def test_published_form_refuses_positions_it_never_saw() -> None:
    net = BatchTransformer(7, torch.tensor([0, 4]), torch.tensor([1, 2])).eval()
    with pytest.raises(SpotScopeError, match="row 3 was in no training section"):
        net(torch.rand(1, 7), torch.tensor([3]), torch.tensor([1]))
    with pytest.raises(SpotScopeError, match="column 9 was in no training section"):
        net(torch.rand(1, 7), torch.tensor([4]), torch.tensor([9]))
    with pytest.raises(SpotScopeError, match="whole numbers from 0"):
        BatchTransformer(7, torch.tensor([-1]), torch.tensor([0]))


def test_latent_is_sampled_in_training_with_its_mean_and_spread() -> None:
    torch.manual_seed(3)
    mean, scale = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.5, 3.0]])
    net = LatentSampler(2)
    draws = net.train()(mean.expand(20000, 2), scale.expand(20000, 2))
    torch.testing.assert_close(draws.mean(0), mean[0], atol=0.08, rtol=0)
    torch.testing.assert_close(draws.std(0), scale[0], rtol=0.03, atol=0)
    torch.testing.assert_close(net.eval()(mean, scale), mean)
