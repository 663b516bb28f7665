"""Ridge regression on frozen features: the default method, and the baseline of all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from spotscope.methods.base import Arrays, Method, MethodSettings
from spotscope.methods.imaging import (
    ImageSettings,
    cohort_features,
    inner_groups,
    mean_pearson,
    place_features,
)
from spotscope.methods.linear import Projection, RidgePath

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.data.cohort import Cohort
    from spotscope.data.places import Places
    from spotscope.progress import Progress

STRENGTHS = 10.0 ** np.arange(-3.0, 4.01, 0.5)
"""Penalties to choose from, as multiples of the mean squared singular value of the inputs: they
mean the same on few spots and on many."""


class RidgeSettings(ImageSettings):
    """Settings of `ridge`."""

    components: int = Field(
        default=256,
        ge=1,
        le=4096,
        title="Components",
        description="Principal components of the image features that are kept.",
    )


class RidgeMethod(Method):
    """Standardised features, principal components, ridge regression with an intercept.

    The penalty of each gene is the one that predicts held-out patients best (sections, when there
    is one patient). The uncertainty adds what held-out patients missed by, and how far a place
    lies from the training spots.
    """

    name: ClassVar[str] = "ridge"
    title: ClassVar[str] = "Ridge regression"
    summary: ClassVar[str] = "linear in the image features, exact, in seconds; start with it"
    Settings: ClassVar[type[MethodSettings]] = RidgeSettings
    settings: RidgeSettings

    def learn(self, cohort: Cohort, validation: Cohort | None, progress: Progress) -> None:
        """Choose each gene's penalty on held-out groups, then fit on all spots."""
        seen = cohort_features(cohort, self.encoder, self.settings, progress.part(0.0, 0.8))
        measured = cohort.expression(self.genes)
        if validation is None:
            groups = inner_groups(cohort)
            folds = [(groups != group, groups == group) for group in np.unique(groups)]
            inputs, outputs, scored = seen, measured, groups
        else:
            shown = cohort_features(
                validation, self.encoder, self.settings, progress.part(0.8, 0.9)
            )
            inputs = np.concatenate([seen, shown])
            outputs = np.concatenate([measured, validation.expression(self.genes)])
            held = np.arange(len(inputs)) >= len(seen)
            folds = [(~held, held)]
            scored = np.concatenate([np.full(len(seen), -1), validation.section_of])
        self._choose(inputs, outputs, folds, scored, progress.part(0.9, 0.98))
        self._fit(seen, measured)
        progress.report(1.0, "Fitted")

    def _choose(
        self,
        inputs: NDArray[np.floating],
        outputs: NDArray[np.floating],
        folds: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]],
        scored: NDArray[np.intp],
        progress: Progress,
    ) -> None:
        """Choose each gene's penalty by the squared error on what each fold holds out."""
        errors = np.zeros((len(STRENGTHS), outputs.shape[1]))
        paths = []
        for train, held in progress.track(folds, "Choosing penalties"):
            projection = Projection.fit(
                inputs[train], self.settings.components, self.settings.seed
            )
            path = RidgePath.fit(projection.apply(inputs[train]), outputs[train])
            turned = projection.apply(inputs[held])
            for at, strength in enumerate(STRENGTHS):
                progress.check()
                weights, intercept = path.coefficients(strength * path.unit)
                missed = turned @ weights + intercept - outputs[held]
                errors[at] += (missed**2).sum(axis=0)
            paths.append((path, turned, held))
        self._strength = STRENGTHS[errors.argmin(axis=0)]
        n_held = sum(int(held.sum()) for _, held in folds)
        self._residual = np.sqrt(errors.min(axis=0) / n_held)
        predicted = np.zeros_like(outputs)
        for path, turned, held in paths:
            weights, intercept = path.coefficients(self._strength * path.unit)
            predicted[held] = turned @ weights + intercept
        tested = np.any([held for _, held in folds], axis=0)
        self.scores["pearson"] = mean_pearson(predicted[tested], outputs[tested], scored[tested])

    def _fit(self, inputs: NDArray[np.floating], outputs: NDArray[np.floating]) -> None:
        projection = Projection.fit(inputs, self.settings.components, self.settings.seed)
        path = RidgePath.fit(projection.apply(inputs), outputs)
        weights, intercept = path.coefficients(self._strength * path.unit)
        self._projection = projection
        self._weights, self._intercept = weights, intercept
        self._leverage_alpha = float(np.median(self._strength)) * path.unit
        self._leverage_mean = path.x_mean
        self._leverage_basis = path.right.T / np.sqrt(path.values**2 + self._leverage_alpha)

    def infer(
        self, places: Places, progress: Progress
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Return expression and its standard deviation, both (n, G)."""
        seen = place_features(places, self.encoder, self.settings, progress)
        turned = self._projection.apply(seen)
        expression = turned @ self._weights + self._intercept
        reach = (((turned - self._leverage_mean) @ self._leverage_basis) ** 2).sum(axis=1)
        return expression, self._residual * np.sqrt(1.0 + reach)[:, None]

    def arrays(self) -> Arrays:
        """Return the projection, the coefficients, and what the uncertainty needs."""
        return {
            "mean": self._projection.mean,
            "scale": self._projection.scale,
            "components": self._projection.components,
            "weights": self._weights,
            "intercept": self._intercept,
            "strength": self._strength,
            "residual": self._residual,
            "leverage_mean": self._leverage_mean,
            "leverage_basis": self._leverage_basis,
        }

    def restore(self, arrays: Arrays) -> None:
        """Take them back."""
        self._projection = Projection(arrays["mean"], arrays["scale"], arrays["components"])
        self._weights, self._intercept = arrays["weights"], arrays["intercept"]
        self._strength, self._residual = arrays["strength"], arrays["residual"]
        self._leverage_mean = arrays["leverage_mean"]
        self._leverage_basis = arrays["leverage_basis"]
