"""What a method predicts, and in what relation the section stood to its training."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from spotscope.data.places import Places
    from spotscope.data.section import Section

Protocol = Literal["held-out patient", "held-out section", "trained on this section"]


@dataclass
class Prediction:
    """Predicted expression at places of one section.

    Attributes
    ----------
    genes
        Names of the G columns.
    expression
        (n, G) float32, log1p of counts per 10,000.
    uncertainty
        Standard deviation in the same unit, (n, G) or (n, 1), or None.
    places
        The n places.
    provenance
        What made it, as JSON: `method`, `title`, `encoder`, `model`, `training_sections` and
        `training_patients` (lists of names), `versions`, and what else the method knows.
    """

    genes: list[str]
    expression: NDArray[np.float32]
    uncertainty: NDArray[np.float32] | None
    places: Places
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.genes = [str(gene) for gene in self.genes]
        self.expression = np.asarray(self.expression, np.float32)
        shape = (len(self.places), len(self.genes))
        if self.expression.shape != shape:
            raise ValueError(f"expression is {self.expression.shape}, not {shape}")
        if self.uncertainty is not None:
            self.uncertainty = np.asarray(self.uncertainty, np.float32)
            if self.uncertainty.shape not in (shape, (shape[0], 1)):
                raise ValueError(f"uncertainty is {self.uncertainty.shape}, not {shape}")

    def columns(self, genes: Sequence[str]) -> NDArray[np.float32]:
        """Return (n, k) float32 of some of the genes, in the order asked.

        Raises
        ------
        SpotScopeError
            When a gene was not predicted.
        """
        place = {gene: i for i, gene in enumerate(self.genes)}
        absent = [gene for gene in genes if gene not in place]
        if absent:
            raise SpotScopeError(f"The model does not predict {', '.join(absent[:5])}.")
        return self.expression[:, [place[gene] for gene in genes]]


def protocol_of(provenance: dict[str, Any], section: Section) -> Protocol:
    """Say in what relation a section stood to a model's training.

    A patient whose other sections were trained on is no stranger to the model: the scores of such
    a section are higher than those of a new patient, so the two are told apart wherever a
    prediction is shown.
    """
    if section.name in provenance.get("training_sections", ()):
        return "trained on this section"
    if section.patient in provenance.get("training_patients", ()):
        return "held-out section"
    return "held-out patient"


def made_with(provenance: dict[str, Any]) -> str:
    """Say method and encoder in a few words; of an encoder in a file, the file's name alone."""
    method, encoder = (
        provenance.get("title") or provenance.get("method"),
        provenance.get("encoder"),
    )
    kind, _, path = str(encoder or "").partition(":")
    if kind in ("local", "features"):
        encoder = PurePath(path.partition("#")[0]).stem
    return " on ".join(str(part) for part in (method, encoder) if part)


def flattery(protocol: str, section: Section) -> str | None:
    """Return a sentence on why a prediction's scores there flatter it; None where they do not."""
    if protocol == "trained on this section":
        return f"The model was trained on {section.name} itself, so its errors there say nothing."
    if protocol == "held-out section":
        return (
            f"The model was trained on other sections of the patient of {section.name}; a new"
            " patient is predicted less well."
        )
    return None
