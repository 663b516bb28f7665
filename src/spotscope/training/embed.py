"""Embeddings of many patches or spots by a trained model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from spotscope.progress import Progress
from spotscope.training.augment import to_images

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from spotscope.training.data import SpotTable
    from spotscope.training.models import ContrastiveModel


def embed_images(
    model: ContrastiveModel,
    pixels: Callable[[int, int], NDArray[np.uint8]],
    n: int,
    *,
    device: str = "cpu",
    batch_size: int = 128,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Return the embeddings (n, d) of `n` patches, in evaluation mode; the model ends on the CPU.

    Parameters
    ----------
    pixels
        ``pixels(start, stop)`` gives these patches, RGB uint8 (stop - start, px, px, 3); from a
        slide, an array or a `PatchStore`.
    """

    def embed(start: int, stop: int) -> Tensor:
        batch = torch.from_numpy(np.ascontiguousarray(pixels(start, stop))).to(device)
        return model.embed_images(to_images(batch))

    low = device.startswith("cuda") and torch.cuda.is_bf16_supported()
    with torch.autocast("cuda", torch.bfloat16, enabled=low):
        return _embed_all(model, embed, n, device, batch_size, progress, "Embedding the patches")


def embed_spots(
    model: ContrastiveModel,
    spots: SpotTable,
    *,
    device: str = "cpu",
    batch_size: int = 1024,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Return the embeddings (N, d) of all `spots`, in their order, in evaluation mode.

    In float32 on every device: places are found by these, and whole patches are not at stake.
    """

    def embed(start: int, stop: int) -> Tensor:
        index = torch.arange(start, stop, device=device)
        return model.embed_spots(*spots.spot_inputs(index))

    spots.to(torch.device(device))
    message = "Embedding the spots"
    return _embed_all(model, embed, len(spots), device, batch_size, progress, message)


@torch.inference_mode()
def _embed_all(
    model: ContrastiveModel,
    embed: Callable[[int, int], Tensor],
    n: int,
    device: str,
    batch_size: int,
    progress: Progress | None,
    message: str,
) -> NDArray[np.float32]:
    progress = progress or Progress()
    model.eval().to(device)
    model.to(memory_format=torch.channels_last)
    parts = []
    for start in range(0, n, batch_size):
        progress.report(start / n, message)
        parts.append(embed(start, min(start + batch_size, n)).float().cpu())
    model.cpu().to(memory_format=torch.contiguous_format)
    return torch.cat(parts).numpy()
