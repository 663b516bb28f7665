"""Haematoxylin and eosin of a section, drawn from its geometry.

Everything is drawn as two planes of stain concentration, which `staining.py` turns into colours
by the Beer-Lambert law; bare glass, lumens and fat are where both are near zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, special
from scipy.spatial import cKDTree

from spotscope.data.simulate.fields import jittered_lattice, smooth_noise, tiled, upsample
from spotscope.data.simulate.nuclei import Nuclei, NucleusBank
from spotscope.data.simulate.settings import ADIPOSE, INVASIVE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.data.simulate.geometry import SectionGeometry

_TILE = 1024

# What a pixel shows; nuclei are sown by it.
GLASS, STROMA, NEST, DUCT, LUMEN, NECROSIS, ACINUS, FAT, IMMUNE_BED = range(9)

# Ground substance of each region, in the order of SUBTYPES: eosin, strength of the fibres,
# haematoxylin, and how often fibres part and let the glass through.
_EOSIN = np.array([0.40, 0.48, 0.42, 0.62, 0.26, 0.45])
_FIBRE = np.array([0.55, 0.65, 0.60, 0.90, 0.25, 0.60])
_HAEMATOXYLIN = np.array([0.09, 0.05, 0.05, 0.03, 0.12, 0.03])
_CLEFT = np.array([0.5, 0.6, 0.5, 1.0, 0.2, 0.6])

# Probability that a candidate place on the cell type's lattice holds a nucleus, by label.
_SOWN = {
    "tumour": (11.0, {NEST: 0.92}),
    "in situ": (9.6, {DUCT: 0.95}),
    "fibroblast": (17.0, {STROMA: 0.50, IMMUNE_BED: 0.15}),
    "lymphocyte": (7.2, {IMMUNE_BED: 0.80, STROMA: 0.012, NEST: 0.01, FAT: 0.0}),
    "debris": (6.0, {NECROSIS: 0.45}),
}


class Textures:
    """Periodic textures that all sections of a study share."""

    def __init__(self, rng: np.random.Generator, mpp_um: float) -> None:
        shape = (_TILE, _TILE)
        um = 1 / mpp_um
        self.grain = smooth_noise(rng, shape, 1.1 * um, wrap=True)
        self.cloud = smooth_noise(rng, shape, 7 * um, wrap=True)
        self.nests = smooth_noise(rng, shape, 15 * um, wrap=True)
        fine = rng.standard_normal(shape, dtype=np.float32)
        fine = ndimage.gaussian_filter(fine, (1.0, 22), mode="wrap")
        coarse = rng.standard_normal(shape, dtype=np.float32)
        coarse = ndimage.gaussian_filter(coarse, (3.5, 60), mode="wrap")
        self.fibres = fine / fine.std() + 0.9 * coarse / coarse.std()
        self.fibres /= self.fibres.std()


@dataclass
class Drawing:
    """A section's stains and what was drawn.

    Attributes
    ----------
    haematoxylin, eosin
        (rows, cols) concentrations.
    label
        (rows, cols) what each pixel shows.
    nuclei
        All nuclei, by type.
    """

    haematoxylin: NDArray[np.float32]
    eosin: NDArray[np.float32]
    label: NDArray[np.uint8]
    nuclei: list[Nuclei]


class SectionPainter:
    """Draws one section, from the ground up; `draw` is the order."""

    def __init__(
        self,
        rng: np.random.Generator,
        geometry: SectionGeometry,
        textures: Textures,
        bank: NucleusBank,
    ) -> None:
        self._rng = rng
        self._geometry = geometry
        self._textures = textures
        self._bank = bank
        self._um = 1 / geometry.mpp_um  # pixels per micrometre
        self._shape = geometry.shape_px
        self._map_shape, self._places = geometry.nodes()
        self._shares = geometry.patient.shares(self._places)
        self._rings: dict[str, list[NDArray]] = {"luminal": [], "myoepithelial": [], "in situ": []}

    def draw(self) -> Drawing:
        """Draw the ground, the structures on it, and the nuclei."""
        self._ground()
        self._tumour_nests()
        self._fat()
        for centre in self._geometry.to_section(self._geometry.patient.ducts):
            self._duct(centre)
        for centre in self._geometry.to_section(self._geometry.patient.acini):
            self._acinus(centre)
        self._edge()
        nuclei = self._nuclei()
        return Drawing(self._haematoxylin, self._eosin, self._label, nuclei)

    # ground -------------------------------------------------------------------------------

    def _map(self, values: NDArray) -> NDArray[np.float32]:
        return upsample(values.reshape(self._map_shape), self._geometry.step_px, self._shape)

    def _tile(self, tile: NDArray) -> NDArray[np.float32]:
        return tiled(self._rng, tile, self._shape)

    def _ground(self) -> None:
        patient = self._geometry.patient
        self._field = self._map(patient.field(self._places))
        self._cells = patient.cellularity(self._places)
        fibre_place = patient.fibre_coordinates(self._places)
        across = self._map(fibre_place[:, 0] * self._um)
        along = self._map(fibre_place[:, 1] * self._um)
        slope = np.gradient(fibre_place[:, 0].reshape(self._map_shape))
        self._fibre_angle = np.arctan2(slope[0], -slope[1])  # along the lines of equal `across`
        grain = self._tile(self._textures.grain)
        across += 1.2 * grain
        fibres = self._textures.fibres[
            across.astype(np.int32) % _TILE, along.astype(np.int32) % _TILE
        ]
        part = np.clip(fibres - 1.35, 0, None) * self._map(self._shares @ _CLEFT)
        rise = self._map(self._shares @ _FIBRE) * 0.3
        eosin = self._map(self._shares @ _EOSIN) * (1 - rise * fibres)
        self._grain = grain
        self._eosin = eosin * np.exp(-2.2 * part) * (1 + 0.08 * grain)
        self._haematoxylin = self._map(self._shares @ _HAEMATOXYLIN) * (1 + 0.35 * grain)
        self._label = self._regions()

    def _regions(self) -> NDArray[np.uint8]:
        """Label the regions at half resolution, their borders interlocked by noise."""
        half = tuple(-(-n // 2) for n in self._shape)
        step = self._geometry.step_px // 2
        log_share = np.log(self._shares + 1e-6)
        best = np.full(half, -np.inf, np.float32)
        kind = np.zeros(half, np.uint8)
        for k in range(log_share.shape[1]):
            score = upsample(log_share[:, k].reshape(self._map_shape), step, half)
            score += 0.5 * tiled(self._rng, self._textures.nests, half)
            better = score > best
            best[better] = score[better]
            kind[better] = k
        self._kind_half = kind
        ground = np.array([STROMA] * 4 + [IMMUNE_BED, STROMA], np.uint8)
        return self._full(ground[kind])

    def _full(self, half: NDArray) -> NDArray:
        return half.repeat(2, axis=0).repeat(2, axis=1)[: self._shape[0], : self._shape[1]]

    def _tumour_nests(self) -> None:
        invasive = self._full(self._kind_half == INVASIVE)
        level = self._tile(self._textures.nests) + 0.25 * self._tile(self._textures.cloud)
        level += self._map(0.55 * self._cells)
        nest = invasive & (level > -0.15)
        self._label[nest] = NEST
        self._cytoplasm(nest, 0.40, 0.24)

    def _cytoplasm(self, where: NDArray, eosin: float, haematoxylin: float) -> None:
        cloud = self._tile(self._textures.cloud)[where]
        grain = self._grain[where]
        self._eosin[where] = eosin * (1 + 0.14 * cloud + 0.16 * grain)
        self._haematoxylin[where] = haematoxylin * (1 - 0.12 * cloud + 0.25 * grain)

    def _fat(self) -> None:
        """White vacuoles: the cells of a Voronoi diagram, shrunk and rounded, with thin rims."""
        fat = self._kind_half == ADIPOSE
        place = np.argwhere(fat) * 2.0
        if not len(place):
            return
        centres = self._geometry.to_section(self._geometry.patient.fat_cells)
        wobble = (
            3
            * self._um
            * np.stack(
                [tiled(self._rng, self._textures.cloud, fat.shape)[fat] for _ in range(2)], axis=1
            )
        )
        tree = cKDTree(centres)
        far, who = tree.query(place + wobble, k=3, workers=1)
        wall = np.full(len(place), np.inf)
        for other in (1, 2):
            gap = np.linalg.norm(centres[who[:, 0]] - centres[who[:, other]], axis=1)
            to_wall = (far[:, other] ** 2 - far[:, 0] ** 2) / (2 * np.maximum(gap, 1e-6))
            # a soft minimum of the distances to both walls rounds the corners
            wall = np.where(np.isinf(wall), to_wall, _soft_min(wall, to_wall, 5 * self._um))
        depth = np.full(fat.shape, -20 * self._um, np.float32)
        depth[fat] = wall
        inside = upsample(depth, 2, self._shape)
        white = special.expit((inside - 1.6 * self._um) / (0.7 * self._um))
        white = white * self._full(fat)
        self._eosin *= 1 - 0.97 * white
        self._haematoxylin *= 1 - 0.97 * white
        self._label[white > 0.5] = FAT
        at = np.flatnonzero((wall < 2.2 * self._um) & (wall > 0.8 * self._um))
        n = int(0.75 * len(np.unique(who[:, 0])))
        at = self._rng.choice(at, min(n, len(at)), replace=False)
        side = place[at] - centres[who[at, 1]]
        side = side / np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-6)
        inner = centres[who[at, 0]] - centres[who[at, 1]]
        angle = np.arctan2(inner[:, 1], inner[:, 0]) + np.pi / 2
        self._fat_nuclei = Nuclei("fat", place[at], angle)

    # structures ----------------------------------------------------------------------------

    def _window(
        self, centre: NDArray, radius_px: float, raggedness: float
    ) -> tuple[tuple[slice, slice], NDArray, NDArray] | None:
        """Window around a round structure: slices, distance inside its wall (px), angle."""
        reach = int(radius_px * 1.5) + 3
        low = np.maximum(np.rint(centre).astype(int) - reach, 0)
        high = np.minimum(np.rint(centre).astype(int) + reach + 1, self._shape)
        if np.any(high - low < 4):
            return None
        rows, cols = np.ogrid[low[0] : high[0], low[1] : high[1]]
        down, right = rows - centre[0], cols - centre[1]
        angle = np.arctan2(right, down)
        wall = np.full(angle.shape, radius_px)
        for k in (2, 3, 4, 5):
            height = self._rng.normal(0, raggedness / np.sqrt(k)) * radius_px
            wall += height * np.cos(k * angle + self._rng.uniform(0, 6.3))
        window = (slice(low[0], high[0]), slice(low[1], high[1]))
        return window, wall - np.hypot(down, right), angle

    def _fill(
        self,
        window: tuple[slice, slice],
        where: NDArray,
        label: int,
        eosin: float,
        haematoxylin: float,
        rough: float = 0.18,
    ) -> None:
        grain = self._grain[window]
        self._eosin[window][where] = (eosin * (1 + rough * grain))[where]
        self._haematoxylin[window][where] = (haematoxylin * (1 + 1.4 * rough * grain))[where]
        self._label[window][where] = label

    def _duct(self, centre: NDArray) -> None:
        radius = self._rng.uniform(46, 78) * self._um
        shape = self._window(centre, radius, 0.10)
        if shape is None:
            return
        window, inside, _ = shape
        um = self._um
        outside = np.clip(-inside / um, 0, None)
        self._eosin[window] += np.where(inside < 0, 0.22 * np.exp(-outside / 5), 0)
        self._fill(window, inside > 0, DUCT, 0.42, 0.26)
        self._eosin[window] += 0.3 * np.exp(-((inside / um) ** 2) / 1.5)
        self._ring("myoepithelial", window, inside, 1.5 * um, 15 * um, tangent=True)
        style = self._rng.choice(["solid", "cribriform", "comedo"], p=[0.25, 0.4, 0.35])
        if style == "comedo":
            depth = inside - 0.42 * radius
            self._fill(window, depth > 0, LUMEN, 0.06, 0.02)
            self._fill(window, depth > 4 * um, NECROSIS, 0.62, 0.16, rough=0.35)
        elif style == "cribriform":
            for _ in range(int(self._rng.integers(4, 9))):
                away = self._rng.uniform(0.15, 0.62) * radius
                turn = self._rng.uniform(0, 2 * np.pi)
                hole = centre + away * np.array([np.cos(turn), np.sin(turn)])
                self._lumen(hole, self._rng.uniform(7, 13) * um)
        self._ring("in situ", window, inside, 6.5 * um, 8.5 * um, tangent=False)

    def _lumen(self, centre: NDArray, radius: float) -> None:
        shape = self._window(centre, radius, 0.12)
        if shape is not None:
            window, inside, _ = shape
            self._fill(window, inside > 0, LUMEN, 0.05, 0.01)
            self._eosin[window] += 0.12 * np.exp(-((inside / self._um) ** 2) / 1.5)

    def _acinus(self, centre: NDArray) -> None:
        um = self._um
        radius = self._rng.uniform(14.5, 21) * um
        shape = self._window(centre, radius, 0.09)
        if shape is None:
            return
        window, inside, _ = shape
        self._fill(window, inside > 0, ACINUS, 0.38, 0.2)
        self._eosin[window] += 0.26 * np.exp(-((inside / um) ** 2) / 1.5)
        secreted = 0.28 if self._rng.random() < 0.3 else 0.04
        self._fill(window, inside > 0.62 * radius, LUMEN, secreted, 0.01, rough=0.1)
        self._ring("luminal", window, inside, 6.5 * um, 8.2 * um, tangent=False)
        self._ring("myoepithelial", window, inside, 1.2 * um, 12 * um, tangent=True)

    def _ring(
        self,
        kind: str,
        window: tuple[slice, slice],
        inside: NDArray,
        depth: float,
        pitch: float,
        *,
        tangent: bool,
    ) -> None:
        """Keep places for nuclei at `depth` within a structure's wall, `pitch` apart."""
        line = np.argwhere(np.abs(inside - depth) < 0.6)
        if len(line) < 3:
            return
        place = line + (window[0].start, window[1].start)
        middle = place.mean(axis=0)
        spoke = place - middle
        turn = np.arctan2(spoke[:, 1], spoke[:, 0])
        n = max(3, int(2 * np.pi * np.hypot(*spoke.T).mean() / pitch))
        order = np.argsort(turn)
        step = (np.arange(n) + self._rng.uniform(-0.22, 0.22, n)) / n * len(order)
        chosen = order[step.astype(int) % len(order)]
        angle = turn[chosen] + (np.pi / 2 if tangent else 0)
        self._rings[kind].append(np.column_stack([place[chosen], angle]))

    def _edge(self) -> None:
        """Cut the tissue out of the glass, with a slightly darker, ragged rim."""
        depth = self._map(self._geometry.patient.depth_um(self._places))
        depth += 2.0 * self._tile(self._textures.cloud)
        tissue = special.expit(depth / 1.2)
        self._eosin *= tissue * (1 + 0.35 * np.exp(-np.abs(depth) / 6))
        self._haematoxylin *= tissue
        self._label[depth < 1] = GLASS
        self.tissue_depth_um = depth

    # nuclei ----------------------------------------------------------------------------------

    def _nuclei(self) -> list[Nuclei]:
        plane = np.zeros(self._shape, np.float32)
        drawn = []
        for nuclei in self._sown() + self._on_rings():
            place = np.rint(nuclei.centres_px).astype(int)
            inside = np.all((place >= 0) & (place < self._shape), axis=1)
            inside[inside] &= self._label[tuple(place[inside].T)] != GLASS
            kept = Nuclei(nuclei.kind, nuclei.centres_px[inside], nuclei.angles[inside])
            larger = 3.0 * self._field[tuple(place[inside].T)]
            self._bank.stamp(self._rng, plane, kept, larger)
            drawn.append(kept)
        self._eosin *= 1 - 0.45 * np.clip(plane, 0, 1)
        self._eosin *= 1 + 0.12 * self._field
        self._haematoxylin += plane
        return drawn

    def _sown(self) -> list[Nuclei]:
        more = self._map(np.clip(1 + 0.3 * self._cells, 0.3, 1.3))
        result = []
        for kind, (pitch_um, chances) in _SOWN.items():
            points = jittered_lattice(self._rng, self._shape, pitch_um * self._um, 0.28)
            place = np.rint(points).astype(int)
            inside = np.all((place >= 0) & (place < self._shape), axis=1)
            points, place = points[inside], tuple(place[inside].T)
            chance = np.zeros(9)
            chance[list(chances)] = list(chances.values())
            accepted = self._rng.random(len(points)) < chance[self._label[place]] * more[place]
            points = points[accepted]
            angle = self._rng.uniform(0, np.pi, len(points))
            if kind == "fibroblast":
                node = np.rint(points / self._geometry.step_px).astype(int)
                angle = self._fibre_angle[tuple(node.T)] + self._rng.normal(0, 0.2, len(points))
            result.append(Nuclei(kind, points, angle))
        return result

    def _on_rings(self) -> list[Nuclei]:
        result = [self._fat_nuclei] if hasattr(self, "_fat_nuclei") else []
        for kind, rings in self._rings.items():
            if rings:
                rows = np.concatenate(rings)
                result.append(Nuclei(kind, rows[:, :2], rows[:, 2]))
        return result


def _soft_min(a: NDArray, b: NDArray, width: float) -> NDArray:
    """Minimum of `a` and `b`, rounded where they are within `width`."""
    near = np.clip(width - np.abs(a - b), 0, None) / width
    return np.minimum(a, b) - near**2 * width / 4
