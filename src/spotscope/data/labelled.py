"""The labelled spots of sections, and how to tell them apart into training and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spotscope.data.cohort import Cohort
from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import ArrayLike, NDArray

    from spotscope.data.section import Section


@dataclass(frozen=True)
class LabelledSpots:
    """Labelled spots of some sections, in the order of the sections and of their spots.

    Attributes
    ----------
    sections
        Those with a labelled spot.
    section_of
        (n,) index into `sections`.
    row_of
        (n,) index of the spot in its section.
    labels
        (n,) subtypes.
    """

    sections: tuple[Section, ...]
    section_of: NDArray[np.intp]
    row_of: NDArray[np.intp]
    labels: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def among(cls, cohort: Cohort) -> LabelledSpots:
        """Return the labelled spots of `cohort`.

        Raises
        ------
        SpotScopeError
            When there is none.
        """
        sections, rows, labels = [], [], []
        for section in cohort.sections:
            found = section.labels
            if found is not None and (at := np.flatnonzero(found.codes >= 0)).size:
                sections.append(section)
                rows.append(at)
                names = np.array([str(name) for name in found.categories])
                labels.append(names[found.codes[at]])
        if not sections:
            raise SpotScopeError(
                "No spot of these sections has a subtype; import labels with the sections, or draw"
                " regions and save them as labels."
            )
        section_of = np.repeat(np.arange(len(sections)), [len(at) for at in rows])
        return cls(tuple(sections), section_of, np.concatenate(rows), np.concatenate(labels))

    def of(self, keep: ArrayLike) -> LabelledSpots:
        """Return those that a mask or indices choose; `sections` stay."""
        keep = np.asarray(keep)
        return LabelledSpots(
            self.sections, self.section_of[keep], self.row_of[keep], self.labels[keep]
        )

    @property
    def patient_of(self) -> NDArray[np.str_]:
        """(n,) patient of each spot."""
        return np.array([section.patient for section in self.sections])[self.section_of]

    @property
    def classes(self) -> list[str]:
        """The subtypes, each once, sorted."""
        return [str(name) for name in np.unique(self.labels)]

    def cohort(self) -> Cohort:
        """Return the sections with these spots alone; sections without any are left out."""
        parts = []
        for number, section in enumerate(self.sections):
            rows = self.row_of[self.section_of == number]
            if len(rows):
                parts.append(section if len(rows) == section.n_spots else section.subset(rows))
        return Cohort(tuple(parts))


def relabelled(
    section: Section,
    labels: Mapping[str, NDArray[np.object_]] | None,
    exclude: Collection[str] = (),
) -> Section:
    """Return the section with other labels, or some of them left out; the given one stays.

    Parameters
    ----------
    labels
        By section name, (n,) subtypes with None where there is none; sections that are not named
        are without labels. None keeps the section's own.
    exclude
        Classes whose spots are to count as unlabelled.

    Raises
    ------
    SpotScopeError
        When there are not as many labels as spots.
    """
    import pandas as pd
    from anndata import AnnData

    from spotscope.data.section import SUBTYPE
    from spotscope.data.section import Section as Made

    if labels is None and not exclude:
        return section
    spots = section.measured()
    if labels is None:
        found = pd.Series(spots.obs.get(SUBTYPE), index=spots.obs_names, dtype=object)
    else:
        given = labels.get(section.name)
        if given is not None and len(given) != spots.n_obs:
            raise SpotScopeError(
                f"There are {len(given)} labels for the {spots.n_obs} spots of section"
                f" '{section.name}'; give one for each spot, None where there is none."
            )
        found = pd.Series(given, index=spots.obs_names, dtype=object)
    found = found.where(found.notna() & ~found.isin([*exclude, ""]), None)
    copy = AnnData(
        spots.X,
        obs=spots.obs.assign(**{SUBTYPE: pd.Categorical(found)}),
        var=spots.var,
        obsm={"spatial": spots.obsm["spatial"]},
        uns=spots.uns,
    )
    return Made(
        section.name,
        section.patient,
        section.slide,
        copy,
        section.spot_diameter_um,
        section.store,
        section.notes,
    )
