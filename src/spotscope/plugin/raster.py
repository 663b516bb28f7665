"""Very many spots as a picture: which spot each pixel shows, found once, looked up for each gene.

At 500,000 spots the markers of a points layer take seconds to recolour; the same values as an
image take milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

POINTS_BELOW = 50_000
"""From this many spots on, they are drawn as a picture."""

_PIXELS_A_BIN = 2.0
_PIXELS_A_SPOT = 4.0
_MOST_PIXELS_A_SIDE = 6_000


@dataclass(frozen=True)
class SpotRaster:
    """A picture of spots.

    Attributes
    ----------
    spot_of
        (rows, cols) int32, the spot that each pixel shows; `n_spots` where there is none.
    origin_px
        Level-0 row, col of the centre of pixel (0, 0).
    step_px
        Level-0 pixels per pixel of the picture.
    n_spots
        How many values `image` takes.
    """

    spot_of: NDArray[np.int32]
    origin_px: tuple[float, float]
    step_px: float
    n_spots: int

    @classmethod
    def of(cls, centres_px: NDArray, diameter_px: float, pitch_px: float) -> SpotRaster:
        """Find the spot of each pixel.

        Parameters
        ----------
        centres_px
            (n, 2) row, col.
        diameter_px
            How wide a spot is; as wide as the pitch, spots are bins that touch and leave no gap.
        pitch_px
            Distance between neighbouring spots.
        """
        from scipy.spatial import cKDTree

        centres = np.asarray(centres_px, np.float64)
        bins = diameter_px >= 0.9 * pitch_px
        low, high = centres.min(axis=0) - pitch_px / 2, centres.max(axis=0) + pitch_px / 2
        step = pitch_px / _PIXELS_A_BIN if bins else diameter_px / _PIXELS_A_SPOT
        step = max(step, float((high - low).max()) / _MOST_PIXELS_A_SIDE)
        # No spot is so small beside a pixel that it falls between the pixels' centres.
        radius = max(0.75 * pitch_px if bins else diameter_px / 2, 0.75 * step)
        origin = low + step / 2
        rows, cols = np.maximum(np.ceil((high - low) / step).astype(int), 1)
        spot_of = np.empty((rows, cols), np.int32)
        tree = cKDTree(centres)
        across = origin[1] + step * np.arange(cols)
        for row in range(0, rows, 256):  # in strips, to keep the queries small in memory
            down = origin[0] + step * np.arange(row, min(row + 256, rows))
            places = np.stack(np.meshgrid(down, across, indexing="ij"), -1)
            spot_of[row : row + 256] = tree.query(places, distance_upper_bound=radius, workers=-1)[
                1
            ]
        return cls(spot_of, (float(origin[0]), float(origin[1])), float(step), len(centres))

    def image(self, values: NDArray) -> NDArray[np.float32]:
        """Lay (n,) values out as (rows, cols) float32, NaN where there is no spot."""
        table = np.append(np.asarray(values, np.float32), np.float32(np.nan))
        # The mode that needs no check of the indices, which are right, is twice as fast.
        return np.take(table, self.spot_of, mode="clip")

    def repaint(self, picture: NDArray[np.float32], values: NDArray, around_px: NDArray) -> None:
        """Lay (n,) values out anew in the part of a picture that some places lie in, in place.

        Parameters
        ----------
        picture
            (rows, cols) float32, as `image` made it.
        values
            (n,) of all spots.
        around_px
            (k, 2) level-0 row, col of the spots whose values changed.
        """
        cells = (np.asarray(around_px) - self.origin_px) / self.step_px
        margin = _PIXELS_A_SPOT
        low = np.maximum(np.floor(cells.min(axis=0) - margin).astype(int), 0)
        high = np.ceil(cells.max(axis=0) + margin).astype(int) + 1
        part = np.s_[low[0] : high[0], low[1] : high[1]]
        table = np.append(np.asarray(values, np.float32), np.float32(np.nan))
        picture[part] = np.take(table, self.spot_of[part], mode="clip")
