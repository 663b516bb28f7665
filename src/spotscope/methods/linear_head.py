"""Multinomial logistic regression to its optimum: what a frozen image side is classified by.

The loss is strictly convex, so that the same spots give the same classifier wherever the search
begins; beginning at an earlier one makes it short.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spotscope.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEPS = 500
_TOLERANCE = 1e-5  # greatest gradient at the end


@dataclass(frozen=True)
class LinearHead:
    """Logits ``weight @ x + bias``.

    Attributes
    ----------
    weight, bias
        (K, d) and (K,) float64.
    loss, accuracy
        On what it was learnt from; the loss without the penalty.
    steps
        That the search took.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    loss: float = 0.0
    accuracy: float = 0.0
    steps: int = 0

    def logits(self, inputs: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return (n, K)."""
        return inputs @ self.weight.T + self.bias

    def before(self, mean: NDArray[np.floating], scale: NDArray[np.floating]) -> LinearHead:
        """Return the head that does for x what this one does for (x - mean) / scale."""
        weight = self.weight / scale
        bias = self.bias - (weight * mean).sum(axis=1)
        return LinearHead(weight, bias, self.loss, self.accuracy, self.steps)

    def after(self, mean: NDArray[np.floating], scale: NDArray[np.floating]) -> LinearHead:
        """Return the head that does for (x - mean) / scale what this one does for x."""
        bias = self.bias + (self.weight * mean).sum(axis=1)
        return LinearHead(self.weight * scale, bias, self.loss, self.accuracy, self.steps)


def fit_linear_head(
    inputs: NDArray[np.floating],
    codes: NDArray[np.integer],
    class_weights: NDArray[np.floating],
    decay: float,
    start: LinearHead | None = None,
    progress: Progress | None = None,
) -> LinearHead:
    """Return the head with the least weighted cross-entropy and ``decay / 2 * |weight|²``.

    Parameters
    ----------
    inputs
        (n, d); they are standardised on the way, and the penalty holds there.
    codes
        (n,) class of each, below K.
    class_weights
        (K,) weight of each class's spots.
    start
        Where to begin the search; None at zero.
    progress
        Cancels between steps.
    """
    from scipy.optimize import minimize

    progress = progress or Progress()
    inputs = np.asarray(inputs, np.float64)
    mean, scale = standards(inputs)
    x = (inputs - mean) / scale
    (n, d), k = x.shape, len(class_weights)
    told = np.zeros((n, k))
    told[np.arange(n), codes] = np.asarray(class_weights, np.float64)[codes] / n
    each = told.sum(axis=1, keepdims=True)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        progress.check()
        weight, bias = flat[: k * d].reshape(k, d), flat[k * d :]
        logs = _log_softmax(x @ weight.T + bias)
        error = np.exp(logs) * each - told
        slope = np.concatenate([(error.T @ x + decay * weight).ravel(), error.sum(axis=0)])
        return float(-(told * logs).sum() + decay / 2 * (weight**2).sum()), slope

    first = np.zeros(k * d + k)
    if start is not None:
        moved = start.after(mean, scale)
        first = np.concatenate([moved.weight.ravel(), moved.bias])
    found = minimize(
        loss, first, jac=True, method="L-BFGS-B",
        options={"maxiter": _STEPS, "gtol": _TOLERANCE, "ftol": 1e-10},
    )  # fmt: skip
    weight, bias = found.x[: k * d].reshape(k, d), found.x[k * d :]
    logs = _log_softmax(x @ weight.T + bias)
    head = LinearHead(
        weight,
        bias,
        float(-(told * logs).sum()),
        float((logs.argmax(axis=1) == codes).mean()),
        int(found.nit),
    )
    return head.before(mean, scale)


def standards(values: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of columns; 1 for a column that does not vary."""
    mean = values.mean(axis=0, dtype=np.float64)
    spread = values.std(axis=0, dtype=np.float64)
    return mean, np.where(spread > 1e-7, spread, 1.0)


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return probabilities (n, K)."""
    return np.exp(_log_softmax(np.asarray(logits, np.float64))).astype(np.float32)


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
