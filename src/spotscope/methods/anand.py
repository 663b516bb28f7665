"""Anand, Cooper and Avagyan: low-dimensional embeddings into linear, count and network regressors.

ResNet-50 features (or any encoder's) become 32 principal components a patch and 32 of the mean
over its nearest spots; the spot graph becomes 32 adjacency features; one regressor predicts all
genes. Where the published choice is a defect the default differs and `paper_compat` gives the
published one: see docs/methods/anand.md.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from spotscope.data.normalise import TARGET_SUM, library_sizes
from spotscope.data.places import Places
from spotscope.methods.anand_embedding import Embedding, Heat, heat_signature, reach_um, seen
from spotscope.methods.base import Arrays, Method, MethodSettings
from spotscope.methods.imaging import inner_groups, mean_pearson
from spotscope.methods.linear import Projection

if TYPE_CHECKING:
    from spotscope.data.cohort import Cohort
    from spotscope.progress import Progress

Floats = NDArray[np.floating]


class AnandSettings(MethodSettings):
    """What all regressors of Anand et al. share."""

    components: int = Field(
        32, ge=1, le=512, title="Components", description="Principal components of each part."
    )
    neighbours: int = Field(
        15, ge=1, le=200, title="Neighbours", description="Nearest spots that are averaged."
    )
    view: Literal["patch", "neighbourhood", "both"] = Field(
        "both",
        title="Looks at",
        description="The patch alone, the mean over its neighbourhood, or both.",
    )
    adjacency: bool = Field(
        True,
        title="Adjacency",
        description="Whether the place of a spot within the tissue's outline is told too.",
    )
    paper_compat: bool = Field(
        False,
        title="As published",
        description="The paper's inputs, per-section adjacency vectors, and counts as they are.",
    )

    PUBLISHED: ClassVar[dict[str, Any]] = {"view": "patch"}
    """What `paper_compat` means for settings that are not set themselves."""

    @model_validator(mode="before")
    @classmethod
    def _resolved(cls, content: Any) -> Any:
        """Make plain what follows from other settings, so that a saved model says what it used."""
        if isinstance(content, dict) and content.get("paper_compat"):
            return {**cls.PUBLISHED, **content}
        return content


class AnandMethod(Method):
    """Embeds the spots, then leaves the regression to a subclass."""

    Settings: ClassVar[type[MethodSettings]] = AnandSettings
    settings: AnandSettings
    LEARNT: ClassVar[tuple[str, ...]] = ("mean", "spread")
    """Arrays that `regress` leaves in attributes of these names, after an underscore."""
    _mean: Floats
    _spread: Floats

    def learn(self, cohort: Cohort, validation: Cohort | None, progress: Progress) -> None:
        """Fit the embedding on the training spots, then the regressor."""
        held = inner_groups(cohort) if validation is None else None
        reach = reach_um([Places.on_spots(s) for s in cohort.sections], self.settings.neighbours)
        trained = self._seen(cohort, reach, progress.part(0.0, 0.5))
        self._embedding = self._fit_embedding(trained, reach)
        inputs = self._inputs(trained)
        sizes = np.concatenate([library_sizes(s.counts) for s in cohort.sections])
        self._library = float(np.median(sizes[sizes > 0]))
        data = Data(inputs, self._targets(cohort), sizes / self._library, cohort)
        if validation is not None:
            shown = self._seen(validation, reach, progress.part(0.5, 0.6))
            more = np.concatenate([library_sizes(s.counts) for s in validation.sections])
            checks = Data(
                self._inputs(shown), self._targets(validation), more / self._library, validation
            )
            data = data.joined(checks)
            held = np.r_[np.full(len(inputs), -1), validation.section_of]
        assert held is not None
        predicted, tested = self.regress(data, held, progress.part(0.6, 1.0))
        measured = np.concatenate([c.expression(self.genes) for c in data.cohorts])
        if tested.any():
            missed = predicted[tested] - measured[tested]
            self._residual = np.sqrt((missed**2).mean(axis=0))
            self.scores["pearson"] = mean_pearson(
                predicted[tested], measured[tested], held[tested]
            )
        progress.report(1.0, "Fitted")

    def infer(self, places: Places, progress: Progress) -> tuple[Floats, Floats]:
        """Return expression and what held-out spots missed by, both (n, G)."""
        settings = self.settings
        own, around = seen(
            places, self.encoder, settings.neighbours, self._embedding.reach_um, progress
        )
        inputs = self._embedding.apply(own, around, places)
        expression = self.respond(inputs, places)
        return expression, np.broadcast_to(self._residual, expression.shape)

    # -- what a regressor writes

    @abstractmethod
    def regress(
        self, data: Data, held: NDArray[np.intp], progress: Progress
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Fit on the training spots.

        Parameters
        ----------
        data
            Inputs and targets of the training spots, then of the validation spots if there are.
        held
            (n,) the group that each spot is held out with; -1 is never held out.

        Returns
        -------
        Predictions (n, G) for spots while they were held out, and which spots (n,) those are.
        """

    @abstractmethod
    def respond(self, inputs: Floats, places: Places) -> Floats:
        """Return log1p of counts per 10,000 (n, G) of embedded `inputs` (n, d)."""

    def _targets(self, cohort: Cohort) -> Floats:
        return cohort.expression(self.genes)

    # -- the embedding

    def _seen(
        self, cohort: Cohort, reach: float, progress: Progress
    ) -> list[tuple[Floats, Floats, Places]]:
        found = []
        for number, section in enumerate(cohort.sections):
            part = progress.part(
                number / len(cohort.sections), (number + 1) / len(cohort.sections)
            )
            places = Places.on_spots(section)
            own, around = seen(places, self.encoder, self.settings.neighbours, reach, part)
            found.append((own, around, places))
        return found

    def _fit_embedding(
        self, trained: list[tuple[Floats, Floats, Places]], reach: float
    ) -> Embedding:
        settings = self.settings
        own, around = (np.concatenate([part[at] for part in trained]) for at in (0, 1))
        count, seed, k = settings.components, settings.seed, settings.neighbours
        heat = None
        if settings.adjacency and not settings.paper_compat:
            shown = [heat_signature(places, k, count) for *_, places in trained]
            heat = Heat.fit(np.concatenate(shown))

        def components(values: Floats) -> Projection:
            standardise = not settings.paper_compat
            return Projection.fit(values, count, seed, standardise=standardise)

        return Embedding(
            components(own) if settings.view != "neighbourhood" else None,
            components(around) if settings.view != "patch" else None,
            settings.components if settings.adjacency else 0,
            k,
            reach,
            heat,
        )

    def _inputs(self, trained: list[tuple[Floats, Floats, Places]]) -> Floats:
        return np.concatenate([self._embedding.apply(*part) for part in trained])

    # -- on disk

    def arrays(self) -> Arrays:
        """Return the embedding, the common parts and what the regressor has learnt."""
        found: Arrays = {
            "residual": self._residual,
            "reach_um": np.array(self._embedding.reach_um),
            "library": np.array(self._library),
            **{name: getattr(self, f"_{name}") for name in self.LEARNT},
        }
        if self._embedding.heat is not None:
            found |= {f"heat_{k}": v for k, v in vars(self._embedding.heat).items()}
        for name in ("patch", "pooled"):
            projection = getattr(self._embedding, name)
            if projection is not None:
                found |= {
                    f"{name}_mean": projection.mean,
                    f"{name}_scale": projection.scale,
                    f"{name}_components": projection.components,
                }
        return found

    def restore(self, arrays: Arrays) -> None:
        """Take them back."""

        def projection(name: str) -> Projection | None:
            if f"{name}_mean" not in arrays:
                return None
            return Projection(
                *(arrays[f"{name}_{part}"] for part in ("mean", "scale", "components"))
            )

        settings = self.settings
        heat = {k.removeprefix("heat_"): v for k, v in arrays.items() if k.startswith("heat_")}
        for name in self.LEARNT:
            setattr(self, f"_{name}", arrays[name])
        self._residual = arrays["residual"]
        self._library = float(arrays["library"].item())
        self._embedding = Embedding(
            projection("patch"),
            projection("pooled"),
            settings.components if settings.adjacency else 0,
            settings.neighbours,
            float(arrays["reach_um"].item()),
            Heat(**heat) if heat else None,
        )


class Data:
    """Inputs (n, d), targets (n, G) and relative library sizes (n,) of stacked sections."""

    def __init__(self, inputs: Floats, targets: Floats, sizes: Floats, *cohorts: Cohort) -> None:
        self.inputs, self.targets, self.sizes, self.cohorts = inputs, targets, sizes, cohorts

    def joined(self, other: Data) -> Data:
        """Return both, this one's spots first."""
        return Data(
            np.concatenate([self.inputs, other.inputs]),
            np.concatenate([self.targets, other.targets]),
            np.concatenate([self.sizes, other.sizes]),
            *self.cohorts,
            *other.cohorts,
        )


def folds(
    held: NDArray[np.intp],
) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Return (training, held-out) masks of each group; given validation spots are one fold."""
    if (held < 0).any():
        return [(held < 0, held >= 0)]
    return [(held != group, held == group) for group in np.unique(held)]


def training(held: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return which spots the final fit may use: all but given validation spots."""
    return held < 0 if (held < 0).any() else np.ones(len(held), dtype=bool)


def standard(inputs: Floats, rows: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return mean and spread of `inputs` over `rows`; an input that does not vary has spread 1."""
    mean, spread = inputs[rows].mean(axis=0), inputs[rows].std(axis=0)
    return mean, np.where(spread > 1e-9, spread, 1.0)


def rate_to_expression(rate: Floats, library: float) -> Floats:
    """Return log1p of counts per 10,000 from counts expected in a spot of median library."""
    return np.log1p(rate / library * TARGET_SUM)
