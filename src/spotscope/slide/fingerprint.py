"""A cheap key of a file's content, for caches."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from spotscope.slide.levels import LevelArray

_WHOLE_BYTES = 64 << 20
_SAMPLES = 32
_SAMPLE_BYTES = 1 << 16


def of_file(path: Path, *more: str) -> str:
    """Return a key of a file's bytes, and of what else is given.

    Of files above 64 MB it takes the size and 32 pieces, so that it costs no more than a moment.
    """
    size = path.stat().st_size
    digest = blake2b(str((size, more)).encode(), digest_size=16)
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            digest.update(file.read())
            return digest.hexdigest()
        for start in np.linspace(0, max(size - _SAMPLE_BYTES, 0), _SAMPLES, dtype=np.int64):
            file.seek(int(start))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def of_levels(levels: list[LevelArray]) -> str:
    """Return a key of the levels' sizes, the coarsest one's pixels and the middle of the finest.

    For stores of many files, where the same pixels must give the same key wherever they lie.
    """
    digest = blake2b(str([level.shape for level in levels]).encode(), digest_size=16)
    for level, most in ((levels[-1], 1024), (levels[0], 256)):
        rows, cols = level.shape[:2]
        top, left = max((rows - most) // 2, 0), max((cols - most) // 2, 0)
        pixels = level[top : top + most, left : left + most]
        digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()
