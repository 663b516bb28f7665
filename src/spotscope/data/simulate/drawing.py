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

from spotscope.data.simulate.fields import jittered_lattice, periodic_noise, tiled, upsample
from spotscope.data.simulate.nuclei import Nuclei, NucleusBank
from spotscope.data.simulate.settings import ADIPOSE, IMMUNE, INVASIVE
from spotscope.data.simulate.structures import (
    DUCT,
    FAT,
    GLASS,
    IMMUNE_BED,
    NECROSIS,
    NEST,
    STROMA,
    Planes,
    StructurePainter,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from spotscope.data.simulate.geometry import SectionGeometry

_TILE = 1024
_ACROSS = 2  # texels of the fibre texture per µm across the fibres

# Ground substance of each region, in the order of SUBTYPES: eosin, relative strength of the
# fibres, haematoxylin, and how often fibres part and let the glass through.
_EOSIN = np.array([0.40, 0.50, 0.36, 0.60, 0.26, 0.45])
_FIBRE = np.array([0.60, 0.70, 0.55, 0.90, 0.30, 0.60])
_HAEMATOXYLIN = np.array([0.08, 0.05, 0.06, 0.03, 0.12, 0.03])
_CLEFT = np.array([0.4, 0.5, 0.4, 1.0, 0.2, 0.5])

# Pitch (µm) of each cell type's lattice, and the probability that a place of it, by what the
# pixel shows, holds a nucleus.
_SOWN = {
    "tumour": (11.8, {NEST: 0.93}),
    "in situ": (9.9, {DUCT: 0.95}),
    "fibroblast": (17.0, {STROMA: 0.50, IMMUNE_BED: 0.15}),
    "histiocyte": (15.0, {IMMUNE_BED: 0.30, STROMA: 0.05}),
    "lymphocyte": (7.2, {IMMUNE_BED: 0.86, STROMA: 0.008, NEST: 0.006}),
    "debris": (9.0, {NECROSIS: 0.45, NEST: 0.006}),
}


class Textures:
    """Periodic textures that all sections of a study share."""

    def __init__(self, rng: np.random.Generator, mpp_um: float) -> None:
        um = 1 / mpp_um

        def noise(scale_um: float) -> NDArray[np.float32]:
            return periodic_noise(rng, _TILE, (scale_um * um, scale_um * um))

        self.grain = noise(1.1)
        self.speck = noise(2.0)
        self.cloud = noise(7.0)
        self.nests = noise(15.0)
        self.wide = noise(45.0)
        # Fibres: rows across (2 texels a µm), columns along (1 texel a µm).
        fibres = periodic_noise(rng, _TILE, (1.6, 24)) + 0.9 * periodic_noise(rng, _TILE, (6, 60))
        self.fibres = fibres / fibres.std()


@dataclass(frozen=True)
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
        patient = geometry.patient
        self._shares = patient.shares(self._places)
        self._field = self._map(patient.field(self._places))
        self._cells = self._map(patient.cellularity(self._places))
        self._nuclei: list[Nuclei] = []

    def draw(self, check: Callable[[], None]) -> Drawing:
        """Draw the ground, the structures on it, and the nuclei; `check` may stop it between."""
        planes = self._ground()
        check()
        self._tumour_nests(planes)
        self._fat(planes)
        check()
        painter = StructurePainter(self._rng, planes)
        patient = self._geometry.patient
        for draw, (centres, radii) in (
            (painter.vessel, patient.vessels),
            (painter.duct, patient.ducts),
            (painter.acinus, patient.acini),
        ):
            for centre, radius in zip(self._geometry.to_section(centres), radii, strict=True):
                draw(centre, float(radius))
        check()
        self._edge(planes)
        self._sow(planes)
        check()
        for kind, rings in planes.rings.items():
            rows = np.concatenate(rings)
            self._nuclei.append(Nuclei(kind, rows[:, :2], rows[:, 2]))
        drawn = self._stamp(planes)
        return Drawing(planes.haematoxylin, planes.eosin, planes.label, drawn)

    # ground -------------------------------------------------------------------------------

    def _map(self, values: NDArray) -> NDArray[np.float32]:
        return upsample(values.reshape(self._map_shape), self._geometry.step_px, self._shape)

    def _tile(self, tile: NDArray) -> NDArray[np.float32]:
        return tiled(self._rng, tile, self._shape)

    def _ground(self) -> Planes:
        fibres = self._fibres()
        grain = self._tile(self._textures.grain)
        wide = self._tile(self._textures.wide)
        part = np.clip(fibres + 0.5 * wide - 1.75, 0, None) * self._map(self._shares @ _CLEFT)
        rise = self._map(self._shares @ _FIBRE) * 0.27
        eosin = self._map(self._shares @ _EOSIN) * (1 - rise * fibres) * (1 + 0.09 * wide)
        haematoxylin = self._map(self._shares @ _HAEMATOXYLIN) * (1 + 0.35 * grain - 0.3 * wide)
        return Planes(
            haematoxylin=np.maximum(haematoxylin, 0),
            eosin=eosin * np.exp(-2.4 * part) * (1 + 0.07 * grain),
            label=self._regions(),
            grain=grain,
            speck=self._tile(self._textures.speck),
            um=self._um,
        )

    def _fibres(self) -> NDArray[np.float32]:
        """Wavy fibres: a stretched texture seen through the patient's fibre coordinates."""
        place = self._geometry.patient.fibre_coordinates(self._places)
        slope = np.gradient(place[:, 0].reshape(self._map_shape))
        self._fibre_angle = np.arctan2(slope[0], -slope[1])  # along the lines of equal `across`
        crimp = 3.0 * self._tile(self._textures.nests) + 0.7 * self._tile(self._textures.cloud)
        across = (self._map(place[:, 0]) + crimp) * _ACROSS
        along = self._map(place[:, 1]).astype(np.int32) % _TILE
        low = np.floor(across)
        share = across - low
        row = low.astype(np.int32) % _TILE
        texture = self._textures.fibres
        return (1 - share) * texture[row, along] + share * texture[(row + 1) % _TILE, along]

    def _regions(self) -> NDArray[np.uint8]:
        """Label the regions at half resolution, their borders interlocked by noise."""
        half = (-(-self._shape[0] // 2), -(-self._shape[1] // 2))
        step = self._geometry.step_px // 2
        log_share = np.log(self._shares + 1e-6)
        best = np.full(half, -np.inf, np.float32)
        kind = np.zeros(half, np.uint8)
        for k in range(log_share.shape[1]):
            score = upsample(log_share[:, k].reshape(self._map_shape), step, half)
            score += 0.7 * tiled(self._rng, self._textures.nests, half)
            better = score > best
            best[better] = score[better]
            kind[better] = k
        self._kind_half = kind
        ground = np.array([STROMA, STROMA, STROMA, STROMA, IMMUNE_BED, STROMA], np.uint8)
        return self._full(ground[kind])

    def _full(self, half: NDArray) -> NDArray:
        return half.repeat(2, axis=0).repeat(2, axis=1)[: self._shape[0], : self._shape[1]]

    def _tumour_nests(self, planes: Planes) -> None:
        """Nests and cords of tumour cells, here and there shrunk away from the stroma."""
        invasive = self._full(self._kind_half == INVASIVE)
        level = self._tile(self._textures.nests) + 0.25 * self._tile(self._textures.cloud)
        level += 0.55 * self._cells
        nest = invasive & (level > -0.1)
        shrunk = 0.4 * np.clip(self._tile(self._textures.wide) - 0.5, 0, 0.8)
        gap = np.clip((level + 0.1 + shrunk) / 0.1, 0, 1) * (invasive & ~nest)
        planes.eosin *= 1 - 0.85 * gap
        planes.haematoxylin *= 1 - 0.85 * gap
        cloud = self._tile(self._textures.cloud)[nest]
        grain = planes.grain[nest]
        planes.label[nest] = NEST
        planes.eosin[nest] = 0.42 * (1 + 0.14 * cloud + 0.14 * grain)
        planes.haematoxylin[nest] = 0.19 * (1 - 0.12 * cloud + 0.22 * grain)

    def _fat(self, planes: Planes) -> None:
        """White vacuoles: the cells of a Voronoi diagram, shrunk and rounded, with thin rims."""
        fat = self._kind_half == ADIPOSE
        place = np.argwhere(fat) * 2.0
        if not len(place):
            return
        centres = self._geometry.to_section(self._geometry.patient.fat_cells)
        cloud = self._textures.cloud
        shift = [tiled(self._rng, cloud, fat.shape)[fat] for _ in range(2)]
        far, who = cKDTree(centres).query(place + 3 * self._um * np.stack(shift, axis=1), k=3)
        to_wall = []
        for other in (1, 2):
            gap = np.linalg.norm(centres[who[:, 0]] - centres[who[:, other]], axis=1)
            to_wall.append((far[:, other] ** 2 - far[:, 0] ** 2) / (2 * np.maximum(gap, 1e-6)))
        # a soft minimum of the distances to both walls rounds the corners
        near = np.clip(1 - np.abs(to_wall[0] - to_wall[1]) / (6 * self._um), 0, None)
        wall = np.minimum(*to_wall) - near**2 * 1.5 * self._um
        depth = np.full(fat.shape, -20 * self._um, np.float32)
        depth[fat] = wall
        inside = upsample(depth, 2, self._shape)
        white = special.expit((inside - 1.5 * self._um) / (0.6 * self._um))
        smooth = ndimage.gaussian_filter(fat.astype(np.float32), 2.0 * self._um)
        white *= np.clip((upsample(smooth, 2, self._shape) - 0.55) / 0.2, 0, 1)
        planes.eosin *= 1 - 0.97 * white
        planes.haematoxylin *= 1 - 0.97 * white
        planes.label[white > 0.5] = FAT
        rim = np.flatnonzero((wall < 2.2 * self._um) & (wall > 0.8 * self._um))
        n = min(int(0.75 * len(np.unique(who[:, 0]))), len(rim))
        chosen = self._rng.choice(rim, n, replace=False)
        across = centres[who[chosen, 0]] - centres[who[chosen, 1]]
        angle = np.arctan2(across[:, 1], across[:, 0]) + np.pi / 2
        self._nuclei.append(Nuclei("fat", place[chosen], angle))

    def _edge(self, planes: Planes) -> None:
        """Cut the tissue out of the glass, with a slightly darker, ragged rim."""
        depth = self._map(self._geometry.patient.depth_um(self._places))
        depth += 3.0 * self._tile(self._textures.cloud) + 1.2 * planes.speck
        tissue = special.expit(depth / 1.2)
        planes.eosin *= tissue * (1 + 0.35 * np.exp(-np.abs(depth) / 6))
        planes.haematoxylin *= tissue
        planes.label[depth < 1] = GLASS

    # nuclei ----------------------------------------------------------------------------------

    def _sow(self, planes: Planes) -> None:
        """Put nuclei on jittered lattices, each type where its tissue is."""
        spread = 45 * self._um / self._geometry.step_px
        immune = self._shares[:, IMMUNE].reshape(self._map_shape)
        strayed = ndimage.gaussian_filter(immune, spread)
        for kind, (pitch_um, chances) in _SOWN.items():
            points = jittered_lattice(self._rng, self._shape, pitch_um * self._um, 0.28)
            points = points[self._on_image(points)]
            rows, cols = np.rint(points).astype(int).T
            by_label = np.zeros(9)
            by_label[list(chances)] = list(chances.values())
            label = planes.label[rows, cols]
            chance = by_label[label] * np.clip(1 + 0.35 * self._cells[rows, cols], 0.3, 1.35)
            node = np.rint(points / self._geometry.step_px).astype(int)
            if kind == "lymphocyte":
                near = strayed[tuple(node.T)]
                chance += 0.3 * near * (label == STROMA) + 0.08 * near * (label == NEST)
                strand = self._textures.nests[rows % _TILE, cols % _TILE]
                chance *= np.where(label == IMMUNE_BED, special.expit(4 * (strand + 1.0)), 1)
            angle = self._rng.uniform(0, np.pi, len(points))
            if kind == "fibroblast":
                angle = self._fibre_angle[tuple(node.T)] + self._rng.normal(0, 0.2, len(points))
            held = self._rng.random(len(points)) < chance
            self._nuclei.append(Nuclei(kind, points[held], angle[held]))

    def _stamp(self, planes: Planes) -> list[Nuclei]:
        """Draw all nuclei that lie on tissue, and return those."""
        plane = np.zeros(self._shape, np.float32)
        drawn = []
        for nuclei in self._nuclei:
            on_image = self._on_image(nuclei.centres_px)
            rows, cols = np.rint(nuclei.centres_px).astype(int).clip(0).T
            rows, cols = np.minimum(rows, self._shape[0] - 1), np.minimum(cols, self._shape[1] - 1)
            kept = on_image & (planes.label[rows, cols] != GLASS)
            inside = Nuclei(nuclei.kind, nuclei.centres_px[kept], nuclei.angles[kept])
            larger = 4.0 * self._field[rows[kept], cols[kept]]
            self._bank.stamp(self._rng, plane, inside, larger)
            drawn.append(inside)
        planes.eosin *= 1 - 0.45 * np.clip(plane, 0, 1)
        planes.eosin *= (1 + 0.16 * self._field) * (1 + (0.08 + 0.05 * self._field) * planes.speck)
        planes.haematoxylin += plane
        return drawn

    def _on_image(self, points: NDArray) -> NDArray[np.bool_]:
        place = np.rint(points)
        return np.all((place >= 0) & (place < self._shape), axis=1)
