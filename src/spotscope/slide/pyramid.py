"""Building a pyramid: level by level from strips, so that level 0 never lies in memory."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.progress import Progress
from spotscope.slide.levels import BLOCK_PX, WHITE, LevelArray

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

COARSEST_PX = 1024
"""Halving stops when the longer side is no longer than this."""

_READ_PX = 4 * BLOCK_PX


def write_pyramid(
    source: LevelArray,
    folder: Path,
    *,
    with_source: bool = True,
    mpp_um: float | None = None,
    progress: Progress | None = None,
) -> list[tuple[int, int, int]]:
    """Write a level and its halvings as an OME-Zarr 0.5 group: lossless, in 512 px chunks.

    Axes on disk are (c, y, x), as SpatialData has them. Each level is the 2 × 2 mean of the one
    before; odd sides round up, their last row or column repeated. White chunks take no room.
    At most a few strips of 512 rows lie in memory.

    Parameters
    ----------
    source
        The level to begin with, (rows, cols, 3) uint8.
    folder
        Of the group; made here. Write it with `files.written_beside`.
    with_source
        Whether the source itself is written, as level 0; else its first halving is.
    mpp_um
        Of the source, for the scale that is stated.
    progress
        Told after each strip, and asked after each block.

    Returns
    -------
    (3, rows, cols) of each level written.
    """
    import zarr

    progress = progress or Progress()
    shapes = level_shapes(source.shape)
    if not with_source:
        shapes = shapes[1:] or [_half(source.shape)]
    group = zarr.create_group(folder, zarr_format=3, overwrite=True)
    arrays = [_create(group, str(k), shape) for k, shape in enumerate(shapes)]
    first = 1.0 if with_source else 2.0
    group.attrs.update({"ome": _metadata(len(shapes), first, mpp_um)})
    with ThreadPoolExecutor(_threads()) as pool, ThreadPoolExecutor(_threads()) as writing:
        targets = arrays if with_source else [None, *arrays]
        strips = _Strips(targets, source.shape, writing)
        rows = source.shape[0]
        for top in range(0, rows, BLOCK_PX):
            bottom = min(top + BLOCK_PX, rows)
            strips.put(0, top, _read_strip(source, top, bottom, pool, progress))
            progress.report(bottom / rows, "Building the image pyramid")
        strips.finish()
    return [(3, rows, cols) for rows, cols, _ in shapes]


def level_shapes(shape: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Return the (rows, cols, 3) of the levels that `write_pyramid` makes of a level."""
    shapes = [shape]
    while max(shapes[-1][:2]) > COARSEST_PX:
        shapes.append(_half(shapes[-1]))
    return shapes


class _Strips:
    """Takes strips of a level, writes them, and passes their halves on to the next level.

    Parameters
    ----------
    arrays
        Of each level; None where a level is only passed on.
    shape
        Of the first level.
    writing
        Writes strips while the next one is read.
    """

    def __init__(
        self, arrays: list[Any], shape: tuple[int, int, int], writing: ThreadPoolExecutor
    ) -> None:
        self._arrays = arrays
        self._writing = writing
        self._pending: list[list[Future[None]]] = []
        self._rows = [shape[0]]
        self._cols = [shape[1]]
        for _ in arrays[1:]:
            self._rows.append((self._rows[-1] + 1) // 2)
            self._cols.append((self._cols[-1] + 1) // 2)
        self._halves: dict[int, NDArray[np.uint8]] = {}

    def put(self, index: int, top: int, strip: NDArray[np.uint8]) -> None:
        """Take (3, rows, cols) of level `index` from row `top` on."""
        array = self._arrays[index]
        bottom = top + strip.shape[1]
        if array is not None:
            self._settle(most=2)
            self._pending.append(
                [
                    self._writing.submit(_write, array, top, left, strip)
                    for left in range(0, strip.shape[2], BLOCK_PX)
                ]
            )
        if index + 1 == len(self._arrays):
            return
        below = index + 1
        if below not in self._halves:
            self._halves[below] = np.empty((3, BLOCK_PX, self._cols[below]), np.uint8)
        half = halved(strip)
        at = (top // 2) % BLOCK_PX
        filled = at + half.shape[1]
        self._halves[below][:, at:filled] = half
        if filled == BLOCK_PX or bottom == self._rows[index]:
            ready = self._halves.pop(below)[:, :filled]
            self.put(below, top // 2 - at, ready)

    def finish(self) -> None:
        """Wait until all is written."""
        self._settle(most=0)

    def _settle(self, most: int) -> None:
        while len(self._pending) > most:
            for written in self._pending.pop(0):
                written.result()


def _write(array: Any, top: int, left: int, strip: NDArray[np.uint8]) -> None:
    """Write one chunk of a strip.

    One at a time: when one of many fails, as on a full disk, zarr goes on writing the others
    after it has said so.
    """
    chunk = strip[:, :, left : left + BLOCK_PX]
    array[:, top : top + chunk.shape[1], left : left + chunk.shape[2]] = chunk


def _read_strip(
    source: LevelArray, top: int, bottom: int, pool: ThreadPoolExecutor, progress: Progress
) -> NDArray[np.uint8]:
    """Return rows of the source as (3, rows, cols), read in several threads."""
    cols = source.shape[1]
    strip = np.empty((3, bottom - top, cols), np.uint8)

    def read(left: int) -> None:
        progress.check()
        right = min(left + _READ_PX, cols)
        pixels = source.read(top, bottom, left, right)
        for channel in range(3):
            strip[channel, :, left:right] = pixels[..., channel]

    for _ in pool.map(read, range(0, cols, _READ_PX)):
        pass
    return strip


def halved(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the 2 × 2 mean of (3, rows, cols); odd sides round up."""
    rows, cols = planes.shape[1:]
    if rows % 2:
        planes = np.concatenate([planes, planes[:, -1:]], axis=1)
    if cols % 2:
        planes = np.concatenate([planes, planes[:, :, -1:]], axis=2)
    pairs = planes[:, 0::2].astype(np.uint16)
    pairs += planes[:, 1::2]
    fours = pairs[:, :, 0::2] + pairs[:, :, 1::2]
    fours += 2
    fours >>= 2
    return fours.astype(np.uint8)


def _half(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    return (shape[0] + 1) // 2, (shape[1] + 1) // 2, 3


def _create(group: Any, name: str, shape: tuple[int, int, int]) -> Any:
    from zarr.codecs import BloscCodec

    rows, cols, _ = shape
    return group.create_array(
        name,
        shape=(3, rows, cols),
        chunks=(3, min(BLOCK_PX, rows), min(BLOCK_PX, cols)),
        dtype="uint8",
        compressors=BloscCodec(cname="lz4", clevel=5, shuffle="noshuffle"),
        fill_value=WHITE,
        dimension_names=("c", "y", "x"),
    )


def _metadata(n_levels: int, first: float, mpp_um: float | None) -> dict[str, Any]:
    """Return the OME attributes of the group."""
    unit = {} if mpp_um is None else {"unit": "micrometer"}
    step = 1.0 if mpp_um is None else mpp_um
    return {
        "version": "0.5",
        "multiscales": [
            {
                "axes": [
                    {"name": "c", "type": "channel"},
                    {"name": "y", "type": "space", **unit},
                    {"name": "x", "type": "space", **unit},
                ],
                "datasets": [
                    {
                        "path": str(k),
                        "coordinateTransformations": [
                            {
                                "type": "scale",
                                "scale": [1.0, first * step * 2**k, first * step * 2**k],
                            }
                        ],
                    }
                    for k in range(n_levels)
                ],
            }
        ],
        "omero": {"channels": [{"label": label} for label in ("r", "g", "b")]},
    }


def _threads() -> int:
    return max(1, min(4, os.cpu_count() or 1))
