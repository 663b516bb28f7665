"""Many sections grouped by patient, and how they are split to score a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spotscope.data.section import Section, some
from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Cohort:
    """Sections with spots, in a fixed order.

    Raises
    ------
    SpotScopeError
        When there is no section, one has no spots, or two have the same name.
    """

    sections: tuple[Section, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sections", tuple(self.sections))
        if not self.sections:
            raise SpotScopeError("No section was given; name at least one.")
        names = [section.name for section in self.sections]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SpotScopeError(
                f"Two sections have the same name ({some(twice)}); import one of them again under"
                " another name, with --name."
            )
        if bare := [section.name for section in self.sections if not section.has_spots]:
            raise SpotScopeError(
                f"No spots are known for {some(bare)}, so there is nothing to learn from or to"
                " compare with; leave it out or import it together with its counts."
            )

    @property
    def names(self) -> list[str]:
        """Names of the sections."""
        return [section.name for section in self.sections]

    @property
    def patients(self) -> list[str]:
        """The patients, each once, sorted."""
        return sorted({section.patient for section in self.sections})

    @property
    def n_spots(self) -> int:
        """Number of spots of all sections."""
        return sum(section.n_spots for section in self.sections)

    @property
    def genes(self) -> list[str]:
        """Genes that every section measures, in the order of the first section."""
        shared = set.intersection(*(set(section.genes) for section in self.sections))
        return [str(gene) for gene in self.sections[0].genes if gene in shared]

    @property
    def section_of(self) -> NDArray[np.intp]:
        """(n,) index into `sections` of each spot."""
        sizes = [section.n_spots for section in self.sections]
        return np.repeat(np.arange(len(sizes)), sizes)

    @property
    def patient_of(self) -> NDArray[np.str_]:
        """(n,) patient of each spot."""
        return np.array([section.patient for section in self.sections])[self.section_of]

    def expression(self, genes: Sequence[str]) -> NDArray[np.float32]:
        """Return (n, k) log1p of counts per 10,000, the sections stacked in their order.

        Raises
        ------
        SpotScopeError
            When a section does not measure one of the genes.
        """
        return np.concatenate([section.expression(genes) for section in self.sections])


@dataclass(frozen=True)
class Fold:
    """What is trained on and what is held out.

    Attributes
    ----------
    name
        The held-out patient or section.
    train, test
        Disjoint sections.
    warning
        A sentence for the output when the score will flatter; empty otherwise.
    """

    name: str
    train: Cohort
    test: Cohort
    warning: str = ""


def folds_by_patient(cohort: Cohort) -> list[Fold]:
    """Hold each patient out in turn, with all its sections.

    Raises
    ------
    SpotScopeError
        When all sections are of one patient.
    """
    if len(cohort.patients) < 2:
        raise SpotScopeError(
            f"All sections are of one patient ({cohort.patients[0]}), so no patient can be held"
            " out; add sections of another patient or use --split section."
        )
    return [
        Fold(
            patient,
            Cohort(tuple(s for s in cohort.sections if s.patient != patient)),
            Cohort(tuple(s for s in cohort.sections if s.patient == patient)),
        )
        for patient in cohort.patients
    ]


def folds_by_section(cohort: Cohort) -> list[Fold]:
    """Hold each section out in turn; a fold warns when its patient is trained on.

    Raises
    ------
    SpotScopeError
        When there is one section alone.
    """
    if len(cohort.sections) < 2:
        raise SpotScopeError(
            f"'{cohort.names[0]}' is the only section, so it cannot be held out; add another."
        )
    folds = []
    for held in cohort.sections:
        train = Cohort(tuple(s for s in cohort.sections if s is not held))
        known = held.patient in train.patients
        warning = (
            f"Section '{held.name}' was scored by a model that was trained on other sections of"
            f" patient {held.patient}; a new patient will score lower."
        )
        folds.append(Fold(held.name, train, Cohort((held,)), warning if known else ""))
    return folds


def filter_spots(
    section: Section, *, min_counts: int = 0, min_genes: int = 0, labelled: bool = False
) -> Section:
    """Return the section with the spots that are fit to learn from.

    Parameters
    ----------
    section
        With spots.
    min_counts
        Least counts of a spot over all genes.
    min_genes
        Least genes seen in a spot.
    labelled
        Keep labelled spots alone.

    Raises
    ------
    SpotScopeError
        When no spot is left.
    """
    counts = section.counts
    keep = np.asarray(counts.sum(axis=1)).ravel() >= min_counts
    keep &= np.diff(counts.indptr) >= min_genes
    if labelled:
        labels = section.labels
        keep &= False if labels is None else labels.codes >= 0
    if not keep.any():
        raise SpotScopeError(
            f"No spot of section '{section.name}' passes the filter (at least {min_counts} counts"
            f" and {min_genes} genes{', labelled' if labelled else ''}); lower it."
        )
    return section if keep.all() else section.subset(keep)
