"""Anand et al.'s count regressors: Poisson and negative binomial on raw counts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from spotscope.errors import SpotScopeError
from spotscope.methods.anand import (
    AnandMethod,
    AnandSettings,
    Data,
    Floats,
    folds,
    rate_to_expression,
    standard,
    training,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.data.cohort import Cohort
    from spotscope.data.places import Places
    from spotscope.methods.base import MethodSettings
    from spotscope.nets.glm import CountFit
    from spotscope.progress import Progress

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""Per spot, on standardised inputs."""


class NegativeBinomialSettings(AnandSettings):
    """Settings of `negative_binomial`."""

    dispersion: Literal["moments", "constant"] = Field(
        "moments",
        title="Dispersion",
        description="From each gene's mean and variance on the training spots, or 1 for all.",
    )


class PoissonMethod(AnandMethod):
    """Poisson regression with log link, the log library size as offset, and a ridge penalty.

    What it predicts is the rate of a spot of median library, given as log1p of counts per 10,000.
    As published (`paper_compat`) there is neither offset nor penalty, so that it predicts depth,
    and no bound on the rate but that exp() stays finite.
    """

    name: ClassVar[str] = "poisson"
    title: ClassVar[str] = "Poisson regression (Anand et al.)"
    summary: ClassVar[str] = "count regression on 32-dimensional embeddings"
    LEARNT: ClassVar[tuple[str, ...]] = ("mean", "spread", "weights", "bias", "low", "high")

    def _targets(self, cohort: Cohort) -> Floats:
        return np.concatenate(
            [s.counts[:, s.columns(self.genes)].toarray() for s in cohort.sections]
        ).astype(np.float64)

    def dispersion(self, rates: Floats) -> Floats:
        """Return the dispersion (G,) that goes with `rates` (n, G); a Poisson one is nothing."""
        return np.full(rates.shape[1], 1e-10)

    def regress(
        self, data: Data, held: NDArray[np.intp], progress: Progress
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Choose each gene's penalty by held-out error of log1p rates, then fit on all spots."""
        import torch

        if self.settings.paper_compat:
            data = Data(data.inputs, data.targets, np.ones(len(held)), *data.cohorts)
        penalties = (0.0,) if self.settings.paper_compat else PENALTIES
        splits = folds(held)
        measured = np.concatenate([c.expression(self.genes) for c in data.cohorts])
        steps = (len(splits) + 1) * len(penalties)
        shape = (len(penalties), *measured.shape)
        predicted, tested = np.zeros(shape, np.float32), np.zeros(len(held), dtype=bool)
        for number, (fit, hold) in enumerate(splits):
            mean, spread = standard(data.inputs, fit)
            shown = torch.from_numpy((data.inputs[hold] - mean) / spread)
            for at, penalty in enumerate(penalties):
                progress.report((number * len(penalties) + at) / steps, "Fitting counts")
                found = self._fitted(data, fit, penalty)
                predicted[at, hold] = self._expression(found.log_rate(shown).numpy())
            tested |= hold
        errors = ((predicted[:, tested] - measured[tested]) ** 2).sum(axis=1)
        best = errors.argmin(axis=0)
        self._mean, self._spread = standard(data.inputs, training(held))
        fits = []
        for at, penalty in enumerate(penalties):
            progress.report((len(splits) * len(penalties) + at) / steps, "Fitting counts")
            fits.append(self._fitted(data, training(held), penalty))
        genes = np.arange(len(best))
        self._weights = np.stack([f.weights.numpy() for f in fits])[best, :, genes].T
        self._bias, self._low, self._high = (
            np.stack([getattr(f, part).numpy() for f in fits])[best, genes]
            for part in ("intercept", "low", "high")
        )
        return predicted[best, :, genes].T, tested

    def _fitted(self, data: Data, rows: NDArray[np.bool_], penalty: float) -> CountFit:
        import torch

        from spotscope.nets.glm import CLIP, fit_counts

        rows = rows & (data.sizes > 0)
        mean, spread = standard(data.inputs, rows)
        inputs = torch.from_numpy((data.inputs[rows] - mean) / spread)
        counts, sizes = data.targets[rows], data.sizes[rows]
        alpha = torch.from_numpy(self.dispersion(counts / sizes[:, None]))
        given = torch.from_numpy(counts), torch.from_numpy(sizes)
        found = fit_counts(inputs, *given, alpha, penalty, tolerance=1e-7)
        if not self.settings.paper_compat:
            return found
        unbound = torch.full_like(found.high, CLIP)
        return dataclasses.replace(found, low=-unbound, high=unbound)

    def respond(self, inputs: Floats, places: Places) -> Floats:
        """Return log1p of the rate per 10,000 counts of a spot of median library."""
        eta = (inputs - self._mean) / self._spread @ self._weights + self._bias
        return self._expression(np.clip(eta, self._low, self._high))

    def _expression(self, log_rate: Floats) -> Floats:
        return rate_to_expression(np.exp(log_rate), self._library)


class NegativeBinomialMethod(PoissonMethod):
    """Negative binomial regression, variance ``m + alpha m²`` (Anand et al., equation 2).

    The equation's exponent is printed with the wrong sign; the likelihood here is the right one.
    """

    name: ClassVar[str] = "negative_binomial"
    title: ClassVar[str] = "Negative binomial regression (Anand et al.)"
    summary: ClassVar[str] = "overdispersed count regression on 32-dimensional embeddings"
    Settings: ClassVar[type[MethodSettings]] = NegativeBinomialSettings
    settings: NegativeBinomialSettings

    def dispersion(self, rates: Floats) -> Floats:
        """Return alpha (G,): by moments of the training rates, or one."""
        import torch

        from spotscope.nets.glm import moment_dispersion

        if self.settings.dispersion == "constant":
            return np.ones(rates.shape[1])
        if len(rates) < 2:
            raise SpotScopeError("A dispersion needs at least two training spots; add spots.")
        return moment_dispersion(torch.from_numpy(rates)).numpy()
