"""The figures of a step: named, stacked, and read off the device without holding it up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from spotscope.training.models import StepResult


def stacked(result: StepResult) -> tuple[list[str], Tensor]:
    """Return names and values (k,) float32 of a step's figures: the loss first, then chance."""
    shown = {"loss": result.loss.detach()}
    if result.chance is not None:
        shown["chance"] = result.chance
    shown |= result.values
    return list(shown), torch.stack([value.float() for value in shown.values()])


def read_later(values: Tensor) -> Callable[[], list[float]]:
    """Start copying `values` off the device; the result waits for what was queued until now."""
    if values.device.type != "cuda":
        return values.tolist
    host = torch.empty(values.shape, pin_memory=True)
    host.copy_(values, non_blocking=True)
    ready = torch.cuda.Event()
    ready.record()

    def read() -> list[float]:
        ready.synchronize()
        return host.tolist()

    return read
