"""A slide at a glance: all of it in a small picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.slide.slide import Slide

_STRIP_BYTES = 64 << 20


def overview(slide: Slide, longest_px: int = 2048) -> tuple[NDArray[np.uint8], float]:
    """Return the whole slide, its longer side at most `longest_px` and at least half of that.

    Slides that are smaller come as they are.

    Returns
    -------
    picture
        (rows, cols, 3) uint8.
    downsample
        Level-0 pixels per pixel of the picture: pixel i spans the level-0 edges `i * downsample`
        to `(i + 1) * downsample`.
    """
    sizes = [max(level.shape[:2]) for level in slide.levels]
    enough = [k for k, size in enumerate(sizes) if size > longest_px / 2]
    index = min(enough, key=lambda k: sizes[k], default=0)
    level, step = slide.levels[index], -(-sizes[index] // longest_px)
    if step == 1:
        return np.ascontiguousarray(level[:]), slide.downsamples[index]
    rows, cols = level.shape[:2]
    strip = max(1, _STRIP_BYTES // (3 * cols * step)) * step
    parts = [
        _reduced(level.read(top, min(top + strip, rows), 0, cols), step)
        for top in range(0, rows, strip)
    ]
    return np.concatenate(parts), slide.downsamples[index] * step


def _reduced(pixels: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Return the mean of step × step pixels; what is left over at the ends is averaged alone."""
    from PIL import Image

    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).reduce(step))
