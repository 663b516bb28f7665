"""How well expression is predicted: one figure a gene, over the spots of one section.

A figure that does not exist, such as the correlation with a gene that is the same in every spot,
is NaN here. `mean_over` counts it as 0 in the mean and says how many there were, so that a method
gains nothing by predicting constants and no gene is dropped in silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from spotscope.data.section import Section

    Values = NDArray[np.float64]

METRICS = ("pearson", "spearman", "mse", "mae", "r2", "ssim")

_SAME = 1e-6  # relative; float32 arithmetic tells apart no less
_WINDOW = 7  # cells; as in scikit-image
_BLOCK = 4_000_000  # values of a stack of pictures, to bound memory


def gene_metrics(
    predicted: ArrayLike,
    measured: ArrayLike,
    training_mean: ArrayLike,
    lattice: Lattice | None = None,
) -> dict[str, Values]:
    """Return all `METRICS` of each gene; SSIM only when a lattice is given.

    Parameters
    ----------
    predicted, measured
        (n, G) log1p CP10k of the spots of one section.
    training_mean
        (G,) mean over the training spots, which R² is measured against.
    lattice
        Of the spots.

    Returns
    -------
    By name, (G,) with NaN where undefined.
    """
    predicted, measured = _pair(predicted, measured)
    figures = {
        "pearson": pearson(predicted, measured),
        "spearman": spearman(predicted, measured),
        "mse": ((predicted - measured) ** 2).mean(axis=0),
        "mae": np.abs(predicted - measured).mean(axis=0),
        "r2": r2(predicted, measured, training_mean),
    }
    if lattice is not None:
        figures["ssim"] = ssim(predicted, measured, lattice)
    return figures


def mean_over(values: ArrayLike) -> tuple[float, int]:
    """Return the mean with undefined figures as 0, and how many were undefined."""
    values = np.asarray(values, np.float64)
    undefined = np.isnan(values)
    return float(np.where(undefined, 0.0, values).mean()), int(undefined.sum())


def pearson(predicted: ArrayLike, measured: ArrayLike) -> Values:
    """Return (G,) Pearson correlation; NaN where either side is the same in every spot."""
    predicted, measured = _pair(predicted, measured)
    a = predicted - predicted.mean(axis=0)
    b = measured - measured.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    undefined = _constant(predicted) | _constant(measured)
    return np.where(undefined, np.nan, np.clip(correlation, -1, 1))


def spearman(predicted: ArrayLike, measured: ArrayLike) -> Values:
    """Return (G,) correlation of ranks, ties sharing their mean rank; NaN as for `pearson`."""
    from scipy.stats import rankdata

    predicted, measured = _pair(predicted, measured)
    undefined = _constant(predicted) | _constant(measured)
    correlation = pearson(rankdata(predicted, axis=0), rankdata(measured, axis=0))
    return np.where(undefined, np.nan, correlation)


def r2(predicted: ArrayLike, measured: ArrayLike, training_mean: ArrayLike) -> Values:
    """Return (G,) share of the squared error of the training mean that the prediction removes.

    0 is no better than knowing the training mean alone; it can fall below. The usual R² would
    compare with the mean of the very section that is predicted, which nobody knows beforehand.
    NaN where the training mean is exact.
    """
    predicted, measured = _pair(predicted, measured)
    residual = ((measured - predicted) ** 2).sum(axis=0)
    reference = ((measured - np.asarray(training_mean, np.float64)) ** 2).sum(axis=0)
    return 1 - np.divide(
        residual, reference, out=np.full_like(residual, np.nan), where=reference > 0
    )


@dataclass(frozen=True)
class Lattice:
    """Spots as a picture of one cell a spot.

    Cells are one spot pitch wide; each shows its nearest spot and is empty when none lies within
    a pitch of its centre. That serves square, hexagonal and warped lattices alike.

    Attributes
    ----------
    nearest
        (rows, cols) index of the spot that a cell shows.
    mask
        (rows, cols), False where a cell is empty.
    """

    nearest: NDArray[np.intp]
    mask: NDArray[np.bool_]

    @classmethod
    def of(cls, section: Section) -> Lattice | None:
        """Return the lattice of a section's spots; None when they are fewer than two."""
        from scipy.spatial import cKDTree

        from spotscope.data.places import spot_pitch_px

        pitch = spot_pitch_px(section)
        if not pitch:
            return None
        centres = section.centres_px
        low = centres.min(axis=0)
        shape = np.round((centres.max(axis=0) - low) / pitch).astype(int) + 1
        cells = low + pitch * np.indices(shape).reshape(2, -1).T
        # Half the diagonal of a cell, and a little for spots that are not quite in their place.
        distance, nearest = cKDTree(centres).query(cells)
        mask = (distance < 0.75 * pitch).reshape(shape)
        return cls(np.where(mask, nearest.reshape(shape), 0), mask)


def ssim(predicted: ArrayLike, measured: ArrayLike, lattice: Lattice) -> Values:
    """Return (G,) structural similarity of the predicted and the measured map.

    Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE
    TIP 13 (2004), equation 13, with K1 = 0.01, K2 = 0.03 and the range of the measured values, in
    windows of 7 × 7 cells. Only cells with a spot count, inside a window and in the mean. NaN
    where the gene is the same in every spot.
    """
    predicted, measured = _pair(predicted, measured)
    cells = lattice.mask.size
    block = max(1, _BLOCK // max(1, cells))
    parts = [
        ssim_map(predicted[:, i : i + block], measured[:, i : i + block], lattice)[
            lattice.mask
        ].mean(axis=0)
        for i in range(0, measured.shape[1], block)
    ]
    return np.where(_constant(measured), np.nan, np.concatenate(parts))


def ssim_map(predicted: Values, measured: Values, lattice: Lattice) -> Values:
    """Return the (rows, cols, G) similarity at each cell; see `ssim`."""
    from scipy.ndimage import uniform_filter

    mask = lattice.mask[..., None].astype(np.float64)

    def smooth(picture: Values) -> Values:
        return uniform_filter(picture, (_WINDOW, _WINDOW, 0), mode="constant")

    filled = np.maximum(smooth(mask), 1e-12)
    x = predicted[lattice.nearest] * mask
    y = measured[lattice.nearest] * mask
    mean_x, mean_y = smooth(x) / filled, smooth(y) / filled
    variance_x = smooth(x * x) / filled - mean_x**2
    variance_y = smooth(y * y) / filled - mean_y**2
    covariance = smooth(x * y) / filled - mean_x * mean_y
    span = measured.max(axis=0) - measured.min(axis=0)
    c1, c2 = np.maximum((0.01 * span) ** 2, 1e-30), np.maximum((0.03 * span) ** 2, 1e-30)
    return ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )


def _pair(predicted: ArrayLike, measured: ArrayLike) -> tuple[Values, Values]:
    a, b = np.asarray(predicted, np.float64), np.asarray(measured, np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"predicted is {a.shape} and measured {b.shape}; both must be (n, G)")
    return a, b


def _constant(values: Values) -> NDArray[np.bool_]:
    span = values.max(axis=0) - values.min(axis=0)
    return span <= _SAME * np.abs(values).max(axis=0)
