"""Where there is tissue on a slide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spotscope.slide.overview import overview

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.slide.slide import Slide

LEAST_TISSUE = 0.25
"""Part of a cell's area that must be tissue for the cell to count."""

_LONGEST_PX = 2048
_BLACK = 45
"""Brightest channel up to which a pixel is padding, ink or the edge of the scan, not tissue."""
_CONTRAST = (10.0, 24.0)
"""Range within which the contrast that tells tissue from glass is chosen: below it is noise,
and what is above it is tissue even where all of the slide is."""
_GREY = 6
_GREEN_INK = 18
_SPECK = 2e-4


def tissue_mask(slide: Slide, cell_px: float, origin_px: tuple[float, float]) -> NDArray[np.bool_]:
    """Return which cells of a regular grid lie on tissue.

    A cell counts when at least a quarter of its area (`LEAST_TISSUE`) is tissue.

    Parameters
    ----------
    slide
        Needs no micrometres per pixel.
    cell_px
        Side of a cell and distance between centres, in level-0 pixels.
    origin_px
        Centre of cell (0, 0): row, col in level-0 pixels, pixel centres on integers.

    Returns
    -------
    (rows, cols) bool: all cells whose centre lies on the slide.
    """
    picture, downsample = overview(slide, _LONGEST_PX)
    tissue = find_tissue(picture)
    shares = [
        _shares(origin, cell_px, size, length, downsample)
        for origin, size, length in zip(origin_px, slide.shape_px, tissue.shape, strict=True)
    ]
    return shares[0] @ tissue.astype(np.float32) @ shares[1].T >= LEAST_TISSUE


def find_tissue(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which pixels of a picture of a whole slide are tissue.

    Tissue differs from the glass by being darker or coloured. The threshold is Otsu's over the
    picture without its black parts, kept within a range so that glass alone gives nothing and
    tissue alone gives all. Black padding and green or black ink are left out; so are specks.
    A picture in greys with a dark background is taken for fluorescence, where tissue is bright.

    Parameters
    ----------
    picture
        (rows, cols, 3) uint8.

    Returns
    -------
    (rows, cols) bool.
    """
    from scipy.ndimage import binary_closing, uniform_filter
    from skimage.filters import threshold_otsu
    from skimage.morphology import remove_small_holes, remove_small_objects

    smooth = uniform_filter(picture, (3, 3, 1)).astype(np.int16)
    brightest, darkest = smooth.max(axis=2), smooth.min(axis=2)
    contrast, valid = _contrast(smooth, brightest, darkest)
    if not valid.any():
        return valid
    values = contrast[valid]
    otsu = threshold_otsu(values) if np.ptp(values) > 0 else 0.0
    tissue = valid & (contrast > np.clip(otsu, *_CONTRAST))
    speck = max(4, int(_SPECK * tissue.size))
    tissue = binary_closing(tissue, iterations=2) & valid
    tissue = remove_small_objects(tissue, max_size=speck)
    return remove_small_holes(tissue, max_size=speck) & valid


def _contrast(
    smooth: NDArray[np.int16], brightest: NDArray[np.int16], darkest: NDArray[np.int16]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return how much each pixel differs from the background, and which may be tissue at all."""
    chroma = brightest - darkest
    is_grey = np.percentile(chroma, 99) < _GREY
    if is_grey and np.median(brightest) < 128:
        return brightest.astype(np.float32), np.ones(brightest.shape, bool)
    valid = brightest > _BLACK
    red, green = smooth[..., 0], smooth[..., 1]
    valid &= green - red < _GREEN_INK
    glass = _glass(smooth, chroma, valid)
    below = np.clip(glass - smooth, 0, None).astype(np.float32)
    darker = below.mean(axis=2)
    if is_grey:
        return darker, valid
    # Colour counts for more than darkness: shadows, dust and pencil are dark but grey.
    coloured = below.max(axis=2) - below.min(axis=2)
    return 0.75 * coloured + 0.25 * darker, valid


def _glass(
    smooth: NDArray[np.int16], chroma: NDArray[np.int16], valid: NDArray[np.bool_]
) -> NDArray[np.int16]:
    """Return the colour of the empty glass; white where none is seen."""
    bright = valid & (smooth.min(axis=2) > 190) & (chroma < 25)
    if bright.mean() < 0.005:
        return np.full(3, 255, np.int16)
    pixels = smooth[bright]
    level = np.percentile(pixels.sum(axis=1), 50)
    return np.median(pixels[pixels.sum(axis=1) >= level], axis=0).astype(np.int16)


def _shares(
    origin: float, cell: float, size: int, length: int, downsample: float
) -> NDArray[np.float32]:
    """Return (cells, length): the part of each cell that each row of the picture covers."""
    # Edges count from the slide's own edge, half a pixel before the centre of pixel 0.
    count = int(np.floor((size - 0.5 - origin) / cell)) + 1
    starts = (origin + 0.5 - cell / 2 + cell * np.arange(max(count, 0)))[:, None]
    edges = downsample * np.arange(length + 1)
    edges[-1] = max(edges[-1], size)
    overlap = np.minimum(edges[None, 1:], starts + cell) - np.maximum(edges[None, :-1], starts)
    return (np.clip(overlap, 0, None) / cell).astype(np.float32)
