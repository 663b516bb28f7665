"""Count likelihoods, and the plain network of Anand et al."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGE = 100.0  # from here on Stirling's series is exact to float32 and lgamma's difference is not


def poisson_log_likelihood(counts: Tensor, mean: Tensor) -> Tensor:
    """Return ``y log m - m - log y!``, elementwise; `mean` above 0."""
    return torch.xlogy(counts, mean) - mean - torch.lgamma(counts + 1)


def nb_log_likelihood(counts: Tensor, mean: Tensor, alpha: Tensor | float) -> Tensor:
    """Return the log-likelihood of a negative binomial of variance ``m + alpha m^2``.

    With ``r = 1/alpha`` (scVI's theta): ``log G(y+r) - log G(r) - log y! - r log(1 + m/r)
    + y log(m / (r + m))``. Elementwise and broadcast; `alpha` at or near 0 is the Poisson limit.
    (Anand et al. equation 2 prints the exponent of ``r/(r+m)`` with the wrong sign.)
    """
    alpha = torch.as_tensor(alpha, dtype=mean.dtype, device=mean.device).clamp(min=1e-10)
    r = 1 / alpha
    small, large = r.clamp(max=_LARGE), r.clamp(min=_LARGE)
    by_gamma = torch.lgamma(counts + small) - torch.lgamma(small) - counts * small.log()
    # Stirling's series of the same difference, its large terms cancelled by hand.
    by_series = (
        (counts + large - 0.5) * torch.log1p(counts / large)
        - counts
        + (1 / (counts + large) - 1 / large) / 12
    )
    rising = torch.where(r > _LARGE, by_series, by_gamma)
    shrink = torch.log1p(mean * alpha)
    return rising - torch.lgamma(counts + 1) + torch.xlogy(counts, mean) - (r + counts) * shrink


def zinb_log_likelihood(
    counts: Tensor, mean: Tensor, alpha: Tensor | float, zero_logits: Tensor
) -> Tensor:
    """Return the log-likelihood of a negative binomial with extra zeros.

    ``pi = sigmoid(zero_logits)``; ``log(pi + (1-pi) NB(0))`` at zero and ``log(1-pi) + log NB(y)``
    elsewhere (Lopez et al. 2018, scVI). ``zero_logits -> -inf`` gives `nb_log_likelihood`.
    """
    present = nb_log_likelihood(counts, mean, alpha) + logsigmoid(-zero_logits)
    zero = torch.logaddexp(logsigmoid(zero_logits), present)
    return torch.where(counts == 0, zero, present)


class CountHead(nn.Module):
    """Predict a count's mean and spread from features, given the spot's size.

    ``mean = size * exp(W x + b)`` with the predictor clipped to [-20, 20], where `size` is the
    library over the median library: without that offset a count model learns depth.

    Parameters
    ----------
    width_in, n_genes
        Features and genes.
    kind
        "poisson", "nb" or "zinb".
    """

    def __init__(self, width_in: int, n_genes: int, kind: str = "nb") -> None:
        super().__init__()
        self.kind = kind
        self.predictor = nn.Linear(width_in, n_genes)
        self.log_alpha = nn.Parameter(torch.zeros(n_genes)) if kind != "poisson" else None
        self.zero = nn.Linear(width_in, n_genes) if kind == "zinb" else None

    def forward(self, features: Tensor) -> Tensor:
        """Return the mean (n, G) for a spot of median library from `features` (n, width_in)."""
        return self.predictor(features).clamp(-20, 20).exp()

    def loss(self, features: Tensor, counts: Tensor, size: Tensor) -> Tensor:
        """Return the mean negative log-likelihood of `counts` (n, G) at `size` (n,)."""
        mean = self(features) * size[:, None]
        if self.log_alpha is None:
            return -poisson_log_likelihood(counts, mean).mean()
        alpha = softplus(self.log_alpha)
        if self.zero is None:
            return -nb_log_likelihood(counts, mean, alpha).mean()
        return -zinb_log_likelihood(counts, mean, alpha, self.zero(features)).mean()


class MLP(nn.Module):
    """Dense layers with ReLU and dropout between, then a linear output.

    Anand et al.'s network is ``MLP(64, 250, hidden=(64, 64, 64), dropout=0.5)``.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        hidden: Sequence[int] = (64, 64, 64),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(width_in, width), nn.ReLU(), nn.Dropout(dropout)]
            width_in = width
        layers[-1:] = [] if hidden else layers  # dropout stands between layers, not at the end
        self.layers = nn.Sequential(*layers, nn.Linear(width_in, width_out))

    def forward(self, features: Tensor) -> Tensor:
        """Return (n, width_out) of `features` (n, width_in)."""
        return self.layers(features)
