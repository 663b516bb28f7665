"""Nearest neighbours: the mean expression of the training spots that look most alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from spotscope.errors import SpotScopeError
from spotscope.methods.base import Arrays, Method, MethodSettings
from spotscope.methods.imaging import ImageSettings, cohort_features, place_features
from spotscope.methods.linear import Projection
from spotscope.methods.reading import packed, unpacked
from spotscope.methods.used_spots import UsedSpots

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.data.cohort import Cohort
    from spotscope.data.places import Places
    from spotscope.progress import Progress

AT_ONCE = 1024
"""Places compared with all training spots together; bounds the memory."""


class KnnSettings(ImageSettings):
    """Settings of `knn`."""

    neighbours: int = Field(
        default=20,
        ge=1,
        le=5000,
        title="Neighbours",
        description="How many of the training spots that look most alike are averaged.",
    )
    similarity: Literal["cosine", "euclidean"] = Field(
        default="cosine", title="Similarity", description="How alike two patches are is measured."
    )
    weights: Literal["uniform", "distance"] = Field(
        default="distance",
        title="Weights",
        description="Whether nearer spots count more (by one over the distance) or all the same.",
    )
    components: int = Field(
        default=64,
        ge=1,
        le=4096,
        title="Components",
        description="Principal components of the image features that are compared.",
    )


class KnnMethod(Method):
    """Averages the expression of the nearest training spots in feature space; learns nothing else.

    The uncertainty is the spread of their expression, of a single neighbour that over all spots.
    """

    name: ClassVar[str] = "knn"
    title: ClassVar[str] = "Nearest neighbours"
    summary: ClassVar[str] = "mean of the training spots that look most alike"
    Settings: ClassVar[type[MethodSettings]] = KnnSettings
    settings: KnnSettings

    def learn(self, cohort: Cohort, validation: Cohort | None, progress: Progress) -> None:
        """Keep the training spots' components and expression."""
        seen = cohort_features(cohort, self.encoder, self.settings, progress.part(0.0, 0.95))
        self._expression = cohort.expression(self.genes)
        self._projection = Projection.fit(seen, self.settings.components, self.settings.seed)
        self._keys = self._projection.apply(seen).astype(np.float32)
        self._sections = np.array(cohort.names)[cohort.section_of]
        self._barcodes = np.concatenate([section.barcodes for section in cohort.sections])
        progress.report(1.0, "Fitted")

    def infer(
        self, places: Places, progress: Progress
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return expression and its standard deviation, both (n, G)."""
        seen = place_features(places, self.encoder, self.settings, progress.part(0.0, 0.9))
        queries = self._projection.apply(seen).astype(np.float32)
        expression = np.empty((len(queries), len(self.genes)), np.float32)
        spread = np.empty_like(expression)
        starts = range(0, len(queries), AT_ONCE)
        for start in progress.part(0.9, 1.0).track(starts, "Comparing"):
            part = slice(start, start + AT_ONCE)
            nearest, shares = self._nearest(queries[part])
            expression[part], spread[part] = self._average(nearest, shares, progress)
        return expression, spread

    def spots_used(self, places: Places, progress: Progress) -> list[UsedSpots]:
        """Return the training spots that each place is predicted from.

        Raises
        ------
        SpotScopeError
            When the places are on a training section: its spots would find themselves.
        """
        if places.section.name in self._sections:
            raise SpotScopeError(
                f"Section '{places.section.name}' is among this model's training spots and would"
                " find itself; ask on a section that the model was not trained on."
            )
        seen = place_features(places, self.encoder, self.settings, progress.part(0.0, 0.9))
        queries = self._projection.apply(seen).astype(np.float32)
        cosine = self.settings.similarity == "cosine"
        found = []
        for query in progress.part(0.9, 1.0).track(queries, "Comparing"):
            nearest, shares = self._nearest(query[None])
            distance = self._distances(query[None])[0]
            order = np.argsort(distance[nearest[0]], kind="stable")
            who = nearest[0][order]
            expression, spread = self._average(nearest, shares, progress)
            found.append(
                UsedSpots(
                    self._sections[who],
                    self._barcodes[who],
                    1 - distance[who] if cosine else -distance[who],
                    self.settings.similarity,
                    shares[0][order],
                    self._expression[who],
                    expression[0],
                    spread[0],
                )
            )
        return found

    def _nearest(
        self, queries: NDArray[np.float32]
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Return indices of the nearest spots, and weights that sum to 1; both (n, k)."""
        distance = self._distances(queries)
        k = min(self.settings.neighbours, len(self._keys))
        nearest = np.argpartition(distance, k - 1, axis=1)[:, :k]
        # Ties and the partition's order must not decide: nearest first, then by index.
        nearest.sort(axis=1)
        held = np.take_along_axis(distance, nearest, axis=1)
        if self.settings.weights == "uniform":
            return nearest, np.full(held.shape, 1.0 / k, np.float32)
        typical = max(float(np.median(held)), 1e-6)
        shares = 1.0 / np.maximum(held, 1e-3 * typical)
        return nearest, (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)

    def _distances(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        keys = self._keys
        if self.settings.similarity == "cosine":
            return 1.0 - _unit(queries) @ _unit(keys).T
        squares = (queries**2).sum(1)[:, None] + (keys**2).sum(1) - 2 * queries @ keys.T
        return np.sqrt(np.maximum(squares, 0.0))

    def _average(
        self, nearest: NDArray[np.intp], shares: NDArray[np.float32], progress: Progress
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        expression = np.empty((len(nearest), len(self.genes)), np.float32)
        spread = np.empty_like(expression)
        alone = self._expression.std(axis=0)
        for row, (who, share) in enumerate(zip(nearest, shares, strict=True)):
            progress.check()
            known = self._expression[who]
            expression[row] = share @ known
            spread[row] = (
                np.sqrt(share @ (known - expression[row]) ** 2) if len(who) > 1 else alone
            )
        return expression, spread

    def arrays(self) -> Arrays:
        """Return the projection and the training spots."""
        return {
            "mean": self._projection.mean,
            "scale": self._projection.scale,
            "components": self._projection.components,
            "keys": self._keys,
            "expression": self._expression,
            "sections": packed(self._sections),
            "barcodes": packed(self._barcodes),
        }

    def restore(self, arrays: Arrays) -> None:
        """Take them back."""
        self._projection = Projection(arrays["mean"], arrays["scale"], arrays["components"])
        self._keys, self._expression = arrays["keys"], arrays["expression"]
        self._sections = np.array(unpacked(arrays["sections"]))
        self._barcodes = np.array(unpacked(arrays["barcodes"]))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
