"""Tell the subtypes of held-out spots, by what has learnt from the others alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.data.places import Places

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.data.cohort import Cohort
    from spotscope.data.labelled import LabelledSpots
    from spotscope.data.section import Section
    from spotscope.encoders.base import Encoder
    from spotscope.methods.contrastive import ContrastiveMethod
    from spotscope.methods.subtype_network import Looked
    from spotscope.methods.subtypes import SubtypeClassifier
    from spotscope.methods.subtypes_counts import CountsClassifier
    from spotscope.progress import Progress

    Classifier = SubtypeClassifier | CountsClassifier


def trained_pair(
    cohort: Cohort, encoder: str | Encoder, settings: Any, progress: Progress
) -> ContrastiveMethod:
    """Train TPIRBAE's pair on every section of a cohort."""
    from spotscope.methods.tpirbae import TpirbaeMethod

    return TpirbaeMethod(settings, encoder).fit(cohort, None, progress)


def refitting(learn: str, cohort: Cohort, encoder: str | Encoder, settings: Any) -> Any:
    """Return what trains the pair without held-out spots; it makes none where none is wanted."""
    from spotscope.data.cohort import Cohort as Made

    def again(
        spots: LabelledSpots, test: NDArray[np.bool_], progress: Progress
    ) -> ContrastiveMethod | None:
        if learn != "tpirbae":
            return None
        held = spots.of(test)
        patients = set(held.patient_of)
        others = tuple(s for s in cohort.sections if s.patient not in patients)
        if not others:  # blocks of one patient
            others = tuple(_without(section, held) for section in cohort.sections)
        return trained_pair(Made(others), encoder, settings, progress)

    return again


def _without(section: Section, held: LabelledSpots) -> Section:
    keep = np.ones(section.n_spots, bool)
    for number, other in enumerate(held.sections):
        if other.name == section.name:
            keep[held.row_of[held.section_of == number]] = False
    return section.subset(keep)


def told_of_features(
    made: SubtypeClassifier,
    whole: SubtypeClassifier,
    spots: LabelledSpots,
    looked: Looked,
    train: NDArray[np.bool_],
    test: NDArray[np.bool_],
    progress: Progress,
) -> NDArray:
    """Learn from some spots' features and tell the others'.

    A single layer is searched for from that of all spots: its optimum is one, wherever the search
    begins, so that nothing of the held-out labels is in it.
    """
    convex = whole.settings.head == "linear" and whole.frozen
    made.fit_spots(spots.of(train), looked.of(train), progress, warm=whole if convex else None)
    probabilities, _ = made.tell(looked.features[test])
    return np.array(made.classes)[probabilities.argmax(axis=1)]


def told_of_spots(classifier: Classifier, spots: LabelledSpots, progress: Progress) -> NDArray:
    """Return the (n,) subtypes that a classifier tells of spots."""
    told = np.empty(len(spots), dtype=object)
    for number, section in enumerate(spots.sections):
        mine = np.flatnonzero(spots.section_of == number)
        if len(mine):
            found = classifier.predict_subtypes(Places.on_spots(section), progress).labels
            told[mine] = found[spots.row_of[mine]]
    return told
