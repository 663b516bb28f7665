"""Anand et al.'s linear, lasso and ridge regressors on their embedding."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from spotscope.methods.anand import (
    AnandMethod,
    AnandSettings,
    Data,
    Floats,
    folds,
    standard,
    training,
)
from spotscope.methods.linear import RidgePath

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.data.places import Places
    from spotscope.methods.base import MethodSettings
    from spotscope.progress import Progress

RIDGE_PENALTIES = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""The paper's range 0 to 100, on standardised inputs and the sum of squares."""
LASSO_PENALTIES = 10.0 ** np.arange(1.0, -7.1, -1.0)
"""The paper's grid 1e-7 to 10, largest first as the path algorithm goes."""


class _Penalised(AnandMethod):
    """A linear map per gene whose penalty is chosen per gene on held-out spots."""

    LEARNT: ClassVar[tuple[str, ...]] = ("mean", "spread", "weights", "bias")

    @abstractmethod
    def path(self, inputs: Floats, outputs: Floats, progress: Progress) -> Floats:
        """Return coefficients (penalties, d, G) on centred inputs and outputs."""

    def regress(
        self, data: Data, held: NDArray[np.intp], progress: Progress
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Choose each gene's penalty by held-out squared error, then fit on all training spots."""
        splits = folds(held)
        tried, tested = [], np.zeros(len(held), dtype=bool)
        for number, (fit, hold) in enumerate(splits):
            part = progress.part(number / (len(splits) + 1), (number + 1) / (len(splits) + 1))
            weights, bias, mean, spread = self._fitted(data, fit, part)
            turned = (data.inputs[hold] - mean) / spread
            tried.append((hold, np.einsum("nd,sdg->sng", turned, weights) + bias[:, None]))
            tested |= hold
        errors = sum(((p - data.targets[hold]) ** 2).sum(axis=1) for hold, p in tried)
        best = np.asarray(errors).argmin(axis=0)
        genes = np.arange(data.targets.shape[1])
        predicted = np.zeros_like(data.targets)
        for hold, path in tried:
            predicted[hold] = path[best, :, genes].T
        rest = progress.part(len(splits) / (len(splits) + 1), 1.0)
        weights, bias, self._mean, self._spread = self._fitted(data, training(held), rest)
        self._weights, self._bias = weights[best, :, genes].T, bias[best, genes]
        return predicted, tested

    def _fitted(
        self, data: Data, rows: NDArray[np.bool_], progress: Progress
    ) -> tuple[Floats, Floats, Floats, Floats]:
        mean, spread = standard(data.inputs, rows)
        level = data.targets[rows].mean(axis=0)
        inputs = (data.inputs[rows] - mean) / spread
        weights = self.path(inputs, data.targets[rows] - level, progress)
        return weights, np.broadcast_to(level, (len(weights), len(level))), mean, spread

    def respond(self, inputs: Floats, places: Places) -> Floats:
        """Return the linear prediction."""
        return (inputs - self._mean) / self._spread @ self._weights + self._bias


class LinearMethod(_Penalised):
    """Least squares, ``y = w1ᵀ z1 + w2ᵀ z2`` with an intercept (Anand et al., equation 1)."""

    name: ClassVar[str] = "linear"
    title: ClassVar[str] = "Linear regression (Anand et al.)"
    summary: ClassVar[str] = "least squares on 32-dimensional embeddings"

    def path(self, inputs: Floats, outputs: Floats, progress: Progress) -> Floats:
        """Return the one least-squares solution."""
        progress.report(0.5, "Solving")
        return np.linalg.lstsq(inputs, outputs, rcond=1e-10)[0][None]


class AnandRidgeSettings(AnandSettings):
    """Settings of `anand_ridge`, which the paper shows on the pooled features."""

    PUBLISHED: ClassVar[dict[str, Any]] = {"view": "neighbourhood"}


class AnandRidgeMethod(_Penalised):
    """Ridge on the embedding, the penalty of each gene from the paper's range."""

    name: ClassVar[str] = "anand_ridge"
    title: ClassVar[str] = "Ridge (Anand et al.)"
    summary: ClassVar[str] = "ridge on 32-dimensional embeddings; for the full features see ridge"
    Settings: ClassVar[type[MethodSettings]] = AnandRidgeSettings

    def path(self, inputs: Floats, outputs: Floats, progress: Progress) -> Floats:
        """Return one solution a penalty, all from one decomposition."""
        progress.report(0.5, "Solving")
        found = RidgePath.fit(inputs, outputs)
        return np.stack([found.coefficients(penalty)[0] for penalty in RIDGE_PENALTIES])


class LassoMethod(_Penalised):
    """Lasso on the embedding, the penalty of each gene from the paper's grid."""

    name: ClassVar[str] = "lasso"
    title: ClassVar[str] = "Lasso (Anand et al.)"
    summary: ClassVar[str] = "sparse linear regression on 32-dimensional embeddings"

    def path(self, inputs: Floats, outputs: Floats, progress: Progress) -> Floats:
        """Return one solution a penalty by coordinate descent (scikit-learn)."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import lasso_path

        inputs = np.asfortranarray(inputs, dtype=np.float64)
        gram = inputs.T @ inputs
        products = inputs.T @ outputs
        weights = np.empty((len(LASSO_PENALTIES), inputs.shape[1], outputs.shape[1]))
        with warnings.catch_warnings():
            # The smallest penalties are least squares to all ends; a full convergence of their
            # last digits changes no choice.
            warnings.simplefilter("ignore", ConvergenceWarning)
            for gene in range(outputs.shape[1]):
                if gene % 50 == 0:
                    progress.report(gene / outputs.shape[1], "Fitting lasso")
                _, found, _ = lasso_path(
                    inputs,
                    np.ascontiguousarray(outputs[:, gene], dtype=np.float64),
                    alphas=LASSO_PENALTIES,
                    precompute=gram,
                    Xy=np.ascontiguousarray(products[:, gene]),
                    max_iter=300,
                    tol=1e-3,
                )
                weights[:, :, gene] = found.T
        return weights
