"""What methods on frozen features share: reading a cohort's features, and inner validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, field_validator

from spotscope.data.places import Places
from spotscope.encoders.features import pooled_features
from spotscope.errors import SpotScopeError
from spotscope.methods.base import MethodSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.data.cohort import Cohort
    from spotscope.encoders.base import Encoder
    from spotscope.progress import Progress

CONTEXT_UM = (250.0, 420.0)
"""Radii of the surroundings that are looked at by default: on spots 200 µm apart the first ring
of neighbours and the first two."""


class ImageSettings(MethodSettings):
    """Settings of a method on frozen image features."""

    context_um: tuple[float, ...] = Field(
        default=CONTEXT_UM,
        title="Surroundings (µm)",
        description="Radii over which the tissue around a place is averaged in; none for the"
        " patch alone.",
    )
    even_staining: bool = Field(
        default=True,
        title="Even out the staining",
        description="Compare each place with the mean of its own slide's tissue, so that slides"
        " that are stained or scanned differently can be learnt from together.",
    )

    @field_validator("context_um")
    @classmethod
    def _of_length(cls, radii: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < radius <= 5000 for radius in radii):
            raise ValueError("radii lie above 0 and up to 5000 µm")
        return radii


def place_features(
    places: Places, encoder: Encoder, settings: ImageSettings, progress: Progress
) -> NDArray[np.float32]:
    """Return what a method with `settings` sees at each place, (n, p)."""
    radii, centred = settings.context_um, settings.even_staining
    return pooled_features(places, encoder, radii, progress, centred=centred)


def cohort_features(
    cohort: Cohort, encoder: Encoder, settings: ImageSettings, progress: Progress
) -> NDArray[np.float32]:
    """Return what a method sees at all spots of a cohort, its sections stacked in their order."""
    done, parts = 0, []
    for section in cohort.sections:
        after = done + section.n_spots
        share = progress.part(done / cohort.n_spots, after / cohort.n_spots)
        parts.append(place_features(Places.on_spots(section), encoder, settings, share))
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
