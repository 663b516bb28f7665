r"""What the simulated spots were drawn from, known at every place of the image.

With w_k(p) the share of subtype k, ρ(p) the nuclei per mm² and f(p) the smooth field, all
averaged over a spot centred on p, and z(p) = ln((ρ(p) + 500) / 3000), gene g of patient b has

    rate_g(p)  = Σ_k w_k(p) exp(B_gk) · exp(c_g z(p) + d_g f(p)) · exp(s_bg)
    share_g(p) = rate_g(p) / Σ_h rate_h(p)
    depth_b(p) = depth_b · ((ρ(p) + 500) / 3500)^0.6
    e ~ LogNormal(-σ²/2, σ)                                   capture of one spot, all genes
    count_g    = 0 with probability π_g, else NegBin(mean = e · depth · share_g, size = θ)
    π_g        = dropout · exp(-depth · share_g)

`Truth.expression` is the expectation of log1p(CP10k) under this model: what the best of all
predictors, which knows the place but not the draw, would predict.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spotscope.data.simulate.fields import sample
from spotscope.data.simulate.genes import GeneModel
from spotscope.data.simulate.settings import SUBTYPES
from spotscope.errors import SpotScopeError
from spotscope.files import write_json, written_beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

_LEAST_DENSITY = 500.0
_CHUNK = 2048
# Frullani: ln(1 + x) = ∫ (1 - e^{-xt}) e^{-t} dt / t; with t = e^u the trapezoid rule is
# accurate to 1e-4 for all x of interest.
_STEP = 0.5
_T = np.exp(np.arange(-16.0, 3.6, _STEP))
_T_WEIGHT = np.exp(-_T) * _STEP
_FORMAT = 1


@dataclass(frozen=True)
class Truth:
    """The noiseless truth of one section, as low-rank factors.

    Attributes
    ----------
    shares
        (6, rows, cols) share of each subtype, averaged over a spot, on nodes `step_px` apart.
    density
        (rows, cols) nuclei per mm², averaged over a spot.
    field
        (rows, cols) the smooth field, averaged over a spot.
    tissue
        (rows, cols) share of a spot that tissue covers; on bare glass the regions go on, so that
        maps have no edge, but nothing is there to be predicted.
    genes
        Known coefficients B, c, d.
    batch
        (G,) the patient's shift s of each gene, natural log.
    step_px
        Pitch of the nodes; node (i, j) stands on pixel (i, j) · step_px.
    depth, depth_sd, dispersion, dropout
        The count model of the section.
    """

    shares: NDArray[np.float32]
    density: NDArray[np.float32]
    field: NDArray[np.float32]
    tissue: NDArray[np.float32]
    genes: GeneModel
    batch: NDArray[np.float64]
    step_px: int
    depth: float
    depth_sd: float
    dispersion: float
    dropout: float

    def shares_at(self, centres_px: ArrayLike) -> NDArray[np.float64]:
        """Share (n, 6) of each subtype in a spot at each place (row, col)."""
        points = _places(centres_px)
        return np.stack([sample(m, points, self.step_px) for m in self.shares], axis=1)

    def subtype_at(self, centres_px: ArrayLike) -> NDArray[np.str_]:
        """Name (n,) of the subtype with the largest share at each place."""
        return np.array(SUBTYPES)[self.shares_at(centres_px).argmax(axis=1)]

    def density_at(self, centres_px: ArrayLike) -> NDArray[np.float64]:
        """Nuclei per mm² (n,) in a spot at each place."""
        return sample(self.density, _places(centres_px), self.step_px)

    def field_at(self, centres_px: ArrayLike) -> NDArray[np.float64]:
        """The smooth field (n,) at each place."""
        return sample(self.field, _places(centres_px), self.step_px)

    def on_tissue(self, centres_px: ArrayLike) -> NDArray[np.bool_]:
        """Whether (n,) tissue covers at least half of a spot at each place."""
        return sample(self.tissue, _places(centres_px), self.step_px) >= 0.5

    def mean_counts(self, centres_px: ArrayLike) -> NDArray[np.float64]:
        """Mean counts (n, G) of all genes before capture and dropout: depth · share."""
        density = self.density_at(centres_px)[:, None]
        score = np.log((density + _LEAST_DENSITY) / 3000)
        model = self.genes
        rate = self.shares_at(centres_px) @ np.exp(model.by_subtype).T
        field = self.field_at(centres_px)[:, None]
        rate *= np.exp(model.by_density * score + model.by_field * field + self.batch)
        depth = self.depth * ((density + _LEAST_DENSITY) / 3500) ** 0.6
        return depth * rate / rate.sum(axis=1, keepdims=True)

    def lost(self, mean: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability that a gene of that mean count drops out of a spot."""
        return self.dropout * np.exp(-mean)

    def columns(self, genes: Sequence[str] | None) -> NDArray[np.intp]:
        """Columns of the genes; all of them for None.

        Raises
        ------
        SpotScopeError
            When the study does not simulate one of them.
        """
        if genes is None:
            return np.arange(len(self.genes.names))
        place = {name: i for i, name in enumerate(self.genes.names)}
        absent = [g for g in genes if g not in place]
        if absent:
            raise SpotScopeError(
                f"The simulated study has no gene '{absent[0]}'; choose among its"
                f" {len(place)} genes."
            )
        return np.array([place[g] for g in genes], dtype=np.intp)

    def expression(
        self, centres_px: ArrayLike, genes: Sequence[str] | None = None
    ) -> NDArray[np.float32]:
        """Expected log1p(CP10k) (n, k) of the genes in a spot at each place (row, col).

        The library size is taken at its expectation given the spot's capture, which is
        integrated over; what remains is below the noise of 10,000 draws for all but the few
        genes that make up a tenth of a spot's counts.
        """
        chosen = self.columns(genes)
        points = _places(centres_px)
        result = np.empty((len(points), len(chosen)), np.float32)
        for start in range(0, len(points), _CHUNK):
            part = slice(start, start + _CHUNK)
            mean = self.mean_counts(points[part])
            lost = self.lost(mean)
            total = ((1 - lost) * mean).sum(axis=1, keepdims=True)
            result[part] = self._expected_log1p(mean[:, chosen], lost[:, chosen], total)
        return result

    def _expected_log1p(self, mean: NDArray, lost: NDArray, total: NDArray) -> NDArray[np.float32]:
        nodes, weights = np.polynomial.hermite_e.hermegauss(3)
        result = np.zeros(mean.shape, np.float32)
        size = np.float32(self.dispersion)
        for node, weight in zip(nodes, weights / weights.sum(), strict=True):
            capture = np.exp(node * self.depth_sd - self.depth_sd**2 / 2)
            per_count = 1e4 / (total * capture)
            mu = (capture * mean / self.dispersion).astype(np.float32)
            part = np.zeros(mean.shape, np.float32)
            for t, t_weight in zip(_T, _T_WEIGHT, strict=True):
                seen = -np.expm1(-per_count * t).astype(np.float32)
                part -= np.float32(t_weight) * np.expm1(-size * np.log1p(mu * seen))
            result += np.float32(weight) * (1 - lost.astype(np.float32)) * part
        return result

    def draw(self, rng: np.random.Generator, centres_px: ArrayLike) -> NDArray[np.int32]:
        """Draw the counts (n, G) of spots at the places."""
        mean = self.mean_counts(centres_px)
        kept = rng.random(mean.shape) >= self.lost(mean)
        capture = rng.lognormal(-(self.depth_sd**2) / 2, self.depth_sd, (len(mean), 1))
        gamma = rng.gamma(self.dispersion, capture * mean / self.dispersion)
        return (rng.poisson(gamma) * kept).astype(np.int32)

    def save(self, path: Path) -> None:
        """Write `path` (.npz) and, beside it, the names and settings as JSON."""
        path = Path(path)
        arrays = {n: getattr(self, n) for n in ("shares", "density", "field", "tissue", "batch")}
        arrays |= {n: getattr(self.genes, n) for n in ("by_subtype", "by_density", "by_field")}
        with written_beside(path) as beside, beside.open("wb") as file:
            np.savez_compressed(file, **arrays)
        write_json(
            path.with_suffix(".json"),
            {
                "format": _FORMAT,
                "subtypes": list(SUBTYPES),
                "genes": list(self.genes.names),
                "groups": list(self.genes.groups),
                **{n: getattr(self, n) for n in _SCALARS},
            },
        )

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Read what `save` wrote.

        Raises
        ------
        SpotScopeError
            When the files are absent or of a newer version.
        """
        path = Path(path)
        try:
            said = json.loads(path.with_suffix(".json").read_text())
            with np.load(path, allow_pickle=False) as arrays:
                read = {name: arrays[name] for name in arrays.files}
        except (OSError, ValueError) as error:
            raise SpotScopeError(
                f"The truth of the simulated section could not be read from '{path.name}';"
                " make the study again."
            ) from error
        if said["format"] > _FORMAT:
            raise SpotScopeError(f"'{path.name}' is of a newer SpotScope; update SpotScope.")
        model = GeneModel(
            names=tuple(said["genes"]),
            groups=tuple(said["groups"]),
            **{n: read.pop(n) for n in ("by_subtype", "by_density", "by_field")},
        )
        return cls(genes=model, **read, **{n: said[n] for n in _SCALARS})


_SCALARS = [f.name for f in fields(Truth) if f.type in ("int", "float")]


def _places(centres_px: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(centres_px, dtype=np.float64).reshape(-1, 2)
