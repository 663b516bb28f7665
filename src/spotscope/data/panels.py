"""Gene panels, chosen on the training sections alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from spotscope.data.normalise import log_normalise_sparse
from spotscope.data.section import some
from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from spotscope.data.cohort import Cohort


class PanelSettings(BaseModel):
    """Which genes a method learns."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["variance", "mean", "markers", "file"] = Field(
        "variance",
        title="Genes",
        description="The most variable or the most expressed genes, a list, or a file of names.",
    )
    n_genes: int = Field(
        1000, ge=1, title="Number of genes", description="For 'variance' and 'mean'."
    )
    markers: list[str] = Field(
        default_factory=list,
        title="Markers",
        description="Gene names: the panel with 'markers', more genes with the first two.",
    )
    file: Path | None = Field(
        None,
        title="File of genes",
        description="Text with one gene a line (a table's first column), for 'file'.",
    )


def choose_panel(cohort: Cohort, settings: PanelSettings) -> list[str]:
    """Choose genes among those that all sections of the cohort measure.

    Pass the training sections alone: a panel ranked with the test sections leaks them.

    Raises
    ------
    SpotScopeError
        When the panel would be empty.
    """
    if settings.kind in ("variance", "mean"):
        panel = rank_genes(cohort, settings.kind)[: settings.n_genes]
        if not panel:
            raise SpotScopeError(
                "The gene panel is empty, because the sections share no gene that varies; check"
                " that they name genes alike (symbols or Ensembl numbers)."
            )
        unknown = set(unknown_markers(cohort, settings))
        further = [gene for gene in _names(settings.markers) if gene not in unknown]
        return list(dict.fromkeys([*panel, *further]))
    asked = named_genes(settings)
    unknown = set(unknown_markers(cohort, settings))
    panel = [gene for gene in asked if gene not in unknown]
    if not panel:
        raise SpotScopeError(
            f"The gene panel is empty: none of the {len(asked)} genes asked for ({some(asked)}) is"
            " measured in all sections; check the spelling."
        )
    return panel


def unknown_markers(cohort: Cohort, settings: PanelSettings) -> list[str]:
    """Return the genes of a marker list or file that not all sections measure, for a report."""
    asked = _names(settings.markers)
    if settings.kind in ("markers", "file"):
        asked = named_genes(settings)
    known = set(cohort.genes) if asked else set()
    return [gene for gene in asked if gene not in known]


def named_genes(settings: PanelSettings) -> list[str]:
    """Return the names that a marker list or file holds, each once, in their order.

    Raises
    ------
    SpotScopeError
        When there is no name, or the file cannot be read.
    """
    if settings.kind == "file":
        if settings.file is None:
            raise SpotScopeError("The gene panel is to come from a file, but no file was named.")
        try:
            lines = settings.file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SpotScopeError(
                f"The file of genes '{settings.file}' cannot be read; give a text file with one"
                " gene name a line."
            ) from error
        names = [
            line.replace(",", "\t").split("\t")[0].strip().strip('"')
            for line in lines
            if not line.startswith("#")
        ]
    else:
        names = settings.markers
    names = _names(names)
    if not names:
        raise SpotScopeError("The gene panel is empty; name at least one gene.")
    return names


def _names(entered: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in entered if name.strip()))


def rank_genes(
    cohort: Cohort, by: Literal["variance", "mean"], among: Sequence[str] | None = None
) -> list[str]:
    """Order genes by variance or mean of their log-normalised expression, highest first.

    Genes that never vary (or are never seen) are left out: nothing can be learnt or scored on
    them. Ties keep the order of the genes.

    Parameters
    ----------
    cohort
        Its spots are pooled.
    by
        What to order by.
    among
        Genes to order; None takes all that every section measures.
    """
    genes = cohort.genes if among is None else list(among)
    mean, variance = gene_moments(cohort, genes)
    value = variance if by == "variance" else mean
    return [genes[i] for i in np.argsort(-value, kind="stable") if value[i] > 0]


def gene_moments(
    cohort: Cohort, genes: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (k,) mean and variance of log-normalised expression over all spots of the cohort."""
    total = np.zeros(len(genes))
    squares = np.zeros(len(genes))
    for section in cohort.sections:
        expression = log_normalise_sparse(section.counts)[:, section.columns(genes)]
        expression = expression.astype(np.float64)
        total += np.asarray(expression.sum(axis=0)).ravel()
        squares += np.asarray(expression.multiply(expression).sum(axis=0)).ravel()
    mean = total / cohort.n_spots
    # A gene that is the same in every spot must not count as varying through rounding.
    variance = squares / cohort.n_spots - mean**2
    return mean, np.where(variance > 1e-12 * (1 + mean**2), variance, 0.0)
