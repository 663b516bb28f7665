"""Standardising, principal components and ridge regression in closed form, in numpy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

_LEAST = 1e-7
"""Singular values below this part of the largest are rounding, and left out."""


@dataclass(frozen=True)
class Projection:
    """Standardises features and turns them onto their principal components.

    Attributes
    ----------
    mean, scale
        Of each feature over the spots it was fitted on, shape (p,).
    components
        Orthonormal rows, shape (k, p).
    """

    mean: Floats
    scale: Floats
    components: Floats

    @classmethod
    def fit(
        cls, features: Floats, n_components: int, seed: int = 0, *, standardise: bool = True
    ) -> Projection:
        """Fit on `features` (n, p); keeps at most `n_components` and at most n - 1 components.

        Without `standardise` features are centred alone, and the strongest decide.
        """
        features = np.asarray(features, dtype=np.float64)
        mean = features.mean(axis=0)
        spread = features.std(axis=0)
        # A feature that does not vary says nothing; dividing by its rounding noise would.
        flat = spread <= 1e-7 * np.maximum(np.abs(mean), 1.0)
        scale = np.where(flat, np.inf, spread if standardise else 1.0)
        standard = (features - mean) / scale
        limit = max(1, min(n_components, len(features) - 1, features.shape[1]))
        return cls(mean, scale, _leading_rows(standard, limit, seed))

    def apply(self, features: Floats) -> Floats:
        """Return the components of `features`, (n, k) float64."""
        standard = (np.asarray(features, dtype=np.float64) - self.mean) / self.scale
        return standard @ self.components.T


def _leading_rows(matrix: Floats, count: int, seed: int) -> Floats:
    """Return the `count` leading right singular vectors, with a sign that does not flip."""
    n, p = matrix.shape
    if n >= 4 * count and p >= 4 * count and min(n, p) > 2000:
        from sklearn.utils.extmath import randomized_svd

        rows = randomized_svd(matrix, count, random_state=seed)[2]
    elif p <= n:
        values, vectors = np.linalg.eigh(matrix.T @ matrix)
        rows = vectors[:, np.argsort(values)[::-1][:count]].T
    else:
        values, vectors = np.linalg.eigh(matrix @ matrix.T)
        order = np.argsort(values)[::-1][:count]
        kept = order[values[order] > 1e-10 * max(values[order[0]], 1e-300)]
        rows = (vectors[:, kept].T @ matrix) / np.sqrt(values[kept])[:, None]
    strongest = np.abs(rows).argmax(axis=1)
    return rows * np.sign(rows[np.arange(len(rows)), strongest])[:, None]


@dataclass(frozen=True)
class RidgePath:
    """Ridge regression with an unpenalised intercept, for every penalty from one decomposition.

    With centred X = U S Vᵀ the coefficients at penalty α are V diag(s / (s² + α)) Uᵀ Y
    (Hoerl and Kennard 1970), so that a penalty costs one small product and no new solve.

    Attributes
    ----------
    x_mean, y_mean
        What was subtracted, (k,) and (G,).
    values
        Singular values of the centred inputs, (r,).
    right
        Right singular vectors as rows, (r, k).
    targets
        Uᵀ Y, (r, G).
    """

    x_mean: Floats
    y_mean: Floats
    values: Floats
    right: Floats
    targets: Floats

    @classmethod
    def fit(cls, inputs: Floats, outputs: Floats) -> RidgePath:
        """Decompose `inputs` (n, k) once, for `outputs` (n, G)."""
        inputs = np.asarray(inputs, dtype=np.float64)
        outputs = np.asarray(outputs, dtype=np.float64)
        x_mean, y_mean = inputs.mean(axis=0), outputs.mean(axis=0)
        centred, wanted = inputs - x_mean, outputs - y_mean
        if len(inputs) < inputs.shape[1]:
            left, values, right = np.linalg.svd(centred, full_matrices=False)
            rank = int((values > values.max(initial=0.0) * _LEAST).sum())
            return cls(x_mean, y_mean, values[:rank], right[:rank], left[:, :rank].T @ wanted)
        # Through the small product Xᵀ X: many times faster than X itself when it is tall.
        squares, vectors = np.linalg.eigh(centred.T @ centred)
        values = np.sqrt(np.maximum(squares[::-1], 0.0))
        rank = int((values > values.max(initial=0.0) * _LEAST).sum())
        values, right = values[:rank], vectors.T[::-1][:rank]
        return cls(x_mean, y_mean, values, right, right @ (centred.T @ wanted) / values[:, None])

    @property
    def unit(self) -> float:
        """Mean squared singular value: penalties are given as multiples of it."""
        return float(np.mean(self.values**2)) if len(self.values) else 1.0

    def coefficients(self, alpha: float | Floats) -> tuple[Floats, Floats]:
        """Return coefficients (k, G) and intercepts (G,) at `alpha`, one number or one a gene."""
        squares = self.values[:, None] ** 2
        shrunk = self.values[:, None] / (squares + np.broadcast_to(alpha, self.y_mean.shape))
        weights = self.right.T @ (shrunk * self.targets)
        return weights, self.y_mean - self.x_mean @ weights

    def leverage(self, inputs: Floats, alpha: float) -> Floats:
        """Return xᵀ (XᵀX + αI)⁻¹ x of each centred row of `inputs`, (n,)."""
        turned = (np.asarray(inputs, dtype=np.float64) - self.x_mean) @ self.right.T
        return (turned**2 / (self.values**2 + alpha)).sum(axis=1)
