"""How well a classifier tells labels that were held out: patients, or else blocks of tissue.

Spots chosen at random would flatter: a spot's neighbours look like it and share its patch. So a
whole patient is held out where there are several, and else a fifth of the blocks of a chequered
section, while what lies within a margin around the held-out spots is not learnt from either.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spotscope.data.places import spot_pitch_px
from spotscope.data.section import some
from spotscope.evaluate.subtypes import METRICS, subtype_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from spotscope.data.labelled import LabelledSpots
    from spotscope.data.section import Section
    from spotscope.progress import Progress

    Tell = Callable[[NDArray[np.bool_], NDArray[np.bool_], Progress], Sequence[str] | NDArray]

By = Literal["patients", "blocks", "none"]
CLASSIFIER, MAJORITY = "classifier", "majority"
FOLDS = 5
MARGIN_PITCHES = 1.5
"""Around held-out spots, at least; a patch's width where that is more."""
BLOCKS = (6, 4, 3, 2)
"""Edges of a block in margins: the largest that gives enough blocks."""
_ENOUGH = 2 * FOLDS


@dataclass(frozen=True)
class LabelFold:
    """What is held out: a patient, or some blocks.

    Attributes
    ----------
    name
        Of the patient, or "blocks 1".
    train, test
        (n,) masks of labelled spots, disjoint.
    """

    name: str
    train: NDArray[np.bool_]
    test: NDArray[np.bool_]


@dataclass(frozen=True)
class Validation:
    """Scores on labels that were held out.

    Attributes
    ----------
    by
        What was held out.
    protocol
        The same in a sentence.
    classes
        K names that were scored.
    n_spots
        Held-out spots in all.
    scores
        Of "classifier" and "majority" (the commonest class of what was trained on):
        accuracy, balanced_accuracy, macro_f1 and macro_f1_present, over all held-out spots.
    confusion
        (K, K) spots; rows are the annotated classes, columns the told ones.
    notes
        Sentences: what could not be validated, and why.
    """

    by: By
    protocol: str
    classes: list[str] = field(default_factory=list)
    n_spots: int = 0
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Validation:
        """Take it back."""
        return cls(**content)


def validate(spots: LabelledSpots, tell: Tell, reach_um: float, progress: Progress) -> Validation:
    """Hold labels out in turn and score what is told of them.

    Parameters
    ----------
    tell
        Given masks (n,) of the labels to learn from and of the spots to tell, returns the labels
        told of the latter.
    reach_um
        How far a place looks: the width of a patch.
    """
    by, folds, notes = label_folds(spots, reach_um)
    if not folds:
        return Validation("none", "Nothing could be held out.", notes=notes)
    true: list[str] = []
    told: dict[str, list[str]] = {CLASSIFIER: [], MAJORITY: []}
    for number, fold in enumerate(folds):
        part = progress.part(number / len(folds), (number + 1) / len(folds))
        part.report(0.0, f"Validating on {fold.name}")
        true += spots.labels[fold.test].tolist()
        told[CLASSIFIER] += [str(name) for name in tell(fold.train, fold.test, part)]
        commonest = Counter(sorted(spots.labels[fold.train].tolist())).most_common(1)[0][0]
        told[MAJORITY] += [commonest] * int(fold.test.sum())
    classes = sorted({*true, *told[CLASSIFIER], *told[MAJORITY]})
    scores = {name: subtype_scores(true, given, classes) for name, given in told.items()}
    return Validation(
        by,
        _protocol(by, folds),
        classes,
        len(true),
        {name: {m: float(getattr(s, m)) for m in METRICS} for name, s in scores.items()},
        scores[CLASSIFIER].confusion.tolist(),
        notes,
    )


def label_folds(spots: LabelledSpots, reach_um: float) -> tuple[By, list[LabelFold], list[str]]:
    """Return what is held out in turn, and sentences on what cannot be.

    A class with one labelled spot is left out, and so is a fold that leaves one class to learn.
    """
    sizes = Counter(spots.labels.tolist())
    single = sorted(name for name, n in sizes.items() if n == 1)
    notes = []
    if single:
        each = (
            "has one labelled spot, which is"
            if len(single) == 1
            else "have one labelled spot each, which are"
        )
        notes.append(f"{some(single)} {each} learnt from but cannot be validated; label more.")
    usable = ~np.isin(spots.labels, single)
    patients = [str(name) for name in np.unique(spots.patient_of[usable])]
    if len(patients) > 1:
        masks = [(name, usable & (spots.patient_of == name)) for name in patients]
        folds = [LabelFold(name, usable & ~held, held) for name, held in masks]
        if kept := _learnable(spots, folds):
            lost = [fold.name for fold in folds if fold.name not in {k.name for k in kept}]
            if lost:
                notes.append(
                    f"Without {some(lost)} one class alone is left to learn from, so this was not"
                    " held out."
                )
            return "patients", kept, notes + _alone(spots, usable)
        notes.append(
            "Without a patient one class alone is left to learn from, so blocks of tissue were"
            " held out instead."
        )
    folds = _learnable(spots, _by_blocks(spots, usable, reach_um))
    if not folds:
        notes.append(
            "The labelled spots lie too close together to hold some of them out; label every class"
            " in several places, or on another patient's section."
        )
        return "none", [], notes
    return "blocks", folds, notes


def _alone(spots: LabelledSpots, usable: NDArray[np.bool_]) -> list[str]:
    """Say which classes only one patient has: held out, they cannot be known."""
    owners: dict[str, set[str]] = {}
    for label, patient in zip(spots.labels[usable], spots.patient_of[usable], strict=True):
        owners.setdefault(str(label), set()).add(str(patient))
    lonely = sorted(name for name, who in owners.items() if len(who) == 1)
    if not lonely:
        return []
    return [
        f"Only one patient has {some(lonely)}, so held out it is always told wrong; label it on"
        " another patient's section."
    ]


def _learnable(spots: LabelledSpots, folds: list[LabelFold]) -> list[LabelFold]:
    return [
        fold for fold in folds if fold.test.any() and len(np.unique(spots.labels[fold.train])) > 1
    ]


def _by_blocks(
    spots: LabelledSpots, usable: NDArray[np.bool_], reach_um: float
) -> list[LabelFold]:
    """Hold blocks out, chosen so that each fold has something of every class where it can."""
    from scipy.spatial import cKDTree
    from sklearn.model_selection import StratifiedGroupKFold

    margins = np.array([_margin_px(s, reach_um) for s in spots.sections])
    centres = np.empty((len(spots), 2))
    for number, section in enumerate(spots.sections):
        mine = spots.section_of == number
        centres[mine] = section.centres_px[spots.row_of[mine]] / margins[number]
    rows = np.flatnonzero(usable)
    groups = _blocks(centres[rows], spots.section_of[rows])
    n_folds = min(FOLDS, int(groups.max(initial=-1)) + 1)
    if n_folds < 2:
        return []
    # In margins, and with sections far apart.
    laid = centres + 1e6 * spots.section_of[:, None]
    folds = []
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class may be rarer than the folds are many
        splits = list(splitter.split(rows, spots.labels[rows], groups))
    for number, (_, held) in enumerate(splits, 1):
        test = np.zeros(len(spots), bool)
        test[rows[held]] = True
        if not test.any():
            continue
        near = cKDTree(laid[test]).query(laid)[0] <= 1.0 + 1e-9  # whatever the rounding
        folds.append(LabelFold(f"blocks {number} of {n_folds}", usable & ~near, test))
    return folds


def _blocks(centres: NDArray[np.float64], section_of: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return (n,) the block of each spot, numbered from 0."""
    groups = np.zeros(len(centres), np.intp)
    for edge in BLOCKS:
        tiles = np.floor(centres / edge).astype(np.int64)
        keys = np.column_stack([section_of, tiles])
        groups = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
        if groups.max(initial=-1) + 1 >= _ENOUGH:
            break
    return groups


def _margin_px(section: Section, reach_um: float) -> float:
    pitch = spot_pitch_px(section) or 1.0
    reach = reach_um / section.mpp_um if section.mpp_um else 0.0
    return max(MARGIN_PITCHES * pitch, reach)


def _protocol(by: By, folds: list[LabelFold]) -> str:
    if by == "patients":
        names = some([fold.name for fold in folds], 8)
        return f"Each patient held out in turn ({names})."
    return (
        f"Blocks of tissue held out in turn, {len(folds)} times, with a margin around them that is"
        " not learnt from; the same patient is on both sides, so a new patient will score lower."
    )


def as_markdown(found: Validation) -> str:
    """Return the scores beside the commonest class's, and the confusion matrix, as Markdown."""
    if found.by == "none":
        return "\n".join([found.protocol, *found.notes])
    head = ["", "accuracy", "balanced accuracy", "macro-F1"]
    names = ("accuracy", "balanced_accuracy", "macro_f1")
    rows = [
        [title, *(f"{found.scores[key][name]:.3f}" for name in names)]
        for key, title in ((CLASSIFIER, "classifier"), (MAJORITY, "commonest class"))
    ]
    table = [
        [name, *map(str, row)] for name, row in zip(found.classes, found.confusion, strict=True)
    ]
    return "\n".join(
        [
            f"{found.n_spots:,} held-out spots. {found.protocol}",
            *found.notes,
            "",
            *_lines(head, rows),
            "",
            "Rows are the annotated classes, columns what was told.",
            "",
            *_lines(["", *found.classes], table),
        ]
    )


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(row)} |" for row in cells]
