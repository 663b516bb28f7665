"""What methods on frozen features share: reading a cohort's features, and inner validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spotscope.data.places import Places
from spotscope.encoders.features import pooled_features
from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from spotscope.data.cohort import Cohort
    from spotscope.encoders.base import Encoder
    from spotscope.progress import Progress

CONTEXT_UM = (250.0, 420.0)
"""Radii of the surroundings that are looked at by default: on spots 200 µm apart the first ring
of neighbours and the first two."""


def cohort_features(
    cohort: Cohort, encoder: Encoder, context_um: Sequence[float], progress: Progress
) -> NDArray[np.float32]:
    """Return the features of all spots of a cohort, its sections stacked in their order."""
    done, parts = 0, []
    for section in cohort.sections:
        after = done + section.n_spots
        share = progress.part(done / cohort.n_spots, after / cohort.n_spots)
        parts.append(pooled_features(Places.on_spots(section), encoder, context_um, share))
        done = after
    return np.concatenate(parts)


def inner_groups(cohort: Cohort) -> NDArray[np.intp]:
    """Return the group of each spot that inner validation holds out together.

    Patients; with one patient alone its sections; with one section alone four bands of its spots,
    cut along the longer axis, so that a held-out spot has few neighbours in training.
    """
    if len(cohort.patients) > 1:
        return np.unique(cohort.patient_of, return_inverse=True)[1]
    if len(cohort.sections) > 1:
        return cohort.section_of
    section = cohort.sections[0]
    if section.n_spots < 8:
        raise SpotScopeError(
            f"Section '{section.name}' has only {section.n_spots} spots, too few to learn from;"
            " add sections."
        )
    centres = np.asarray(section.centres_px)
    along = centres[:, np.ptp(centres, axis=0).argmax()]
    return np.argsort(np.argsort(along, kind="stable"), kind="stable") * 4 // len(along)


def mean_pearson(
    predicted: NDArray[np.floating], measured: NDArray[np.floating], groups: NDArray[np.intp]
) -> float:
    """Return the Pearson correlation, mean over genes and then groups; undefined counts as 0."""
    scores = []
    for group in np.unique(groups):
        a = predicted[groups == group].astype(np.float64)
        b = measured[groups == group].astype(np.float64)
        a, b = a - a.mean(axis=0), b - b.mean(axis=0)
        norm = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
        scores.append(
            np.divide((a * b).sum(axis=0), norm, out=np.zeros_like(norm), where=norm > 1e-9)
        )
    return float(np.mean(scores))
