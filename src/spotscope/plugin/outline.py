"""A map of large cells, drawn up to the edge of the tissue and not over the glass beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.data.places import Grid
    from spotscope.slide.slide import Slide

_FINER = 4  # pixels a cell, along each side
_MOST_PIXELS = 2_000_000
_REACH = 1.5  # cells from the next one that was predicted


@dataclass(frozen=True)
class Outline:
    """Which cell of a grid each pixel of a finer picture shows.

    Attributes
    ----------
    cell_of
        (rows, cols) int32, index into the grid's cells, all of them row by row; their number
        where nothing is shown.
    origin_px
        Level-0 row, col of the centre of pixel (0, 0).
    step_px
        Level-0 pixels per pixel of the picture.
    n_cells
        How many cells the grid has.
    """

    cell_of: NDArray[np.int32]
    origin_px: tuple[float, float]
    step_px: float
    n_cells: int

    @classmethod
    def of(cls, slide: Slide, grid: Grid) -> Outline:
        """Find the cell of each pixel: the nearest one with a value, on tissue alone.

        A cell that is mostly glass has no value; what tissue it holds takes its neighbour's.
        """
        from scipy.ndimage import distance_transform_edt

        from spotscope.slide.tissue import tissue_mask

        rows, cols = grid.mask.shape
        finer = int(np.clip(np.sqrt(_MOST_PIXELS / (rows * cols)), 1, _FINER))
        step = grid.stride_px / finer
        aside = (grid.stride_px - step) / 2
        origin = (grid.origin_px[0] - aside, grid.origin_px[1] - aside)
        has_value = np.repeat(np.repeat(grid.mask, finer, 0), finer, 1)
        tissue = np.zeros_like(has_value)
        found = tissue_mask(slide, step, origin)[: tissue.shape[0], : tissue.shape[1]]
        tissue[: found.shape[0], : found.shape[1]] = found
        away, (row, col) = distance_transform_edt(~has_value, return_indices=True)
        shown = tissue & (away <= _REACH * finer)
        cell_of = np.where(shown, (row // finer) * cols + col // finer, rows * cols)
        return cls(cell_of.astype(np.int32), origin, step, rows * cols)

    def image(self, values: NDArray) -> NDArray[np.float32]:
        """Lay a (rows, cols) map of the grid out as the finer picture, NaN off tissue."""
        table = np.append(np.asarray(values, np.float32).ravel(), np.float32(np.nan))
        return np.take(table, self.cell_of, mode="clip")

    def labels(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Lay (rows, cols) labels of the grid out as the finer picture, 0 off tissue."""
        return np.take(np.append(values.ravel(), np.uint8(0)), self.cell_of, mode="clip")

    def cell_at(self, place_px: tuple[float, float]) -> int | None:
        """Return the cell that is shown at a place (row, col) in level-0 pixels, if one is."""
        pixel = np.rint((np.asarray(place_px) - self.origin_px) / self.step_px).astype(int)
        if (pixel < 0).any() or (pixel >= self.cell_of.shape).any():
            return None
        cell = int(self.cell_of[tuple(pixel)])
        return cell if cell < self.n_cells else None
