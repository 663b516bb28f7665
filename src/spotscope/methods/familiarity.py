"""How far a place is from anything that was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from spotscope.methods.linear_head import standards
from spotscope.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

REFERENCES = 4096
"""Training spots that are kept to compare with, at most."""
PERCENTILE = 99.0
_BLOCK = 1024


@dataclass(frozen=True)
class Familiarity:
    """Training spots in the space of standardised features.

    Attributes
    ----------
    mean, scale
        (d,) of the training spots' features.
    references
        (m, d) float32, standardised.
    unit
        The distance within which 99 of 100 references have another.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    references: NDArray[np.float32]
    unit: float

    @classmethod
    def learn(
        cls, features: NDArray[np.floating], seed: int = 0, progress: Progress | None = None
    ) -> Self:
        """Learn from the features (n, d) of training spots."""
        mean, scale = standards(features)
        chosen = np.arange(len(features))
        if len(features) > REFERENCES:
            draw = np.random.default_rng(seed).choice(len(features), REFERENCES, replace=False)
            chosen = np.sort(draw)
        references = ((features[chosen] - mean) / scale).astype(np.float32)
        made = cls(mean.astype(np.float32), scale.astype(np.float32), references, 1.0)
        apart = made._nearest(references, progress or Progress(), others=True)
        finite = apart[np.isfinite(apart)]  # a single reference has no other
        unit = float(np.percentile(finite, PERCENTILE)) if len(finite) else 1.0
        return cls(made.mean, made.scale, references, max(unit, 1e-6))

    def distance(
        self, features: NDArray[np.floating], progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Return (n,) the distance of features (n, d) to the nearest reference, in units."""
        moved = ((features - self.mean) / self.scale).astype(np.float32)
        return (self._nearest(moved, progress or Progress()) / self.unit).astype(np.float32)

    def _nearest(
        self, moved: NDArray[np.float32], progress: Progress, *, others: bool = False
    ) -> NDArray[np.float64]:
        """Return (n,) distances; with `others`, row i is reference i and does not count."""
        references = self.references
        lengths = np.einsum("ij,ij->i", references, references, dtype=np.float64)
        found = np.empty(len(moved))
        for at in range(0, len(moved), _BLOCK):
            progress.check()
            block = moved[at : at + _BLOCK]
            own = np.einsum("ij,ij->i", block, block, dtype=np.float64)
            squares = own[:, None] + lengths - 2.0 * (block @ references.T)
            if others:
                squares[np.arange(len(block)), at + np.arange(len(block))] = np.inf
            found[at : at + _BLOCK] = np.sqrt(np.maximum(squares.min(axis=1), 0))
        return found

    def arrays(self) -> dict[str, NDArray]:
        """Return what must be kept."""
        return {
            "known.mean": self.mean,
            "known.scale": self.scale,
            "known.references": self.references,
            "known.unit": np.array(self.unit, np.float64),
        }

    @classmethod
    def restored(cls, arrays: dict[str, NDArray]) -> Self:
        """Take it back."""
        mean, scale, references = (arrays[f"known.{n}"] for n in ("mean", "scale", "references"))
        return cls(mean, scale, references, float(arrays["known.unit"].item()))
