from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from spotscope.training.memory import bytes_a_spot, kept_bytes


def test_what_a_forward_pass_keeps_is_counted_once() -> None:
    x = torch.ones(5, 7, requires_grad=True)
    # sin keeps its input for the way back, exp its result; adding keeps nothing.
    assert kept_bytes(lambda: (x.sin() + x.sin() + 1).sum()) == 5 * 7 * 4
    assert kept_bytes(lambda: (x.sin() + x.exp()).sum()) == 2 * 5 * 7 * 4


def test_weights_and_frozen_layers_add_nothing_to_a_spot() -> None:
    network = nn.Sequential(nn.Linear(6, 50), nn.Tanh(), nn.Linear(50, 2))

    def forward(number: int) -> Tensor:
        return network(torch.rand(number, 6)).sum()

    whole = bytes_a_spot(forward)
    for parameter in network[0].parameters():
        parameter.requires_grad_(False)
    # What each layer was given, 6 and 50 numbers; then what the second one was given alone.
    assert whole / bytes_a_spot(forward) == pytest.approx((6 + 50) / 50)
