"""Subtypes from counts: scANVI completes the labels of measured spots.

All spots of the sections teach the latent space, labelled or not ("Unknown"); the labelled ones
teach the classes as well. It tells subtypes where counts were measured, so never on a grid.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from spotscope.data.labelled import LabelledSpots
from spotscope.data.subtype_map import SubtypeMap
from spotscope.errors import SpotScopeError
from spotscope.methods.familiarity import Familiarity
from spotscope.methods.latent import (
    UNKNOWN,
    LatentSettings,
    LatentSpace,
    cohort_labels,
    frozen,
)
from spotscope.methods.provenance import Provenance, now, versions
from spotscope.methods.subtype_files import read_classifier, write_classifier
from spotscope.methods.subtype_network import check_classes
from spotscope.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from spotscope.data.cohort import Cohort
    from spotscope.data.places import Places
    from spotscope.methods.base import Arrays


class CountsSettings(BaseModel):
    """How subtypes are learnt from counts."""

    model_config = ConfigDict(extra="forbid")

    n_genes: int = Field(2000, ge=2, title="Genes", description="The most variable ones.")
    width: int = Field(30, ge=1, title="Latent", description="Numbers of a latent spot.")
    epochs: int = Field(40, ge=1, title="Epochs", description="Passes of scVI over all spots.")
    label_epochs: int = Field(
        20, ge=1, title="Label epochs", description="Further passes of scANVI with the labels."
    )
    likelihood: Literal["zinb", "nb"] = Field(
        "zinb",
        title="Counts",
        description="Negative binomial, with more zeros (zinb) or without (nb).",
    )
    label_weight: float = Field(
        50.0, gt=0, title="Labels", description="Weight of the labels beside the counts."
    )
    seed: int = Field(0, ge=0, title="Seed", description="The same seed, the same classifier.")
    device: str = Field("auto", title="Device", description="auto, cpu or cuda.")


class CountsClassifier:
    """Learns subtypes from the counts of sections, some of whose spots are labelled.

    Parameters
    ----------
    settings
        Or a dict of them.
    """

    name: ClassVar[str] = "subtypes-counts"
    title: ClassVar[str] = "Subtypes from counts (scANVI)"

    def __init__(self, settings: CountsSettings | dict[str, Any] | None = None) -> None:
        self.settings = CountsSettings.model_validate(settings or {})
        self.provenance = Provenance(self.name, self.title)
        self.notes: list[str] = []
        self.validation: dict[str, Any] | None = None
        self.space: LatentSpace
        self.known: Familiarity
        self._scvi: Any = None  # what further labels go on from
        self._genes: list[str] = []
        self._counts: Any = None

    @property
    def classes(self) -> list[str]:
        """K names, sorted; none before the training."""
        return sorted(self.space.classes) if hasattr(self, "space") else []

    def fit(
        self, cohort: Cohort, progress: Progress | None = None, hidden: NDArray | None = None
    ) -> Self:
        """Learn from all spots of `cohort`; one that learnt from it before goes on from there.

        Parameters
        ----------
        hidden
            (n,) spots of the cohort whose labels are not to be told.

        Raises
        ------
        SpotScopeError
            When fewer than two subtypes are labelled, or the counts are none.
        """
        from scipy import sparse

        from spotscope.data.panels import PanelSettings, choose_panel
        from spotscope.methods.latent_training import learn_scanvi, learn_scvi

        progress, settings = progress or Progress(), self.latent_settings()
        check_classes(LabelledSpots.among(cohort).classes)
        labels = cohort_labels(cohort)
        if hidden is not None:
            labels[hidden] = UNKNOWN
        share = 0.0
        if self._scvi is None:
            share = 0.6
            panel = PanelSettings.model_validate({"n_genes": self.settings.n_genes})
            self._genes = choose_panel(cohort, panel)
            self._counts = sparse.vstack(
                [s.counts[:, s.columns(self._genes)] for s in cohort.sections], "csr"
            )
            part = progress.part(0.0, share)
            self._scvi = learn_scvi(self._counts, cohort.patient_of, settings, part)
        model = learn_scanvi(self._scvi, labels, settings, progress.part(share, 0.95))
        self.space = frozen(model, "scanvi", self._genes, settings, cohort.patients)
        means = self.space.encode(self._counts)[0][labels != UNKNOWN]
        self.known = Familiarity.learn(means, settings.seed, progress.part(0.95, 1.0))
        self.provenance = Provenance(
            self.name,
            self.title,
            training_sections=sorted(cohort.names),
            training_patients=cohort.patients,
            n_spots=int(np.count_nonzero(labels != UNKNOWN)),
            seed=settings.seed,
            versions=versions(("spotscope", "numpy", "torch", "scvi-tools")),
            created=now(),
        )
        return self

    def going_on(self) -> CountsClassifier:
        """Return one that shares what was learnt of the counts, for other labels."""
        made = CountsClassifier(self.settings)
        made._scvi, made._genes, made._counts = self._scvi, self._genes, self._counts
        return made

    def latent_settings(self) -> LatentSettings:
        """Return the settings of the latent space."""
        said = self.settings.model_dump()
        del said["n_genes"]
        return LatentSettings(**said)

    def predict_subtypes(self, places: Places, progress: Progress | None = None) -> SubtypeMap:
        """Return the probability of each class of the spots, from their counts.

        Raises
        ------
        SpotScopeError
            When the places are not the section's spots, or genes are missing.
        """
        progress, section = progress or Progress(), places.section
        if places.grid is not None or len(places) != section.n_spots:
            raise SpotScopeError(
                "Subtypes from counts are told of measured spots alone; learn them from the image"
                " to tell them on a grid."
            )
        progress.report(0.0, f"Telling the subtypes of {section.name} from counts")
        counts = section.counts[:, section.columns(self.space.genes)]
        means = self.space.encode(counts)[0]
        order = [self.space.classes.index(name) for name in self.classes]
        probabilities = np.ascontiguousarray(self.space.tell(means)[:, order])
        return SubtypeMap(
            self.classes, probabilities, self.known.distance(means, progress), places
        )

    def record(self) -> dict[str, Any]:
        """Return where the classifier comes from, its classes and its validation, for JSON."""
        return {
            **dataclasses.asdict(self.provenance),
            "classes": self.classes,
            "space": self.space.record(),
            "validation": self.validation,
        }

    def save(self, folder: str | Path) -> None:
        """Write the classifier to a folder: safetensors and JSON."""
        if not self.classes:
            raise SpotScopeError("The classifier is not trained yet; train it or load one first.")
        weights: Arrays = {f"latent.{k}": v for k, v in self.space.weights.items()}
        write_classifier(folder, {**weights, **self.known.arrays()}, self.settings, self.record())

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a classifier from a folder.

        Raises
        ------
        SpotScopeError
            When it is no such classifier, of a newer version, or not whole.
        """
        with read_classifier(folder, cls.name) as (settings, record, arrays):
            found = cls(json.loads(settings))
            found.provenance = Provenance.of_record(record)
            found.validation = record.get("validation")
            weights = {
                k.removeprefix("latent."): v for k, v in arrays.items() if k.startswith("latent.")
            }
            found.space = LatentSpace.from_record(record["space"], weights)
            found.known = Familiarity.restored(arrays)
        return found
