"""A slide: a pyramid of RGB levels that is read in pieces."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.slide.levels import WHITE, LevelArray
from spotscope.slide.mpp import USER, MppSource, choose_mpp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import dask.array
    from numpy.typing import NDArray


@dataclass
class Slide:
    """A whole-slide image, opened lazily.

    Attributes
    ----------
    path
        The file or folder.
    name
        For tables and titles.
    levels
        (rows, cols, 3) uint8 RGB each, sliced like arrays; level 0 first.
    downsamples
        Level-0 pixels per pixel of each level. A level's pixel i spans the level-0 edges
        `i * downsample` to `(i + 1) * downsample`.
    mpp_sources
        All that state micrometres per pixel, in order of trust.
    mpp_um
        The choice; None when nothing states it.
    fingerprint
        Of the content, for caches. It does not depend on `mpp_um`.
    notes
        Sentences that the user should see: contradicting sources, scaled colours.
    """

    path: Path
    name: str
    levels: list[LevelArray]
    downsamples: tuple[float, ...]
    mpp_sources: tuple[MppSource, ...] = ()
    mpp_um: float | None = None
    fingerprint: str = ""
    notes: tuple[str, ...] = ()
    closers: tuple[Callable[[], Any], ...] = field(default=(), repr=False)

    @property
    def shape_px(self) -> tuple[int, int]:
        """Rows and columns of level 0."""
        return self.levels[0].shape[0], self.levels[0].shape[1]

    @cached_property
    def dask_levels(self) -> list[dask.array.Array]:
        """The levels as dask arrays in square chunks, for napari."""
        import dask.array

        return [
            dask.array.from_array(
                level,
                chunks=level.chunks,
                name=f"slide-{self.fingerprint}-{index}",
                meta=np.empty((0, 0, 0), np.uint8),
            )
            for index, level in enumerate(self.levels)
        ]

    def read_region(
        self, level: int, row: int, col: int, height: int, width: int
    ) -> NDArray[np.uint8]:
        """Return (height, width, 3) pixels of a level; white outside the slide.

        Parameters
        ----------
        level
            Index into `levels`.
        row, col
            First row and column, in pixels of that level; may be negative.
        height, width
            Size, in pixels of that level.
        """
        return read_padded(self.levels[level], row, col, height, width)

    def stated_by(self, *sources: MppSource, user: float | None = None) -> Slide:
        """Return the same slide with more sources of micrometres per pixel, the new ones first.

        What the user said stays before all others; a source of a name that is already there
        replaces it. Warnings go to `notes`.

        Raises
        ------
        SpotScopeError
            When the user's value is no length above zero.
        """
        if user is None:
            user = next((s.mpp_um for s in self.mpp_sources if s.name == USER), None)
        replaced = {USER, *(source.name for source in sources)}
        stated = (*sources, *(s for s in self.mpp_sources if s.name not in replaced))
        mpp_um, warnings = choose_mpp(stated, user)
        if user is not None:
            stated = (MppSource(USER, float(user)), *stated)
        _, before = choose_mpp(self.mpp_sources)
        kept = tuple(note for note in self.notes if note not in before)
        return replace(self, mpp_sources=stated, mpp_um=mpp_um, notes=(*kept, *warnings))

    def close(self) -> None:
        """Close the files; the levels cannot be read after that."""
        for closer in self.closers:
            closer()

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_padded(
    level: LevelArray, row: int, col: int, height: int, width: int
) -> NDArray[np.uint8]:
    """Return (height, width, 3) pixels from `row`, `col` on; white outside the level."""
    rows, cols = level.shape[:2]
    top, bottom = max(row, 0), min(row + height, rows)
    left, right = max(col, 0), min(col + width, cols)
    if top == row and left == col and bottom - top == height and right - left == width:
        return level.read(top, bottom, left, right)
    region = np.full((height, width, 3), WHITE, np.uint8)
    if bottom > top and right > left:
        region[top - row : bottom - row, left - col : right - col] = level.read(
            top, bottom, left, right
        )
    return region
