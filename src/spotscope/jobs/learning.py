"""Learn subtypes from labels, validate them on held-out ones, and tell them of sections."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spotscope.data.places import Places
from spotscope.errors import SpotScopeError
from spotscope.jobs.held_out import refitting, told_of_features, told_of_spots, trained_pair
from spotscope.jobs.opening import as_section
from spotscope.jobs.training import check_new, check_writable
from spotscope.progress import Progress

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from spotscope.data.cohort import Cohort
    from spotscope.data.labelled import LabelledSpots
    from spotscope.data.section import Section
    from spotscope.data.subtype_map import SubtypeMap
    from spotscope.encoders.base import Encoder
    from spotscope.methods.base import Method
    from spotscope.methods.contrastive import ContrastiveMethod
    from spotscope.methods.subtypes import SubtypeClassifier
    from spotscope.methods.subtypes_counts import CountsClassifier

    Classifier = SubtypeClassifier | CountsClassifier
    Given = Section | str | os.PathLike[str]
    Labels = Mapping[str, NDArray[np.object_]]

_COUNTS_REACH_UM = 0.0  # a spot's counts are its own; the margin of 1.5 pitches holds


def learn_subtypes(
    sections: Sequence[Given],
    out: str | os.PathLike[str],
    *,
    labels: Labels | None = None,
    exclude: Collection[str] = (),
    encoder: str | Encoder = "auto",
    settings: Any = None,
    learn: Literal["image", "tpirbae"] = "image",
    after: ContrastiveMethod | str | os.PathLike[str] | None = None,
    pair_settings: Any = None,
    warm: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Learn subtypes from the image of labelled spots, and keep the classifier as a folder.

    Its validation is on labels that were held out: patients if several are labelled, else blocks
    of tissue; the classifier that is kept has learnt from all of them.

    Parameters
    ----------
    sections
        Open, or paths; those without labels serve a pair alone.
    out
        Folder of the classifier to make; `warm`'s own folder is replaced.
    labels
        By section name, (n,) subtypes with None where there is none, in place of what the
        sections hold.
    exclude
        Classes that are not learnt.
    encoder
        Of the image, see `get_encoder`.
    settings
        Of the classifier, `SubtypeSettings` or a dict.
    learn
        "tpirbae" trains a contrastive pair on the sections' counts and labels first, and anew for
        every held-out patient; "image" goes without.
    after
        A trained contrastive method, or its folder, to go on from.
    pair_settings
        Of the pair, where one is trained.
    warm
        The folder of an earlier classifier, which is gone on with: a retraining after some more
        labels is short.
    progress
        Reports and cancels; nothing is written before the end.

    Raises
    ------
    SpotScopeError
        When fewer than two subtypes are labelled, or a name or a setting is wrong.
    """
    from spotscope.data.labelled import LabelledSpots
    from spotscope.evaluate.validation import validate
    from spotscope.methods.subtype_network import check_classes
    from spotscope.methods.subtypes import SubtypeClassifier

    progress, out = progress or Progress(), Path(out)
    earlier = None if warm is None else _earlier(warm)
    if warm is None or out.resolve() != Path(warm).resolve():
        check_new(out)
    cohort = _cohort(sections, labels, exclude)
    spots = LabelledSpots.among(cohort)
    check_classes(spots.classes)
    progress.report(0.0, f"Learning {len(spots.classes)} subtypes from {len(spots):,} spots")
    pair = as_pair(after) if after is not None else None
    # A pair is trained again without each part that is held out, which takes most of the time.
    begun, looking = (0.2, 0.05) if learn == "tpirbae" else (0.0, 0.5)
    if learn == "tpirbae":
        pair = trained_pair(cohort, encoder, pair_settings, progress.part(0.0, begun))

    def fresh(gone_on: ContrastiveMethod | None = pair) -> SubtypeClassifier:
        return SubtypeClassifier(settings, encoder, gone_on)

    classifier = fresh()
    half = begun + looking
    looked = classifier.look(spots, progress.part(begun, half))
    classifier.fit_spots(spots, looked, progress.part(half, half + 0.05), warm=earlier)
    rest = progress.part(half + 0.05, 0.98)
    again = refitting(learn, cohort, encoder, pair_settings)

    def tell(train: NDArray[np.bool_], test: NDArray[np.bool_], part: Progress) -> NDArray:
        if looked is not None and learn == "image":
            return told_of_features(fresh(), classifier, spots, looked, train, test, part)
        made = fresh(again(spots, test, part.part(0.0, 0.7)))
        known = spots.of(train)
        made.fit_spots(known, made.look(known, part.part(0.7, 0.75)), part.part(0.75, 0.9))
        return told_of_spots(made, spots.of(test), part.part(0.9, 1.0))

    reach_um = classifier.provenance.patch_um
    classifier.validation = validate(spots, tell, reach_um, rest).as_dict()
    if after is not None:
        classifier.validation["notes"] += _seen_by_pair(classifier, spots)
    progress.check()
    classifier.save(out)
    progress.report(1.0, "Learnt")
    return out


def learn_from_counts(
    sections: Sequence[Given],
    out: str | os.PathLike[str],
    *,
    labels: Labels | None = None,
    exclude: Collection[str] = (),
    settings: Any = None,
    progress: Progress | None = None,
) -> Path:
    """Learn subtypes from counts with scANVI, and keep the classifier as a folder.

    Every spot of the sections teaches the latent space, labelled or not. Validated as
    `learn_subtypes`, except that the counts of held-out spots are learnt from: completing labels
    is what it is for.

    Parameters
    ----------
    settings
        `CountsSettings` or a dict; the others as in `learn_subtypes`.

    Raises
    ------
    SpotScopeError
        When fewer than two subtypes are labelled, there are no raw counts, or a setting is wrong.
    """
    from spotscope.data.labelled import LabelledSpots
    from spotscope.evaluate.validation import validate
    from spotscope.methods.subtypes_counts import CountsClassifier

    progress, out = progress or Progress(), Path(out)
    check_new(out)
    cohort = _cohort(sections, labels, exclude)
    spots = LabelledSpots.among(cohort)
    classifier = CountsClassifier(settings).fit(cohort, progress.part(0.0, 0.5))
    starts = np.cumsum([0, *(section.n_spots for section in cohort.sections)])
    first = {s.name: starts[i] for i, s in enumerate(cohort.sections)}
    position = np.array([first[s.name] for s in spots.sections])[spots.section_of] + spots.row_of

    def tell(train: NDArray[np.bool_], test: NDArray[np.bool_], part: Progress) -> NDArray:
        made = classifier.going_on().fit(cohort, part, hidden=position[~train])
        return told_of_spots(made, spots.of(test), part)

    rest = progress.part(0.5, 0.98)
    classifier.validation = validate(spots, tell, _COUNTS_REACH_UM, rest).as_dict()
    classifier.validation["notes"].append("The counts of held-out spots were learnt from.")
    progress.check()
    classifier.save(out)
    progress.report(1.0, "Learnt")
    return out


def tell_subtypes(
    model: Classifier | str | os.PathLike[str],
    section: Given,
    *,
    stride_um: float | None = None,
    on_grid: bool = True,
    progress: Progress | None = None,
) -> tuple[SubtypeMap | None, SubtypeMap | None]:
    """Return the subtypes of the section's spots and of a grid over its tissue; nothing is kept.

    Raises
    ------
    SpotScopeError
        When the classifier cannot serve the section.
    """
    from spotscope.methods.subtypes import SubtypeClassifier

    progress, classifier, opened = (
        progress or Progress(),
        as_classifier(model),
        as_section(section),
    )
    from_image = isinstance(classifier, SubtypeClassifier)
    if not from_image and not opened.has_spots:
        opened.measured()
    spots = Places.on_spots(opened) if opened.has_spots else None
    grid = Places.on_grid(opened, stride_um) if from_image and (on_grid or not spots) else None
    total = sum(len(part) for part in (spots, grid) if part is not None)
    share = len(spots) / max(total, 1) if spots is not None else 0.0
    told_spots = told_grid = None
    if spots is not None:
        told_spots = classifier.predict_subtypes(spots, progress.part(0.0, share))
    if grid is not None:
        told_grid = classifier.predict_subtypes(grid, progress.part(share, 1.0))
    return told_spots, told_grid


def predict_subtypes(
    model: Classifier | str | os.PathLike[str],
    section: Given,
    *,
    stride_um: float | None = None,
    on_grid: bool = True,
    out: str | os.PathLike[str] | None = None,
    replaces: str | None = None,
    progress: Progress | None = None,
) -> str:
    """Tell the subtypes of a section and keep them in its store.

    Parameters
    ----------
    model
        A trained classifier, or its folder.
    stride_um
        Of the grid; None takes half the spot pitch.
    on_grid
        False tells the spots alone, as one that learnt from counts always does.
    out
        Where to keep a slide that has no store yet.
    replaces
        Id of an earlier run, which is removed once the new one is there.

    Returns
    -------
    The id of the run, which `list_subtype_runs` knows.

    Raises
    ------
    SpotScopeError
        When the classifier cannot serve the section, there is no store, or it cannot be written.
    """
    from spotscope.data.runs import new_run_id
    from spotscope.data.subtype_runs import remove_subtypes, write_subtypes
    from spotscope.jobs.predicting import with_store

    progress, classifier = progress or Progress(), as_classifier(model)
    place = with_store(as_section(section), out, progress.part(0.0, 0.02))
    maps = tell_subtypes(
        classifier, place, stride_um=stride_um, on_grid=on_grid, progress=progress.part(0.02, 0.9)
    )
    encoder = classifier.provenance.encoder
    run_id = new_run_id(place, classifier.name, encoder)
    write_subtypes(place, run_id, *maps, classifier.record(), progress.part(0.9, 1.0))
    if replaces is not None:
        remove_subtypes(place, replaces)
    return run_id


def as_classifier(model: Classifier | str | os.PathLike[str]) -> Classifier:
    """Return a trained classifier; a folder is loaded.

    Raises
    ------
    SpotScopeError
        When the folder holds none.
    """
    from spotscope.methods.base import read_record
    from spotscope.methods.subtypes import SubtypeClassifier
    from spotscope.methods.subtypes_counts import CountsClassifier

    if isinstance(model, (SubtypeClassifier, CountsClassifier)):
        return model
    kind = read_record(Path(model))["method"]
    loader = CountsClassifier if kind == CountsClassifier.name else SubtypeClassifier
    return loader.load(model)  # type: ignore[arg-type]


def as_pair(model: Method | str | os.PathLike[str]) -> ContrastiveMethod:
    """Return a trained contrastive method; a folder is loaded.

    Raises
    ------
    SpotScopeError
        When it is of another kind.
    """
    from spotscope.methods.base import Method, load_method
    from spotscope.methods.contrastive import ContrastiveMethod

    found = model if isinstance(model, Method) else load_method(Path(model))
    if not isinstance(found, ContrastiveMethod):
        raise SpotScopeError(
            f"'{found.name}' trains no image side that a classifier could go on from; choose clip,"
            " bleep, mclstexp or tpirbae."
        )
    return found


# -- inside


def _cohort(sections: Sequence[Given], labels: Labels | None, exclude: Collection[str]) -> Cohort:
    """Return the sections with spots, with the labels to learn from."""
    from spotscope.data.cohort import Cohort
    from spotscope.data.labelled import relabelled

    opened = [as_section(section) for section in sections]
    measured = [section for section in opened if section.has_spots] or opened
    for section in measured:
        section.measured()
    return Cohort(tuple(relabelled(section, labels, exclude) for section in measured))


def _earlier(folder: str | os.PathLike[str]) -> SubtypeClassifier:
    from spotscope.methods.subtypes import SubtypeClassifier

    check_writable(Path(folder).parent)
    return SubtypeClassifier.load(Path(folder))


def _seen_by_pair(classifier: SubtypeClassifier, spots: LabelledSpots) -> list[str]:
    from spotscope.data.section import some

    pair = classifier.pretrained
    assert pair is not None
    both = sorted(set(spots.patient_of.tolist()) & set(pair.provenance.training_patients))
    if not both:
        return []
    return [
        f"The pair that was gone on from had been trained on {some(both)} too, so the figures"
        " flatter."
    ]
