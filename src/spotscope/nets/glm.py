"""Count regression for many genes at once: Poisson or negative binomial, log link, ridge."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CLIP = 20.0
"""The linear predictor stays within ±20: exp of more is no count any more."""
_ROUND = 25


@dataclass(frozen=True)
class CountFit:
    """Coefficients of a log-linear count model.

    Attributes
    ----------
    weights
        (p, G).
    intercept
        (G,); log mean of a spot of size one whose inputs are all zero.
    low, high
        (G,) range of ``x w + b`` over the spots it was fitted on.
    """

    weights: Tensor
    intercept: Tensor
    low: Tensor
    high: Tensor

    def log_rate(self, inputs: Tensor) -> Tensor:
        """Return the log mean (n, G) of a spot of size one, held within the range seen in fitting.

        Outside of that range exp() turns a small miss into an explosion (Anand et al.'s R² of
        -20 to -190), so a place beyond it gets the nearest value that was seen.
        """
        eta = inputs @ self.weights + self.intercept
        return eta.clamp(self.low, self.high)


def moment_dispersion(rates: Tensor) -> Tensor:
    """Return alpha = (s² - m) / m² of each column of `rates` (n, G), 1e-8 at least.

    The a-priori alpha of Anand et al.; a gene that varies no more than a Poisson one gets none.
    """
    mean, variance = rates.mean(dim=0), rates.var(dim=0)
    return ((variance - mean) / mean.clamp(min=1e-12) ** 2).clamp(min=1e-8)


def fit_counts(
    inputs: Tensor,
    counts: Tensor,
    size: Tensor,
    alpha: Tensor,
    penalty: float,
    *,
    max_iterations: int = 300,
    tolerance: float = 1e-10,
) -> CountFit:
    """Maximise the penalised likelihood of a negative binomial of mean ``size * exp(x w + b)``.

    Minimises ``-sum log NB(y; mu, alpha) + penalty / 2 * n * |w|²`` for every gene, the intercept
    free. Inputs are turned onto their principal axes, where XᵀX is diagonal, so that a Newton
    step with the mean working weight needs no solve; a gene whose likelihood would fall takes
    half the step.

    Parameters
    ----------
    inputs
        (n, p).
    counts
        (n, G).
    size
        (n,) library of each spot over a common unit: the offset is its log.
    alpha
        (G,) dispersions; near 0 is Poisson.
    penalty
        Per spot.
    """
    x = inputs.double()
    y = counts.double()
    centre = x.mean(dim=0)
    left, values, right = torch.linalg.svd(x - centre, full_matrices=False)
    rank = int((values > values.max().clamp(min=1e-300) * 1e-10).sum())
    n = len(x)
    axes = left[:, :rank] * n**0.5  # each of mean square one
    ridge = penalty * n * (n / values[:rank] ** 2)[:, None]  # penalty on the turned coefficients
    offset = size.double().clamp(min=1e-12).log()[:, None]
    alpha = alpha.double()

    intercept = (y.sum(dim=0).clamp(min=1e-8) / size.double().sum()).log()
    turned = x.new_zeros(rank, y.shape[1])
    left_over = torch.arange(y.shape[1], device=y.device)
    # Most genes settle in a few steps; the slow ones go on without them.
    for _ in range(0, max_iterations, _ROUND):
        intercept[left_over], turned[:, left_over], settled = _climb(
            axes,
            y[:, left_over],
            offset,
            alpha[left_over],
            ridge,
            intercept[left_over],
            turned[:, left_over],
            tolerance,
        )
        left_over = left_over[~settled]
        if not len(left_over):
            break
    weights = right[:rank].T @ (turned * (n**0.5 / values[:rank])[:, None])
    bias = intercept - centre @ weights
    eta = x @ weights + bias
    return CountFit(weights, bias, eta.amin(dim=0), eta.amax(dim=0))


def _climb(
    axes: Tensor,
    y: Tensor,
    offset: Tensor,
    alpha: Tensor,
    ridge: Tensor,
    intercept: Tensor,
    turned: Tensor,
    tolerance: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Take some Newton steps; return intercepts, coefficients, and which genes (G,) are done."""
    n = len(axes)

    def value(b: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        log_mean = (axes @ w + b).clamp(-CLIP, CLIP) + offset
        mean = log_mean.exp()
        # `nb_log_likelihood` without what does not depend on the mean, which is most of its work.
        likelihood = (y * log_mean - (1 / alpha + y) * torch.log1p(alpha * mean)).sum(dim=0)
        return mean, likelihood - 0.5 * (ridge * w**2).sum(dim=0)

    step = torch.ones_like(intercept)
    settled = torch.zeros_like(intercept, dtype=torch.bool)
    mean, best = value(intercept, turned)
    for _ in range(_ROUND):
        shrink = 1 + alpha * mean
        working = (mean / shrink).mean(dim=0).clamp(min=1e-12)
        slope = (y - mean) / shrink
        move_b = slope.mean(dim=0) / working
        move_w = (axes.T @ slope - ridge * turned) / (n * working + ridge)
        tried_b, tried_w = intercept + step * move_b, turned + step * move_w
        tried_mean, tried = value(tried_b, tried_w)
        better = tried >= best - 1e-12 * best.abs()
        gain = torch.where(better, tried - best, torch.zeros_like(best))
        intercept = torch.where(better, tried_b, intercept)
        turned = torch.where(better, tried_w, turned)
        mean = torch.where(better, tried_mean, mean)
        best = torch.where(better, tried, best)
        settled = (better & (gain <= tolerance * best.abs().clamp(min=1.0))) | (step < 1e-6)
        if bool(settled.all()):
            break
        step = torch.where(better, (step * 1.5).clamp(max=1.0), step / 2)
    return intercept, turned, settled
