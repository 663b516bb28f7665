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
_GAP_UM = 45.0
"""Half the width of gaps that belong to the tissue: fat cells are 50 to 90 µm wide and empty."""
_GAP = 0.003
"""The same as a part of the longer side, for a slide of unknown scale, and the least."""


def tissue_mask(slide: Slide, cell_px: float, origin_px: tuple[float, float]) -> NDArray[np.bool_]:
    """Return which cells of a regular grid lie on tissue.

    A cell counts when at least a quarter of its area (`LEAST_TISSUE`) is tissue.

    Parameters
    ----------
    slide
        With micrometres per pixel, gaps as wide as fat cells count as tissue.
    cell_px
        Side of a cell and distance between centres, in level-0 pixels.
    origin_px
        Centre of cell (0, 0): row, col in level-0 pixels, pixel centres on integers.

    Returns
    -------
    (rows, cols) bool: all cells whose centre lies on the slide.
    """
    key = (slide.fingerprint, slide.mpp_um, cell_px, origin_px)
    mask = _found.get(key)
    if mask is None:
        mask = _tissue_mask(slide, cell_px, origin_px)
        if len(_found) >= _KEPT:
            _found.clear()
        if slide.fingerprint:
            _found[key] = mask
    return mask.copy()


_KEPT = 64
_found: dict[tuple[str, float | None, float, tuple[float, float]], NDArray[np.bool_]] = {}
"""The last masks: a cohort's are asked for again with every method and fold."""


def _tissue_mask(
    slide: Slide, cell_px: float, origin_px: tuple[float, float]
) -> NDArray[np.bool_]:
    picture, downsample = overview(slide, _LONGEST_PX)
    gap_px = _GAP_UM / (slide.mpp_um * downsample) if slide.mpp_um else 0.0
    tissue = find_tissue(picture, gap_px)
    shares = [
        _shares(origin, cell_px, size, length, downsample)
        for origin, size, length in zip(origin_px, slide.shape_px, tissue.shape, strict=True)
    ]
    return shares[0] @ tissue.astype(np.float32) @ shares[1].T >= LEAST_TISSUE


def find_tissue(picture: NDArray[np.uint8], gap_px: float = 0.0) -> NDArray[np.bool_]:
    """Return which pixels of a picture of a whole slide are tissue.

    Tissue differs from the glass by being darker or coloured. The threshold is Otsu's over the
    picture without its black parts, kept within a range so that glass alone gives nothing and
    tissue alone gives all. Black padding and green or black ink are left out; so are specks.
    A picture in greys with a dark background is taken for fluorescence, where tissue is bright.

    Parameters
    ----------
    picture
        (rows, cols, 3) uint8.
    gap_px
        Half the width of gaps that still belong to the tissue.

    Returns
    -------
    (rows, cols) bool.
    """
    from scipy.ndimage import maximum_filter, minimum_filter, uniform_filter
    from skimage.filters import threshold_otsu
    from skimage.morphology import remove_small_holes, remove_small_objects

    planes = np.moveaxis(picture, 2, 0)  # numpy is slow along an axis of three
    smooth = np.stack([uniform_filter(plane, 3) for plane in planes]).astype(np.int16)
    contrast, valid = _contrast(smooth)
    if not valid.any():
        return valid
    values = contrast[valid]
    otsu = threshold_otsu(values) if np.ptp(values) > 0 else 0.0
    tissue = valid & (contrast > np.clip(otsu, *_CONTRAST))
    speck = max(4, int(_SPECK * tissue.size))
    # Not wider than a fortieth of the picture, whatever a wrong scale may say.
    reach = round(max(1, _GAP * max(tissue.shape), min(gap_px, max(tissue.shape) / 40)))
    wide = maximum_filter(tissue, 2 * reach + 1)
    # Beyond the picture nothing is known: its edge must not eat the tissue that reaches it.
    tissue = minimum_filter(wide, 2 * reach + 1, mode="nearest") & valid
    tissue = remove_small_objects(tissue, max_size=speck)
    return remove_small_holes(tissue, max_size=speck) & valid


def _contrast(planes: NDArray[np.int16]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return how much each pixel differs from the background, and which may be tissue at all."""
    brightest, darkest = _extremes(planes)
    chroma = brightest - darkest
    is_grey = np.percentile(chroma[::4, ::4], 99) < _GREY
    if is_grey and np.median(brightest[::4, ::4]) < 128:
        return brightest.astype(np.float32), np.ones(brightest.shape, bool)
    red, green, _ = planes
    valid = (brightest > _BLACK) & (green - red < _GREEN_INK)
    bright = valid & (darkest > 190) & (chroma < 25)
    glass = _glass(planes, bright)
    below = np.clip(glass[:, None, None] - planes, 0, None)
    darker = (below[0] + below[1] + below[2]) / np.float32(3)
    if is_grey:
        return darker, valid
    # Colour counts for more than darkness: shadows, dust and pencil are dark but grey.
    most, least = _extremes(below)
    return (most - least) + np.float32(0.1) * darker, valid


def _glass(planes: NDArray[np.int16], bright: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Return the colour of the empty glass; white where none is seen."""
    if bright.mean() < 0.005:
        return np.full(3, 255, np.int16)
    pixels = planes[:, bright]
    total = pixels[0] + pixels[1] + pixels[2]
    return np.median(pixels[:, total >= np.median(total)], axis=1).astype(np.int16)


def _extremes(planes: NDArray[np.int16]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return the largest and the smallest channel of each pixel."""
    red, green, blue = planes
    return (
        np.maximum(np.maximum(red, green), blue),
        np.minimum(np.minimum(red, green), blue),
    )


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
