from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from spotscope.errors import SpotScopeError
from spotscope.training.data import (
    Batches,
    NeighbourTable,
    SpotTable,
    TrainingData,
    _read_ahead,
    epoch_batches,
)
from spotscope.training.patches import PatchStore


def test_an_epoch_takes_each_spot_at_most_once_and_mixes_sections_in_proportion() -> None:
    section = np.repeat([0, 1, 2], [600, 300, 100])
    batches = epoch_batches(section, 50, seed=1, epoch=4)
    assert batches.shape == (20, 50)
    assert len(np.unique(batches)) == 1000
    share = np.stack([np.bincount(section[row], minlength=3) for row in batches])
    assert np.abs(share - [30, 15, 5]).max() <= 2


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    section = np.arange(101) % 4
    first = epoch_batches(section, 10, seed=1, epoch=2)
    np.testing.assert_array_equal(first, epoch_batches(section, 10, seed=1, epoch=2))
    assert first.shape == (10, 10)
    for other in ({"seed": 2, "epoch": 2}, {"seed": 1, "epoch": 3}):
        assert (first != epoch_batches(section, 10, **other)).any()
    left_out = {
        (set(range(101)) - set(epoch_batches(section, 10, 1, e).ravel())).pop() for e in range(9)
    }
    assert len(left_out) > 3


def test_fewer_spots_than_a_batch_make_one_batch() -> None:
    assert epoch_batches(np.zeros(7, dtype=np.int64), 32, 0, 0).shape == (1, 7)


@pytest.mark.parametrize("ahead", [False, True])
def test_parts_hold_the_pixels_of_their_spots(ahead: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
    store = PatchStore([pixels[:6], pixels[6:]])
    data = TrainingData(SpotTable(torch.arange(20)), np.zeros(20, dtype=np.int64), store)
    rows = np.random.default_rng(1).permutation(20).reshape(2, 10)
    pin = ahead and torch.cuda.is_available()
    batches = Batches(data, rows, 3, read=True, ahead=pin)
    every = iter(_read_ahead(iter(batches))) if ahead else iter(batches)
    for row, parts in zip(rows, every, strict=True):
        assert [len(part.index) for part in parts] == [4, 3, 3]
        assert torch.cat([part.index for part in parts]).tolist() == row.tolist()
        for part in parts:
            assert part.pixels is not None
            np.testing.assert_array_equal(part.pixels.numpy(), pixels[part.index.numpy()])


def test_reading_ahead_ends_with_its_user_and_passes_errors_on() -> None:
    def endless() -> object:
        while True:
            yield []

    reading = _read_ahead(endless())
    next(reading)
    reading.close()
    assert not any(t.name == "spotscope-read-ahead" for t in threading.enumerate())

    def broken() -> object:
        yield []
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(_read_ahead(broken()))


def test_neighbours_come_with_offsets_in_pitches_of_their_own_section() -> None:
    positions = torch.tensor([[0.0, 0], [0, 200], [300, 0], [0, 100], [100, 100]])
    section = torch.tensor([0, 0, 0, 1, 1])
    pitch = torch.tensor([200.0, 200, 200, 100, 100])
    table = NeighbourTable(torch.eye(5), positions, section, 2, pitch)
    expression, offsets, present = table.spot_inputs(torch.tensor([0, 4]))
    assert expression[0].argmax(dim=1).tolist() == [0, 1, 2]
    assert offsets[0].tolist() == [[0, 0], [0, 1], [1.5, 0]]
    assert offsets[1, 1].tolist() == [-1, 0]
    assert present.tolist() == [[True, True, True], [True, True, False]]


def test_spots_and_patches_must_be_as_many() -> None:
    with pytest.raises(SpotScopeError, match="Every spot"):
        TrainingData(SpotTable(torch.zeros(3)), np.zeros(4, dtype=np.int64))
