"""What a step holds in memory, so that a batch is cut before there is no room for it.

A graphics card that is full says so, and the batch is halved then. A computer that is full ends
the run, or everything else on it, without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_SHARE = 0.8  # of what is free; other programs need the rest
_BACKWARD = 1.4  # memory of a step beside what is held for the way back; 1.2 to 1.6 measured
FEW, MORE = 4, 8  # spots whose difference tells what one takes


def kept_bytes(forward: Callable[[], Tensor]) -> int:
    """Return how many bytes a forward pass keeps for the way back, each piece of memory once."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        result = forward()
    del result  # held until here, so that no piece's place is given to another
    return sum(kept.values())


def bytes_a_spot(forward: Callable[[int], Tensor]) -> float:
    """Return how many bytes each spot of a batch takes in a step, forward and back.

    Parameters
    ----------
    forward
        Gives the loss of so many spots.
    """
    few, more = kept_bytes(lambda: forward(FEW)), kept_bytes(lambda: forward(MORE))
    return _BACKWARD * (more - few) / (MORE - FEW)


def room_bytes() -> float:
    """Return how much of this computer's memory a step may take."""
    import psutil

    return _SHARE * psutil.virtual_memory().available
