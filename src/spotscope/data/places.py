"""Where a prediction is made: on the measured spots, or on a regular grid over the tissue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.data.section import Section

DEFAULT_STRIDE_UM = 50.0
"""Of a slide without spots: half the pitch of Visium."""

_STRIDE_RANGE_UM = (25.0, 100.0)


@dataclass(frozen=True)
class Grid:
    """A regular grid over a slide, of which some cells lie on tissue.

    The centre of cell (i, j) is `origin_px + stride_px * (i, j)`, in level-0 pixels whose centres
    are on integers. In napari, whose world is in micrometres, `image(values)` is drawn with
    `scale=(stride_um, stride_um)` and `translate=origin_px * mpp`: napari too puts the centre of
    pixel (0, 0) at the translation.

    Attributes
    ----------
    origin_px
        Centre of cell (0, 0): row, col.
    stride_px, stride_um
        Distance between the centres of neighbouring cells, which is also a cell's edge.
    mask
        (rows, cols) bool, True on tissue.
    """

    origin_px: tuple[float, float]
    stride_px: float
    stride_um: float
    mask: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.mask.shape[0], self.mask.shape[1]

    @property
    def centres_px(self) -> NDArray[np.float64]:
        """(n, 2) row, col of the cells on tissue, row by row."""
        cells = np.argwhere(self.mask).astype(np.float64)
        return np.asarray(self.origin_px, np.float64) + self.stride_px * cells

    def image(self, values: NDArray) -> NDArray[np.float32]:
        """Lay values of the cells on tissue out as a picture.

        Parameters
        ----------
        values
            (n,) or (n, k), in the order of `centres_px`.

        Returns
        -------
        (rows, cols) or (rows, cols, k) float32, NaN off tissue.
        """
        values = np.asarray(values)
        picture = np.full((*self.shape, *values.shape[1:]), np.nan, np.float32)
        picture[self.mask] = values
        return picture


@dataclass(frozen=True)
class Places:
    """The places of one section where expression is predicted.

    Attributes
    ----------
    section
        Whose slide the patches are read from.
    centres_px
        (n, 2) float64, row, col in level-0 pixels.
    grid
        The grid that the centres belong to; None on the measured spots.
    """

    section: Section
    centres_px: NDArray[np.float64]
    grid: Grid | None = None

    def __len__(self) -> int:
        return len(self.centres_px)

    @classmethod
    def on_spots(cls, section: Section) -> Places:
        """Return the section's measured spots, in their order.

        Raises
        ------
        SpotScopeError
            When the section is a slide alone.
        """
        if not section.has_spots:
            raise SpotScopeError(
                f"Section '{section.name}' has no spots; give it spots on import, or predict on a"
                " grid over its tissue."
            )
        return cls(section, np.asarray(section.centres_px, np.float64))

    @classmethod
    def on_grid(cls, section: Section, stride_um: float | None = None) -> Places:
        """Return a grid over the section's tissue.

        Parameters
        ----------
        section
            Its slide must state micrometres per pixel.
        stride_um
            Distance between neighbouring centres; None takes `default_stride_um`.

        Raises
        ------
        SpotScopeError
            When the slide states no scale, the stride is below a pixel or no tissue is found.
        """
        mpp = section.mpp_um
        if mpp is None:
            raise SpotScopeError(
                f"The slide of section '{section.name}' states no micrometres per pixel; import it"
                " again with --mpp."
            )
        if stride_um is None:
            stride_um = default_stride_um(section)
        stride_px = stride_um / mpp
        if not np.isfinite(stride_px) or stride_px < 1:
            raise SpotScopeError(
                f"A grid stride of {stride_um:g} µm is below one pixel ({mpp:.3g} µm);"
                " choose a larger one."
            )
        from spotscope.slide.tissue import tissue_mask

        # Cell (0, 0) covers the pixels from the slide's very edge, which lies at -0.5.
        origin_px = ((stride_px - 1) / 2, (stride_px - 1) / 2)
        mask = np.asarray(tissue_mask(section.slide, stride_px, origin_px), bool)
        if not mask.any():
            raise SpotScopeError(
                f"No tissue was found on the slide of section '{section.name}', so there is"
                " nowhere to predict."
            )
        grid = Grid(origin_px, float(stride_px), float(stride_um), mask)
        return cls(section, grid.centres_px, grid)


def default_stride_um(section: Section) -> float:
    """Return half the spot pitch, kept within 25 to 100 µm; 50 µm without spots."""
    pitch = spot_pitch_px(section)
    if pitch is None or section.mpp_um is None:
        return DEFAULT_STRIDE_UM
    return float(np.clip(round(pitch * section.mpp_um / 2), *_STRIDE_RANGE_UM))


def spot_pitch_px(section: Section) -> float | None:
    """Return the median distance from a spot to its nearest neighbour; None below two spots."""
    if section.n_spots < 2:
        return None
    from scipy.spatial import cKDTree

    centres = np.asarray(section.centres_px, np.float64)
    return float(np.median(cKDTree(centres).query(centres, k=2)[0][:, 1]))
