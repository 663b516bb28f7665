"""Ducts, acini and vessels: round structures drawn one by one into a section's planes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What a pixel shows; nuclei are sown by it.
GLASS, STROMA, NEST, DUCT, LUMEN, NECROSIS, ACINUS, FAT, IMMUNE_BED = range(9)

Window = tuple[slice, slice]


@dataclass
class Planes:
    """A section as it is drawn.

    Attributes
    ----------
    haematoxylin, eosin
        (rows, cols) stain concentrations.
    label
        (rows, cols) what each pixel shows.
    grain, speck
        (rows, cols) textures of about 1 and 2 µm, standard deviation 1.
    um
        Pixels per micrometre.
    rings
        Places and angles (n, 3) of nuclei along walls, by cell type.
    """

    haematoxylin: NDArray[np.float32]
    eosin: NDArray[np.float32]
    label: NDArray[np.uint8]
    grain: NDArray[np.float32]
    speck: NDArray[np.float32]
    um: float
    rings: dict[str, list[NDArray]] = field(default_factory=dict)

    def fill(
        self,
        window: Window,
        where: NDArray[np.bool_],
        label: int,
        eosin: float,
        haematoxylin: float,
        rough: float = 0.16,
    ) -> None:
        """Paint part of a window anew, with grain of relative strength `rough`."""
        grain = self.grain[window]
        self.eosin[window][where] = (eosin * (1 + rough * grain))[where]
        self.haematoxylin[window][where] = (haematoxylin * (1 + 1.4 * rough * grain))[where]
        self.label[window][where] = label

    def line(self, window: Window, inside_px: NDArray, eosin: float, width_um: float) -> None:
        """Add a pink line along a wall, such as a basement membrane."""
        away = inside_px / (self.um * width_um)
        self.eosin[window] += (eosin * np.exp(-(away**2))).astype(np.float32)


class StructurePainter:
    """Draws round structures into `planes`; sizes in micrometres, centres in pixels."""

    def __init__(self, rng: np.random.Generator, planes: Planes) -> None:
        self._rng = rng
        self._planes = planes
        self._um = planes.um

    def duct(self, centre: NDArray, radius_um: float) -> None:
        """A duct filled by cancer in situ: solid, with round lumens, or necrotic inside."""
        shape = self._wall(centre, radius_um, 0.10)
        if shape is None:
            return
        window, inside = shape
        um, planes = self._um, self._planes
        radius = radius_um * um
        outside = np.clip(-inside / um, 0, None)
        planes.eosin[window] += np.where(inside < 0, 0.2 * np.exp(-outside / 5), 0)
        planes.fill(window, inside > 0, DUCT, 0.40, 0.2)
        planes.line(window, inside, 0.3, 1.2)
        self._ring("myoepithelial", window, inside, 1.5, 15, tangent=True)
        comedo = radius_um > 52 and self._rng.random() < 0.5
        if comedo:
            rough = 2.5 * um * planes.speck[window]
            depth = inside - self._rng.uniform(0.38, 0.5) * radius + rough
            planes.fill(window, depth > 0, LUMEN, 0.1, 0.03)
            planes.fill(window, depth > 5 * um + rough, NECROSIS, 0.58, 0.1, rough=0.12)
            planes.eosin[window] *= np.where(depth > 5 * um, 1 + 0.12 * planes.speck[window], 1)
        elif self._rng.random() < 0.65:
            for _ in range(int(self._rng.integers(2, 4 + int(radius_um) // 14))):
                away = self._rng.uniform(0.05, 0.62) * radius
                turn = self._rng.uniform(0, 2 * np.pi)
                hole = centre + away * np.array([np.cos(turn), np.sin(turn)])
                self._lumen(hole, self._rng.uniform(5, 12))
        self._ring("in situ", window, inside, 6.5, 8.8, tangent=False)

    def acinus(self, centre: NDArray, radius_um: float) -> None:
        """A gland's acinus: one layer of luminal cells around a lumen, myoepithelium outside."""
        shape = self._wall(centre, radius_um, 0.11)
        if shape is None:
            return
        window, inside = shape
        planes = self._planes
        planes.fill(window, inside > 0, ACINUS, 0.36, 0.17)
        planes.line(window, inside, 0.22, 1.2)
        secreted = self._rng.choice([0.02, 0.06, 0.3], p=[0.5, 0.3, 0.2])
        depth = min(9.5, 0.66 * radius_um) * self._um
        planes.fill(window, inside > depth, LUMEN, float(secreted), 0.01, rough=0.1)
        self._ring("luminal", window, inside, 5.2, 7.6, tangent=False)
        self._ring("myoepithelial", window, inside, 0.6, 14, tangent=True)

    def vessel(self, centre: NDArray, radius_um: float) -> None:
        """A small vessel: pink wall, flat endothelial nuclei, red cells or an empty lumen."""
        shape = self._wall(centre, radius_um, 0.26)
        if shape is None:
            return
        window, inside = shape
        planes = self._planes
        wall = self._um * (1.8 + 0.25 * radius_um)
        coat = (inside < 0) & (inside > -wall)
        planes.fill(window, coat, STROMA, 0.58, 0.07)
        planes.fill(window, inside > 0, LUMEN, float(self._rng.uniform(0.03, 0.16)), 0.01)
        if self._rng.random() < 0.65:
            packed = self._rng.uniform(0.2, 0.8)
            cells = np.clip(packed + 0.6 * planes.speck[window], 0, 1) * (inside > 0.8 * self._um)
            planes.eosin[window] += (0.95 * cells).astype(np.float32)
        self._ring("myoepithelial", window, inside, -0.5, 17, tangent=True)

    def _lumen(self, centre: NDArray, radius_um: float) -> None:
        shape = self._wall(centre, radius_um, 0.10)
        if shape is not None:
            window, inside = shape
            self._planes.fill(window, inside > 0, LUMEN, 0.05, 0.01)
            self._planes.line(window, inside, 0.1, 1.2)

    def _wall(
        self, centre: NDArray, radius_um: float, raggedness: float
    ) -> tuple[Window, NDArray[np.float64]] | None:
        """Window around a structure and the distance inside its wall, px; None off the image."""
        planes, radius = self._planes, radius_um * self._um
        reach = int(radius * 1.5 + 4 * self._um) + 3
        middle = np.rint(centre).astype(int)
        low = np.maximum(middle - reach, 0)
        high = np.minimum(middle + reach + 1, planes.label.shape)
        if np.any(high - low < 4):
            return None
        rows, cols = np.ogrid[low[0] : high[0], low[1] : high[1]]
        down, right = rows - centre[0], cols - centre[1]
        angle = np.arctan2(right, down)
        wall = np.full(angle.shape, radius)
        for k, share in ((2, 1.2), (3, 0.6), (4, 0.4), (6, 0.25)):
            height = self._rng.normal(0, raggedness * share) * radius
            wall += height * np.cos(k * angle + self._rng.uniform(0, 6.3))
        return (slice(low[0], high[0]), slice(low[1], high[1])), wall - np.hypot(down, right)

    def _ring(
        self,
        kind: str,
        window: Window,
        inside_px: NDArray,
        depth_um: float,
        pitch_um: float,
        *,
        tangent: bool,
    ) -> None:
        """Keep places for nuclei at `depth_um` within a wall, `pitch_um` apart."""
        line = np.argwhere(np.abs(inside_px - depth_um * self._um) < 0.6)
        if len(line) < 3:
            return
        place = line + (window[0].start, window[1].start)
        spoke = place - place.mean(axis=0)
        turn = np.arctan2(spoke[:, 1], spoke[:, 0])
        around = 2 * np.pi * float(np.hypot(spoke[:, 0], spoke[:, 1]).mean())
        n = max(3, int(around / (pitch_um * self._um)))
        order = np.argsort(turn)
        step = (np.arange(n) + self._rng.uniform(-0.25, 0.25, n)) / n * len(order)
        chosen = order[step.astype(int) % len(order)]
        angle = turn[chosen] + (np.pi / 2 if tangent else 0)
        rows = np.column_stack([place[chosen], angle])
        self._planes.rings.setdefault(kind, []).append(rows)
