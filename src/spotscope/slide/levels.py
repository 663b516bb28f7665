"""The levels of a slide: arrays that are read in pieces, always (rows, cols, 3) uint8 RGB."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

WHITE = 255
BLOCK_PX = 512
"""Side that blocks for reading and the chunks of our own pyramids have, or come near to."""


class LevelArray(ABC):
    """One level of a slide, sliced like a numpy or zarr array; nothing is read before that.

    Parameters
    ----------
    rows, cols
        Size in pixels.
    tile_px
        Height and width of what the file decodes in one go.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, rows: int, cols: int, tile_px: tuple[int, int]) -> None:
        self.shape = (int(rows), int(cols), 3)
        self.block_px = (_block_side(tile_px[0]), _block_side(tile_px[1]))

    @property
    def chunks(self) -> tuple[int, int, int]:
        """Size of the blocks that are best read at once: whole tiles, about square."""
        return (min(self.block_px[0], self.shape[0]), min(self.block_px[1], self.shape[1]), 3)

    @abstractmethod
    def read(self, top: int, bottom: int, left: int, right: int) -> NDArray[np.uint8]:
        """Return rows `top` to `bottom` and columns `left` to `right`, which lie inside.

        Safe to call from several threads.
        """

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        keys = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            keys[at : at + 1] = [slice(None)] * (3 - len(keys) + 1)
        keys += [slice(None)] * (3 - len(keys))
        spans, rest = zip(
            *(_span(part, size) for part, size in zip(keys[:2], self.shape[:2], strict=True)),
            strict=True,
        )
        (top, bottom), (left, right) = spans
        if bottom <= top or right <= left:
            pixels = np.empty((max(bottom - top, 0), max(right - left, 0), 3), np.uint8)
        else:
            pixels = self.read(top, bottom, left, right)
        return pixels[(*rest, keys[2])]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        return np.asarray(self[:], dtype=dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self.shape}"


class PixelLevel(LevelArray):
    """A level whose pixels lie in memory, or in a memory map of a file.

    Parameters
    ----------
    pixels
        (rows, cols, 3) uint8.
    """

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        super().__init__(pixels.shape[0], pixels.shape[1], (BLOCK_PX, BLOCK_PX))
        self._pixels = pixels

    def read(self, top: int, bottom: int, left: int, right: int) -> NDArray[np.uint8]:
        """Return those pixels."""
        return self._pixels[top:bottom, left:right]


class ZarrLevel(LevelArray):
    """A level in a zarr array, or in a TIFF seen as one, whatever its axes and type.

    Parameters
    ----------
    array
        The zarr array.
    axes
        One letter an axis: `y`, `x`, and `c` for the channels; others are taken at `fixed`.
    to_rgb
        Turns (rows, cols, channels) of the array's type into (rows, cols, 3) uint8.
    fixed
        Index along each other axis, 0 where it says nothing.
    """

    def __init__(
        self,
        array: Any,
        axes: str,
        to_rgb: Callable[[NDArray], NDArray[np.uint8]],
        fixed: dict[str, int] | None = None,
    ) -> None:
        size = dict(zip(axes, array.shape, strict=True))
        tile = dict(zip(axes, array.chunks, strict=True))
        super().__init__(size["y"], size["x"], (tile["y"], tile["x"]))
        self._array = array
        self._axes = axes
        self._to_rgb = to_rgb
        self._fixed = fixed or {}
        kept = [axis for axis in axes if axis in "yxc"]
        self._order = [kept.index(axis) for axis in "yxc" if axis in kept]

    def read_raw(self, top: int, bottom: int, left: int, right: int) -> NDArray:
        """Return the stored values there, as (rows, cols, channels)."""
        spans: dict[str, Any] = {
            "y": slice(top, bottom),
            "x": slice(left, right),
            "c": slice(None),
        }
        key = tuple(spans.get(axis, self._fixed.get(axis, 0)) for axis in self._axes)
        raw = np.transpose(np.asarray(self._array[key]), self._order)
        return raw if raw.ndim == 3 else raw[:, :, None]

    def read(self, top: int, bottom: int, left: int, right: int) -> NDArray[np.uint8]:
        """Return those pixels."""
        return self._to_rgb(self.read_raw(top, bottom, left, right))


def downsample_of(shape: tuple[int, ...], level_shape: tuple[int, ...]) -> float:
    """Return level-0 pixels per pixel of a level.

    Halving an odd size rounds, so 250 × 300 becomes 62 × 75 at a downsample of exactly 4: a whole
    number that explains both sides is taken before their mean ratio.
    """
    ratios = [shape[axis] / level_shape[axis] for axis in (0, 1)]
    whole = round(sum(ratios) / 2)
    if all(abs(shape[axis] / whole - level_shape[axis]) < 1 for axis in (0, 1)):
        return float(whole)
    return sum(ratios) / 2


def _block_side(tile: int) -> int:
    """Return a whole number of tiles near to `BLOCK_PX`; strips and whole rows are cut."""
    if tile > 2 * BLOCK_PX or tile < 1:
        return BLOCK_PX
    return tile * max(1, round(BLOCK_PX / tile))


def _span(part: Any, size: int) -> tuple[tuple[int, int], Any]:
    """Return the range that holds an index or slice, and what is left to take of it."""
    if isinstance(part, slice):
        start, stop, step = part.indices(size)
        if step == 1:
            return (start, stop), slice(None)
        places = range(start, stop, step)
        if not places:
            return (0, 0), slice(None)
        low, high = min(places[0], places[-1]), max(places[0], places[-1])
        return (low, high + 1), slice(None, None, step)
    index = int(part)
    if not -size <= index < size:
        raise IndexError(f"index {index} is outside a side of {size} pixels")
    index %= size
    return (index, index + 1), 0
