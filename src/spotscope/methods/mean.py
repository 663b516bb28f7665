"""The null method: every place gets the training mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from spotscope.methods.base import Arrays, Method

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.data.cohort import Cohort
    from spotscope.data.places import Places
    from spotscope.progress import Progress


class MeanMethod(Method):
    """Predicts each gene's mean over the training spots, and its standard deviation there."""

    name: ClassVar[str] = "mean"
    title: ClassVar[str] = "Mean (null)"
    summary: ClassVar[str] = "every place gets the training mean; what any method must beat"
    uses_encoder: ClassVar[bool] = False

    def learn(self, cohort: Cohort, validation: Cohort | None, progress: Progress) -> None:
        """Take mean and standard deviation of each gene."""
        progress.report(0.0, "Averaging")
        expression = cohort.expression(self.genes)
        self._mean = expression.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._spread = expression.std(axis=0, dtype=np.float64).astype(np.float32)
        progress.report(1.0, "Averaging")

    def infer(
        self, places: Places, progress: Progress
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the mean everywhere."""
        progress.report(1.0, "Predicting")
        return np.tile(self._mean, (len(places), 1)), np.tile(self._spread, (len(places), 1))

    def arrays(self) -> Arrays:
        """Return mean and standard deviation."""
        return {"mean": self._mean, "spread": self._spread}

    def restore(self, arrays: Arrays) -> None:
        """Take them back."""
        self._mean, self._spread = arrays["mean"], arrays["spread"]
