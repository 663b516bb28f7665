"""Smooth random fields, and maps that are known on coarse nodes and linear between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import fft, ndimage, sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

Array = np.ndarray


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], scale: float
) -> NDArray[np.float32]:
    """Gaussian noise blurred to `scale` cells, mean 0 and standard deviation 1."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, scale, mode="reflect")
    noise -= noise.mean()
    return noise / noise.std()


def periodic_noise(
    rng: np.random.Generator, side: int, scale: tuple[float, float]
) -> NDArray[np.float32]:
    """Square tile of noise blurred to `scale` cells along rows and columns, without a seam."""
    wave = fft.rfft2(rng.standard_normal((side, side), dtype=np.float32))
    rows = np.exp(-2 * (np.pi * scale[0] * fft.fftfreq(side)) ** 2)
    cols = np.exp(-2 * (np.pi * scale[1] * fft.rfftfreq(side)) ** 2)
    wave *= (rows[:, None] * cols).astype(np.float32)
    wave[0, 0] = 0
    noise = fft.irfft2(wave, s=(side, side))
    return (noise / noise.std()).astype(np.float32)


def node_shape(shape_px: tuple[int, int], step: int) -> tuple[int, int]:
    """Number of nodes that cover an image when node (i, j) stands on pixel (i, j) * step."""
    rows, cols = (-(-(n - 1) // step) + 1 for n in shape_px)
    return rows, cols


def node_points(shape: tuple[int, int], step: float) -> NDArray[np.float64]:
    """Positions (rows * cols, 2) of all nodes, row-major."""
    rows, cols = np.indices(shape, dtype=np.float64) * step
    return np.column_stack([rows.ravel(), cols.ravel()])


def upsample(nodes: Array, step: int, shape_px: tuple[int, int]) -> NDArray[np.float32]:
    """Linear interpolation of `nodes` at every pixel; sparse products beat a general zoom."""
    rows = _weights(nodes.shape[0], step, shape_px[0])
    cols = _weights(nodes.shape[1], step, shape_px[1])
    tall = rows @ nodes.astype(np.float32)
    return np.ascontiguousarray((cols @ np.ascontiguousarray(tall.T)).T)


def _weights(nodes: int, step: int, pixels: int) -> sparse.csr_array:
    place = np.arange(pixels) / step
    low = np.minimum(place.astype(np.int64), nodes - 2)
    high_share = (place - low).astype(np.float32)
    values = np.column_stack([1 - high_share, high_share]).ravel()
    columns = np.column_stack([low, low + 1]).ravel()
    starts = np.arange(0, 2 * pixels + 1, 2)
    return sparse.csr_array((values, columns, starts), shape=(pixels, nodes))


def sample(nodes: Array, points: Array, step: float) -> NDArray[np.float64]:
    """Linear interpolation of `nodes` (rows, cols) at `points` (n, 2), clamped at the border."""
    place = np.asarray(points, dtype=np.float64).T / step
    return ndimage.map_coordinates(
        np.asarray(nodes, dtype=np.float64), place, order=1, mode="nearest"
    )


def tiled(rng: np.random.Generator, tile: Array, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Lay the periodic texture `tile` over `shape` from a random start."""
    start = rng.integers(0, tile.shape[0], 2)
    rows = (np.arange(shape[0]) + start[0]) % tile.shape[0]
    cols = (np.arange(shape[1]) + start[1]) % tile.shape[1]
    return tile[rows[:, None], cols]


def jittered_lattice(
    rng: np.random.Generator, shape: tuple[float, float], pitch: float, jitter: float
) -> NDArray[np.float64]:
    """Points (n, 2) of a hexagonal lattice, each moved by up to `jitter` pitches."""
    rows = np.arange(0, shape[0], pitch * np.sqrt(3) / 2)
    cols = np.arange(0, shape[1], pitch)
    grid = np.stack(np.meshgrid(rows, cols, indexing="ij"), axis=-1)
    grid[1::2, :, 1] += pitch / 2
    points = grid.reshape(-1, 2)
    return points + rng.uniform(-jitter, jitter, points.shape) * pitch
