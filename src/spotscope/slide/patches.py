"""Patches of tissue by centre, read tile by tile so that each tile is decoded once."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spotscope.errors import SpotScopeError
from spotscope.slide.levels import WHITE, LevelArray

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from spotscope.slide.slide import Slide

_CACHE_BYTES = 96 << 20
_GROUP_BLOCKS = 64
_COLUMN_BLOCKS = 8
_LEVEL_SLACK = 1.01

Block = tuple[int, int]


def read_patches(
    slide: Slide,
    centres_px: ArrayLike,
    size_um: float,
    output_px: int,
    *,
    threads: int | None = None,
) -> NDArray[np.uint8]:
    """Read square patches of tissue, all of one size in micrometres.

    A patch covers the same tissue whatever the slide's resolution: it is cut from the coarsest
    level that is not coarser than the output and resampled with antialiasing. When the level's
    own pixels fit (within half a pixel over the patch), they are given as they are, and the patch
    lies on whole pixels. What lies outside the slide is white.

    Parameters
    ----------
    slide
        With micrometres per pixel.
    centres_px
        (n, 2) row, col in level-0 pixels, pixel centres on integers; fractions count.
    size_um
        Side of a patch on the tissue.
    output_px
        Side of a patch as returned.
    threads
        That decode; None takes as many as there are processors, four at most.

    Returns
    -------
    (n, output_px, output_px, 3) uint8, in the order of the centres.

    Raises
    ------
    SpotScopeError
        When the slide states no micrometres per pixel, or a centre or size is no number.
    """
    centres = _checked(centres_px)
    patches = np.empty((len(centres), output_px, output_px, 3), np.uint8)
    for index, part in iter_patches(slide, centres, size_um, output_px, threads=threads):
        patches[index] = part
    return patches


def iter_patches(
    slide: Slide,
    centres_px: ArrayLike,
    size_um: float,
    output_px: int,
    *,
    batch: int = 256,
    threads: int | None = None,
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
    """Read patches as `read_patches` does, a batch at a time, in the order that reads least.

    Memory does not grow with the number of patches.

    Parameters
    ----------
    slide, centres_px, size_um, output_px, threads
        As for `read_patches`.
    batch
        Patches at a time.

    Yields
    ------
    index
        (b,) which of the centres these are; every one comes once.
    patches
        (b, output_px, output_px, 3) uint8.
    """
    centres = _checked(centres_px)
    cut = _Cut.of(slide, size_um, output_px)
    threads = threads or max(1, min(4, os.cpu_count() or 1))
    blocks = _Blocks(cut.level)
    boxes = [cut.box(centre) for centre in centres]
    order = _reading_order(boxes, cut.level.chunks)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(order), batch):
            index = order[start : start + batch]
            patches = np.empty((len(index), output_px, output_px, 3), np.uint8)
            for first, last in _groups([blocks.of(boxes[i]) for i in index]):
                blocks.load({b for i in index[first:last] for b in blocks.of(boxes[i])}, pool)

                def fill(k: int, index: NDArray = index, patches: NDArray = patches) -> None:
                    place = index[k]
                    cut.resample(blocks.region(boxes[place]), centres[place], patches[k])

                for _ in pool.map(fill, range(first, last)):
                    pass
            yield index, patches


@dataclass(frozen=True)
class Box:
    """Pixels of a level; may reach outside of it."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class _Cut:
    """How a patch is cut: from which level, how large there, and how it is resampled.

    Attributes
    ----------
    level
        That is read.
    downsample
        Of that level.
    side
        Of a patch, in pixels of that level.
    output_px
        Side of the patch as returned.
    """

    level: LevelArray
    downsample: float
    side: float
    output_px: int

    @classmethod
    def of(cls, slide: Slide, size_um: float, output_px: int) -> _Cut:
        if slide.mpp_um is None:
            raise SpotScopeError(
                f"The slide '{slide.name}' states no micrometres per pixel; give them with --mpp"
                " (about 0.25 for a 40x scan, 0.5 for 20x)."
            )
        if not (math.isfinite(size_um) and size_um > 0 and output_px >= 1):
            raise SpotScopeError(
                f"A patch needs a size above zero, not {size_um:g} µm in {output_px} pixels."
            )
        side = size_um / slide.mpp_um
        wanted = side / output_px * _LEVEL_SLACK
        fine = [k for k, d in enumerate(slide.downsamples) if d <= wanted]
        index = max(fine, key=lambda k: slide.downsamples[k], default=0)
        downsample = slide.downsamples[index]
        return cls(slide.levels[index], downsample, side / downsample, output_px)

    @property
    def as_is(self) -> bool:
        """Whether the level's own pixels are the patch."""
        return abs(self.side - self.output_px) < 0.5

    def corner(self, centre: NDArray[np.float64]) -> tuple[float, float]:
        """Return the upper left corner as edges: pixel i of the level spans i to i + 1."""
        top, left = (centre + 0.5) / self.downsample - self.side / 2
        return float(top), float(left)

    def box(self, centre: NDArray[np.float64]) -> Box:
        """Return the pixels that a patch needs."""
        if self.as_is:
            top, left = (centre + 0.5) / self.downsample - self.output_px / 2 - 0.5
            return Box(math.ceil(top), math.ceil(left), self.output_px, self.output_px)
        # The filter reaches beyond the patch by its own width.
        reach = math.ceil(max(self.side / self.output_px, 1)) + 1
        top, left = self.corner(centre)
        first = math.floor(top) - reach, math.floor(left) - reach
        size = (math.ceil(top + self.side) + reach, math.ceil(left + self.side) + reach)
        return Box(first[0], first[1], size[0] - first[0], size[1] - first[1])

    def resample(
        self, region: NDArray[np.uint8], centre: NDArray[np.float64], out: NDArray[np.uint8]
    ) -> None:
        """Bring the pixels of `box` into `out`."""
        if self.as_is:
            out[:] = region
            return
        from PIL import Image

        box = self.box(centre)
        top, left = self.corner(centre)
        top, left = top - box.top, left - box.left
        resized = Image.fromarray(region).resize(
            (self.output_px, self.output_px),
            Image.Resampling.BILINEAR,  # as wide as the step: antialiased
            (left, top, left + self.side, top + self.side),
        )
        out[:] = np.asarray(resized)


class _Blocks:
    """Decoded blocks of a level, of which those used last are kept."""

    def __init__(self, level: LevelArray) -> None:
        self._level = level
        self._side = level.chunks[:2]
        self._kept: OrderedDict[Block, NDArray[np.uint8]] = OrderedDict()
        self._most = max(_GROUP_BLOCKS, _CACHE_BYTES // (self._side[0] * self._side[1] * 3))

    def of(self, box: Box) -> list[Block]:
        """Return the blocks that a box lies on."""
        spans = []
        for start, length, side, size in (
            (box.top, box.height, self._side[0], self._level.shape[0]),
            (box.left, box.width, self._side[1], self._level.shape[1]),
        ):
            low, high = max(start, 0), min(start + length, size)
            spans.append(range(low // side, (high - 1) // side + 1) if high > low else range(0))
        return [(row, col) for row in spans[0] for col in spans[1]]

    def load(self, blocks: set[Block], pool: ThreadPoolExecutor) -> None:
        """Decode those of the blocks that are not kept, and let go of those used longest ago."""
        for block in blocks & self._kept.keys():
            self._kept.move_to_end(block)
        missing = sorted(blocks - self._kept.keys())
        self._kept.update(zip(missing, pool.map(self._decode, missing), strict=True))
        while len(self._kept) > max(self._most, len(blocks)):
            self._kept.popitem(last=False)

    def _decode(self, block: Block) -> NDArray[np.uint8]:
        top, left = block[0] * self._side[0], block[1] * self._side[1]
        bottom = min(top + self._side[0], self._level.shape[0])
        right = min(left + self._side[1], self._level.shape[1])
        return self._level.read(top, bottom, left, right)

    def region(self, box: Box) -> NDArray[np.uint8]:
        """Return the pixels of a box whose blocks are loaded; white outside the level."""
        region = np.full((box.height, box.width, 3), WHITE, np.uint8)
        for row, col in self.of(box):
            pixels = self._kept[row, col]
            # Both in coordinates of the level, then of the block and of the region.
            top, left = row * self._side[0], col * self._side[1]
            first = max(top, box.top), max(left, box.left)
            last = (
                min(top + pixels.shape[0], box.top + box.height),
                min(left + pixels.shape[1], box.left + box.width),
            )
            source = pixels[first[0] - top : last[0] - top, first[1] - left : last[1] - left]
            target = region[
                first[0] - box.top : last[0] - box.top, first[1] - box.left : last[1] - box.left
            ]
            for channel in range(3):  # far faster than at once where the channels are planes
                target[..., channel] = source[..., channel]
        return region


def _groups(blocks: list[list[Block]]) -> Iterator[tuple[int, int]]:
    """Split neighbouring patches into groups that need a bounded number of blocks."""
    first = 0
    needed: set[Block] = set()
    for k, own in enumerate(blocks):
        if k > first and len(needed.union(own)) > _GROUP_BLOCKS:
            yield first, k
            first, needed = k, set()
        needed.update(own)
    if blocks:
        yield first, len(blocks)


def _reading_order(boxes: list[Box], chunks: tuple[int, int, int]) -> NDArray[np.intp]:
    """Order patches down columns a few blocks wide, so that few blocks are in use at a time."""
    tops = np.array([box.top // chunks[0] for box in boxes], np.int64)
    lefts = np.array([box.left // chunks[1] for box in boxes], np.int64)
    return np.lexsort((lefts, tops, lefts // _COLUMN_BLOCKS))


def _checked(centres_px: ArrayLike) -> NDArray[np.float64]:
    centres = np.asarray(centres_px, np.float64).reshape(-1, 2)
    if not np.isfinite(centres).all():
        raise SpotScopeError(
            "Some positions of patches are no numbers; check the positions of the spots."
        )
    return centres
