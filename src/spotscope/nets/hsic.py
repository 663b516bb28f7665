"""Dependence between two representations: HSIC, the normalised form of ST-GCHB, and CKA.

Inputs are (n, p) and (n, q), the same n samples in the same order. Memory and time are O(n^2), so
these are for mini-batches.
"""

from __future__ import annotations

import torch
from torch import Tensor


def median_scale(x: Tensor) -> Tensor:
    """Return the median distance between different rows of `x` (n, p), at least 1e-6.

    The median heuristic for the width of a Gaussian kernel; without gradient.
    """
    if len(x) < 2:
        return x.new_tensor(1.0)
    return torch.pdist(x.detach().float()).median().clamp(min=1e-6)


def gaussian_kernel(x: Tensor, scale: float | Tensor | None = None) -> Tensor:
    """Return ``K_ij = exp(-|x_i - x_j|^2 / (2 scale^2))`` (n, n).

    The published code of ST-GCHB writes ``exp(-d^2/sigma^2)`` with sigma = 10, which is
    ``scale = 7.071`` here. `scale` None takes `median_scale`.
    """
    x = x.float()
    if scale is None:
        scale = median_scale(x)
    # Centring changes no distance and keeps the expanded square exact far from the origin.
    x = x - x.mean(dim=0, keepdim=True)
    square = (x * x).sum(dim=1)
    with torch.autocast(x.device.type, enabled=False):
        distance2 = (square[:, None] + square[None, :] - 2 * (x @ x.T)).clamp(min=0)
    distance2 = distance2 * (1 - torch.eye(len(x), device=x.device))
    return torch.exp(-distance2 / (2 * scale**2))


def kernel_hsic(kernel_x: Tensor, kernel_y: Tensor) -> Tensor:
    """Return ``(n-1)^-2 tr(K_x J K_y J)`` with ``J = I - 11^T/n``, from two kernels (n, n).

    The biased V-statistic of Gretton et al. 2005, which ST-GCHB's equation 3 states (and calls
    unbiased).
    """
    n = len(kernel_x)
    if n < 2:
        return kernel_x.new_zeros(())
    return (_centred(kernel_x) * _centred(kernel_y)).sum() / (n - 1) ** 2


def hsic(
    x: Tensor,
    y: Tensor,
    scale_x: float | Tensor | None = None,
    scale_y: float | Tensor | None = None,
) -> Tensor:
    """Return the HSIC of `x` (n, p) and `y` (n, q): 0 when one is constant, never negative."""
    return kernel_hsic(gaussian_kernel(x, scale_x), gaussian_kernel(y, scale_y))


def nhsic(
    x: Tensor,
    y: Tensor,
    scale_x: float | Tensor | None = None,
    scale_y: float | Tensor | None = None,
) -> Tensor:
    """Return ST-GCHB's ``HSIC(X,Y) / sqrt((1 + HSIC(X,X)) (1 + HSIC(Y,Y)))`` (its equation 4).

    ``nhsic(X, X) = h/(1 + h)`` with ``h = HSIC(X, X)``, below one: this is not CKA.
    """
    k_x, k_y = gaussian_kernel(x, scale_x), gaussian_kernel(y, scale_y)
    own = (1 + kernel_hsic(k_x, k_x)) * (1 + kernel_hsic(k_y, k_y))
    return kernel_hsic(k_x, k_y) / own.sqrt()


def cka(
    x: Tensor,
    y: Tensor,
    scale_x: float | Tensor | None = None,
    scale_y: float | Tensor | None = None,
) -> Tensor:
    """Return ``HSIC(X,Y) / sqrt(HSIC(X,X) HSIC(Y,Y))``, 1 for equal ones (Kornblith et al. 2019).

    0 when one of them is constant.
    """
    k_x, k_y = gaussian_kernel(x, scale_x), gaussian_kernel(y, scale_y)
    own = kernel_hsic(k_x, k_x) * kernel_hsic(k_y, k_y)
    return kernel_hsic(k_x, k_y) / own.sqrt().clamp(min=1e-12)


def bottleneck(
    given: Tensor,
    middle: Tensor,
    result: Tensor,
    beta: float = 25.0,
    scale: float | Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ST-GCHB's bottleneck ``nHSIC(given; middle) - beta nHSIC(result; middle)``.

    Minimised: the middle layer forgets its input and keeps what the result needs (equation 5).
    Also returns the two terms, for the log.
    """
    forget = nhsic(given, middle, scale, scale)
    keep = nhsic(result, middle, scale, scale)
    return forget - beta * keep, forget, keep


def _centred(kernel: Tensor) -> Tensor:
    rows = kernel - kernel.mean(dim=0, keepdim=True)
    return rows - rows.mean(dim=1, keepdim=True)
