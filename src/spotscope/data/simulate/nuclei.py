"""Nuclei: a bank of pre-rendered ones for each cell type, and stamping them into a plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, special

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TURNS = 16
_VARIANTS = 24


@dataclass(frozen=True)
class CellType:
    """How the nuclei of one cell type look.

    Attributes
    ----------
    long_um, short_um
        Half axes of the ordinary nucleus.
    size_sd, shape_sd
        Spread of the size (log) and raggedness of the outline.
    haematoxylin
        Depth of the stain, 1 is an ordinary lymphocyte.
    open_chromatin
        0: evenly dark; 1: pale inside with a dark rim, clumps and a nucleolus.
    """

    long_um: float
    short_um: float
    size_sd: float
    shape_sd: float
    haematoxylin: float
    open_chromatin: float


CELL_TYPES = {
    "tumour": CellType(5.3, 4.2, 0.17, 0.08, 0.92, 1.0),
    "in situ": CellType(4.6, 3.8, 0.10, 0.05, 0.92, 0.75),
    "luminal": CellType(3.9, 2.9, 0.09, 0.04, 0.95, 0.5),
    "myoepithelial": CellType(4.4, 1.6, 0.10, 0.05, 1.0, 0.1),
    "fibroblast": CellType(7.0, 1.5, 0.22, 0.08, 0.95, 0.15),
    "lymphocyte": CellType(3.0, 2.8, 0.08, 0.05, 1.3, 0.25),
    "histiocyte": CellType(4.6, 3.4, 0.12, 0.10, 0.75, 0.9),
    "fat": CellType(5.0, 1.3, 0.15, 0.04, 1.0, 0.0),
    "debris": CellType(1.7, 1.3, 0.30, 0.20, 1.0, 0.0),
}


@dataclass(frozen=True)
class Nuclei:
    """Nuclei of one type: where, how they lie, and how large for their type.

    Attributes
    ----------
    kind
        Name of the cell type.
    centres_px
        (n, 2) row, col.
    angles
        (n,) direction of the long axis from the row axis, radians.
    """

    kind: str
    centres_px: NDArray[np.float64]
    angles: NDArray[np.float64]


class NucleusBank:
    """Pre-rendered nuclei of every type, in variants sorted by size and turned in 16 steps."""

    def __init__(self, rng: np.random.Generator, mpp_um: float) -> None:
        self._stamps = {name: _render(rng, cell, mpp_um) for name, cell in CELL_TYPES.items()}

    def stamp(
        self,
        rng: np.random.Generator,
        plane: NDArray[np.float32],
        nuclei: Nuclei,
        larger: NDArray[np.float64],
    ) -> None:
        """Draw `nuclei` into the haematoxylin `plane`, darker where two overlap.

        `larger` (n,) shifts the choice of variant, in steps of size.
        """
        stamps = self._stamps[nuclei.kind]
        half = stamps.shape[-1] // 2
        middle = (_VARIANTS - 1) / 2
        drawn = rng.normal(middle, _VARIANTS / 4.5, len(nuclei.centres_px)) + larger
        variant = np.clip(np.rint(drawn), 0, _VARIANTS - 1).astype(int)
        turn = np.rint(nuclei.angles / np.pi * _TURNS).astype(int) % _TURNS
        place = np.rint(nuclei.centres_px).astype(int)
        fits = np.all((place >= half) & (place < np.array(plane.shape) - half), axis=1)
        deep = rng.normal(1, 0.12, len(place)).astype(np.float32).clip(0.6, 1.4)
        for (row, col), v, t, k in zip(
            place[fits].tolist(),
            variant[fits].tolist(),
            turn[fits].tolist(),
            deep[fits],
            strict=True,
        ):
            window = plane[row - half : row + half + 1, col - half : col + half + 1]
            stamp = stamps[v, t] * k
            # a maximum for the most part, and a little of the sum where two overlap
            np.maximum(window + 0.25 * stamp, stamp, out=window)


def _render(rng: np.random.Generator, cell: CellType, mpp_um: float) -> NDArray[np.float32]:
    """Draw (variants, turns, side, side) haematoxylin stamps of one cell type."""
    size = np.sort(np.exp(rng.normal(0, cell.size_sd, _VARIANTS)))
    half = int(np.ceil(cell.long_um * size[-1] * 1.25 / mpp_um)) + 1
    rows, cols = np.mgrid[-half : half + 1, -half : half + 1] * mpp_um
    angle = np.arange(_TURNS) * np.pi / _TURNS
    along = rows * np.cos(angle)[:, None, None] + cols * np.sin(angle)[:, None, None]
    across = -rows * np.sin(angle)[:, None, None] + cols * np.cos(angle)[:, None, None]
    stretch = np.exp(rng.normal(0, 0.1, (_VARIANTS, 1, 1, 1)))
    big = size[:, None, None, None]
    x = along[None] / (cell.long_um * big * stretch)
    y = across[None] / (cell.short_um * big / stretch)
    theta = np.arctan2(y, x)
    rim = np.ones_like(x)
    for k in (2, 3, 4):
        height, phase = rng.normal(0, cell.shape_sd, (2, _VARIANTS, 1, 1, 1))
        rim += height * np.cos(k * theta + 40 * phase)
    rho = np.hypot(x, y) / rim
    width_um = (cell.long_um * cell.short_um) ** 0.5
    body = special.expit((1 - rho) * width_um / (0.3 * mpp_um**0.5))
    clumps = rng.standard_normal(x.shape, dtype=np.float32)
    clumps = ndimage.gaussian_filter(clumps, (0, 0, 0.9 / mpp_um, 0.9 / mpp_um))
    clumps /= clumps.std()
    pale = cell.open_chromatin * rng.uniform(0.5, 1.2, (_VARIANTS, 1, 1, 1))
    inside = 1 - 0.42 * pale * np.exp(-((rho / 0.8) ** 4)) + 0.16 * pale * clumps
    spot_x, spot_y = rng.normal(0, 0.25, (2, _VARIANTS, 1, 1, 1))
    nucleolus = np.exp(-((x - spot_x) ** 2 + (y - spot_y) ** 2) / 0.05)
    inside = inside + 0.5 * pale * nucleolus
    return (cell.haematoxylin * body * inside.clip(0.15)).astype(np.float32)
