"""Where the tissue, its regions and their ducts, acini and fat cells lie.

A patient's tissue is laid out once in micrometres; each section sees it through its own shift,
turn and smooth deformation, as adjacent cuts of one block do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import ConvexHull, cKDTree

from spotscope.data.simulate.fields import (
    jittered_lattice,
    node_points,
    node_shape,
    sample,
    smooth_noise,
)
from spotscope.data.simulate.settings import (
    ADIPOSE,
    CONNECTIVE,
    GLANDS,
    IMMUNE,
    IN_SITU,
    INVASIVE,
    SUBTYPES,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.data.simulate.settings import StudySettings

_NODE_UM = 10.0  # pitch of the patient's own maps
_EDGE_UM = 18.0  # half the width over which one region turns into the next
_SEED_UM = 440.0  # usual distance between the centres of regions


class PatientTissue:
    """One patient's tissue, in micrometres from the top left corner of an undeformed section."""

    def __init__(self, rng: np.random.Generator, settings: StudySettings) -> None:
        self.size_um = np.array(settings.shape_px) * settings.mpp_um
        self._extent = (float(self.size_um[0]), float(self.size_um[1]))
        rows, cols = (int(n // _NODE_UM) + 2 for n in self.size_um)
        shape = (rows, cols)

        def noise(scale_um: float) -> NDArray[np.float32]:
            return smooth_noise(rng, shape, scale_um / _NODE_UM)

        self._warp = [55 * noise(90) + 14 * noise(25) for _ in range(2)]
        self._swirl = [130 * noise(220) + 16 * noise(50) for _ in range(2)]
        self._field = noise(230)
        self._cells = noise(110)
        self._edge = 7 * noise(18) + 16 * noise(70)
        self._fibre_turn = rng.uniform(0, np.pi)
        self._outline = _outline(rng, self.size_um)
        self._seeds, self._kinds, self._reach = self._regions(rng)
        self.ducts = self._structures(rng, 108.0, 0.97, {IN_SITU: 0.45}, (24.0, 85.0))
        self.acini = self._structures(rng, 39.0, 0.86, {GLANDS: 0.6}, (10.0, 21.0))
        grown = dict.fromkeys((INVASIVE, IMMUNE, CONNECTIVE, GLANDS), 0.6)
        self.vessels = self._structures(rng, 190.0, 0.6, grown, (5.0, 15.0))
        self.fat_cells = jittered_lattice(rng, self._extent, 64.0, 0.33)

    def depth_um(self, points: NDArray) -> NDArray[np.float64]:
        """How far inside the tissue each point (n, 2) lies; negative on bare glass."""
        warped = points + 0.5 * self._shift(self._warp, points)
        normals, offsets = self._outline[:, :2], self._outline[:, 2]
        away = normals @ warped.T + offsets[:, None]
        return -away.max(axis=0) + sample(self._edge, points, _NODE_UM)

    def shares(self, points: NDArray) -> NDArray[np.float64]:
        """Share (n, 6) of each subtype at each point: a soft, warped Voronoi of the regions."""
        warped = points + self._shift(self._warp, points)
        apart = np.linalg.norm(warped[:, None] - self._seeds, axis=-1) - self._reach
        nearest = np.stack(
            [apart[:, self._kinds == k].min(axis=1) for k in range(len(SUBTYPES))], axis=1
        )
        score = -nearest / _EDGE_UM
        share = np.exp(score - score.max(axis=1, keepdims=True))
        return share / share.sum(axis=1, keepdims=True)

    def field(self, points: NDArray) -> NDArray[np.float64]:
        """The smooth field that shifts genes, and a little the eosin and the nuclei's size."""
        return np.tanh(sample(self._field, points, _NODE_UM) / 1.5) * 1.5

    def cellularity(self, points: NDArray) -> NDArray[np.float64]:
        """Smooth variation of the nuclear density within regions, about -1 to 1."""
        return np.tanh(sample(self._cells, points, _NODE_UM))

    def fibre_coordinates(self, points: NDArray) -> NDArray[np.float64]:
        """Coordinates (n, 2) across and along the collagen fibres, µm."""
        turn = self._fibre_turn
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        return points @ rotation.T + self._shift(self._swirl, points)

    def _shift(self, maps: list[NDArray], points: NDArray) -> NDArray[np.float64]:
        return np.stack([sample(m, points, _NODE_UM) for m in maps], axis=1)

    def _regions(self, rng: np.random.Generator) -> tuple[NDArray, NDArray, NDArray]:
        area = float(self.size_um.prod())
        n = max(12, round(0.72 * area / _SEED_UM**2))
        candidates = rng.uniform(0.08, 0.92, (60 * n, 2)) * self.size_um
        candidates = candidates[self.depth_um(candidates) > 40]
        seeds = [candidates[0]]
        for _ in range(n - 1):  # farthest of a few, which spreads the centres without a lattice
            few = candidates[rng.integers(0, len(candidates), 12)]
            gap = np.linalg.norm(few[:, None] - np.array(seeds), axis=-1).min(axis=1)
            seeds.append(few[gap.argmax()])
        found = np.array(seeds)
        kinds = _assign(rng, found, self.depth_um(found))
        spread = np.sqrt(area / n)
        return found, kinds, rng.uniform(-0.1, 0.15, n) * spread

    def _structures(
        self,
        rng: np.random.Generator,
        pitch_um: float,
        kept: float,
        least_share: dict[int, float],
        radius_um: tuple[float, float],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centres (n, 2) and radii (n,) of round structures that do not run into each other."""
        points = jittered_lattice(rng, self._extent, pitch_um, 0.3)
        points = points[rng.random(len(points)) < kept]
        free = cKDTree(points).query(points, k=2)[0][:, 1]
        low, high = radius_um
        radius = np.minimum(free * rng.uniform(0.38, 0.52, len(points)), high)
        radius = np.maximum(radius * rng.uniform(0.6, 1, len(points)) ** 0.5, low)
        share = self.shares(points)
        inside = np.any([share[:, k] > least for k, least in least_share.items()], axis=0)
        inside &= self.depth_um(points) > 1.1 * radius
        return points[inside], radius[inside]


def _outline(rng: np.random.Generator, size_um: NDArray) -> NDArray[np.float64]:
    """Half-planes (k, 3) of a convex, straight-cut piece of tissue that nearly fills the image."""
    n = 9
    angles = (np.arange(n) + rng.uniform(-0.3, 0.3, n)) * 2 * np.pi / n
    reach = rng.uniform(0.82, 1.12, n)
    corners = np.stack([np.sin(angles), np.cos(angles)], axis=1) * reach[:, None]
    corners = np.clip(corners * 1.05, -0.9, 0.9) * size_um / 2 + size_um / 2
    return ConvexHull(corners).equations


def _assign(rng: np.random.Generator, seeds: NDArray, depth: NDArray) -> NDArray[np.int64]:
    """Give each region a subtype: fat outside and together, immune cells by the cancer."""
    n = len(seeds)
    kinds = np.full(n, -1)
    outer = np.argsort(depth)
    n_fat = max(1, round(0.13 * n))
    start = rng.integers(0, max(1, n // 3))
    anchor = seeds[outer[start]]  # fat keeps together
    near = outer[: n // 2][np.argsort(np.linalg.norm(seeds[outer[: n // 2]] - anchor, axis=1))]
    kinds[near[:n_fat]] = ADIPOSE
    free = np.flatnonzero(kinds < 0)
    first = free[depth[free].argmax()]
    near = free[np.argsort(np.linalg.norm(seeds[free] - seeds[first], axis=1))]
    n_invasive = max(1, round(0.26 * n))
    kinds[near[:n_invasive]] = INVASIVE
    free = np.flatnonzero(kinds < 0)
    mass = seeds[kinds == INVASIVE].mean(axis=0)
    near = free[np.argsort(np.linalg.norm(seeds[free] - mass, axis=1))]
    n_immune = max(1, round(0.12 * n))
    kinds[near[:n_immune]] = IMMUNE
    free = rng.permutation(np.flatnonzero(kinds < 0))
    quota = [IN_SITU] * max(1, round(0.16 * n)) + [GLANDS] * max(1, round(0.14 * n))
    quota = (quota + [CONNECTIVE] * n)[: len(free)]
    kinds[free] = quota
    return kinds


@dataclass(frozen=True)
class SectionGeometry:
    """One section's view of a patient's tissue.

    Attributes
    ----------
    patient
        The tissue.
    shape_px, mpp_um, step_px
        Image size, pixel size, and pitch of the nodes on which maps are kept.
    turn, shift_um, bend
        Rotation (radians), translation, and smooth displacement of two coarse maps, µm.
    """

    patient: PatientTissue
    shape_px: tuple[int, int]
    mpp_um: float
    step_px: int
    turn: float
    shift_um: NDArray[np.float64]
    bend: tuple[NDArray, NDArray]

    @classmethod
    def draw(
        cls, rng: np.random.Generator, patient: PatientTissue, settings: StudySettings
    ) -> SectionGeometry:
        """Draw how one section is turned, shifted and bent."""
        rows, cols = (int(n // _NODE_UM) + 2 for n in patient.size_um)
        bend = (
            12 * smooth_noise(rng, (rows, cols), 220 / _NODE_UM),
            12 * smooth_noise(rng, (rows, cols), 220 / _NODE_UM),
        )
        return cls(
            patient=patient,
            shape_px=settings.shape_px,
            mpp_um=settings.mpp_um,
            step_px=settings.map_step_px,
            turn=float(rng.normal(0, 0.03)),
            shift_um=rng.normal(0, 12, 2),
            bend=bend,
        )

    def to_patient(self, points_px: NDArray) -> NDArray[np.float64]:
        """Carry section pixels (n, 2) to the patient's micrometres."""
        points = np.asarray(points_px, dtype=np.float64) * self.mpp_um
        middle = self.patient.size_um / 2
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        turned = (points - middle) @ np.array([[cos, sin], [-sin, cos]]) + middle
        bend = np.stack([sample(m, points, _NODE_UM) for m in self.bend], axis=1)
        return turned + self.shift_um + bend

    def to_section(self, points_um: NDArray) -> NDArray[np.float64]:
        """Carry the patient's micrometres (n, 2) to section pixels, by fixed point."""
        points = np.asarray(points_um, dtype=np.float64) / self.mpp_um
        place = points.copy()
        for _ in range(8):
            place += points - self.to_patient(place) / self.mpp_um
        return place

    def nodes(self) -> tuple[tuple[int, int], NDArray[np.float64]]:
        """Shape of the section's maps, and the patient's position (n, 2) of each node."""
        shape = node_shape(self.shape_px, self.step_px)
        return shape, self.to_patient(node_points(shape, self.step_px))
