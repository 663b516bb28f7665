"""How well subtypes are told: scores of labels, and classifiers on patients held out in turn.

Macro-F1 is the mean of F1 over **all** classes of the cohort, in which a class that a patient
neither has nor is told counts 0; this is the convention of the published figures, under which a
perfect classifier scores less than 1 on a patient who lacks a class. `macro_f1_present` is the
mean over the classes that the patient has. Balanced accuracy is the mean recall of these.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict

from spotscope.data.cohort import folds_by_patient
from spotscope.data.labelled import LabelledSpots
from spotscope.data.places import Places
from spotscope.errors import SpotScopeError
from spotscope.methods.latent import cohort_labels
from spotscope.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from spotscope.data.cohort import Cohort
    from spotscope.data.subtype_map import SubtypeMap

    Labels = NDArray[np.str_] | Sequence[str]

MAJORITY = "majority"
"""Method that always tells the commonest class of its training spots."""
MEAN, POOLED = "mean", "pooled"
"""Stand for the patient where the figure is the mean over patients, or of all their spots."""
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "macro_f1_present")


@dataclass(frozen=True)
class SubtypeScores:
    """Scores of labels that were told.

    Attributes
    ----------
    accuracy, balanced_accuracy, macro_f1, macro_f1_present
        See the module.
    confusion
        (K, K) spots; rows are the true classes, columns the told ones.
    """

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    macro_f1_present: float
    confusion: NDArray[np.int64]


def subtype_scores(true: Labels, told: Labels, classes: Sequence[str]) -> SubtypeScores:
    """Score told labels (n,) against the true ones (n,).

    Raises
    ------
    SpotScopeError
        When there is no spot, or a label is not among `classes`.
    """
    from sklearn.metrics import confusion_matrix

    if not len(true) or len(true) != len(told):
        raise SpotScopeError(
            f"There are {len(true)} true labels and {len(told)} predicted ones; score the same"
            " labelled spots."
        )
    if strange := sorted({*true, *told} - set(classes)):
        raise SpotScopeError(f"'{strange[0]}' is none of the classes {', '.join(classes)}.")
    table = confusion_matrix(true, told, labels=list(classes))
    right, has, says = table.diagonal(), table.sum(axis=1), table.sum(axis=0)
    f1 = 2 * right / np.maximum(has + says, 1)
    present = has > 0
    return SubtypeScores(
        accuracy=float(right.sum() / table.sum()),
        balanced_accuracy=float((right[present] / has[present]).mean()),
        macro_f1=float(f1.mean()),
        macro_f1_present=float(f1[present].mean()),
        confusion=table.astype(np.int64),
    )


class SubtypeRecord(BaseModel):
    """One figure.

    Attributes
    ----------
    method
        Name.
    patient
        Held out; "mean" over patients, or "pooled" over their spots.
    metric
        accuracy, balanced_accuracy, macro_f1 or macro_f1_present.
    value
        The figure.
    n_spots
        Labelled spots that it was measured on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    patient: str
    metric: Literal["accuracy", "balanced_accuracy", "macro_f1", "macro_f1_present"]
    value: float
    n_spots: int


@dataclass(frozen=True)
class SubtypeEvaluation:
    """What methods told of patients that they were not trained on.

    Attributes
    ----------
    records
        Of every method, patient and metric, with means and pooled figures.
    classes
        Of the cohort, sorted.
    confusion
        By method, (K, K) of all held-out spots; rows are the true classes.
    """

    records: list[SubtypeRecord]
    classes: list[str]
    confusion: dict[str, NDArray[np.int64]]

    def value(self, method: str, metric: str, patient: str = MEAN) -> float:
        """Return one figure."""
        (found,) = (
            r.value
            for r in self.records
            if (r.method, r.metric, r.patient) == (method, metric, patient)
        )
        return found

    def to_json(self) -> str:
        """Return the records as a JSON list."""
        return json.dumps([r.model_dump() for r in self.records], indent=1, ensure_ascii=False)


class Teller(Protocol):
    """What tells subtypes at places, such as `SubtypeClassifier`."""

    def predict_subtypes(self, places: Places, progress: Progress | None = None) -> SubtypeMap:
        """Return the probability of each class at `places`."""


def evaluate_subtypes(
    makers: Mapping[str, Callable[[Cohort, Progress], Teller]],
    cohort: Cohort,
    progress: Progress | None = None,
) -> SubtypeEvaluation:
    """Hold each labelled patient out in turn, train on the others, and score what is told.

    Parameters
    ----------
    makers
        By name, what trains on a cohort; it is given all sections of the other patients, those
        without labels as well, and none of the held-out one.
    cohort
        Sections, some of them labelled.

    Raises
    ------
    SpotScopeError
        When fewer than two patients are labelled.
    """
    progress = progress or Progress()
    known = LabelledSpots.among(cohort).cohort()
    if len(known.patients) < 2:
        raise SpotScopeError(
            f"Only patient {known.patients[0]} is labelled, so none can be held out; label"
            " another patient's section."
        )
    truth = {s.name: cohort_labels(_one(known, s.name)) for s in known.sections}
    told: dict[str, list[NDArray[np.str_]]] = {name: [] for name in (*makers, MAJORITY)}
    true: list[NDArray[np.str_]] = []
    patients: list[str] = []
    folds = [fold for fold in folds_by_patient(cohort) if fold.name in known.patients]
    for number, fold in enumerate(folds):
        held = [s for s in known.sections if s.patient == fold.name]
        labels = np.concatenate([truth[section.name] for section in held])
        true.append(labels)
        patients += [fold.name] * len(labels)
        others = np.concatenate([truth[s.name] for s in known.sections if s.patient != fold.name])
        told[MAJORITY].append(np.full(len(labels), _commonest(others)))
        for place, (name, make) in enumerate(makers.items()):
            at, steps = number * len(makers) + place, len(folds) * len(makers)
            part = progress.part(at / steps, (at + 1) / steps)
            teller = make(fold.train, part)
            found = [teller.predict_subtypes(Places.on_spots(section)).labels for section in held]
            told[name].append(np.concatenate(found))
    return score_folds(
        np.concatenate(true),
        {name: np.concatenate(parts) for name, parts in told.items()},
        patients,
    )


def score_folds(
    true: Labels, told: Mapping[str, Labels], patients: Sequence[str]
) -> SubtypeEvaluation:
    """Score what methods told of the spots of held-out `patients` (n,).

    Parameters
    ----------
    true
        (n,) labels.
    told
        By method, (n,) labels.
    """
    truth, owner = np.asarray(true), np.asarray(patients)
    classes = sorted({str(label) for labels in (true, *told.values()) for label in labels})
    records, confusion = [], {}
    for method, labels in told.items():
        given = np.asarray(labels)
        rows = {
            str(patient): subtype_scores(truth[owner == patient], given[owner == patient], classes)
            for patient in np.unique(owner)
        }
        pooled = subtype_scores(truth, given, classes)
        confusion[method] = pooled.confusion
        for metric in METRICS:
            values = {patient: getattr(scores, metric) for patient, scores in rows.items()}
            values |= {MEAN: float(np.mean([*values.values()])), POOLED: getattr(pooled, metric)}
            sizes = Counter(owner.tolist())
            records += [
                SubtypeRecord(
                    method=method,
                    patient=patient,
                    metric=metric,
                    value=value,
                    n_spots=sizes.get(patient, len(truth)),
                )
                for patient, value in values.items()
            ]
    return SubtypeEvaluation(records, classes, confusion)


def as_markdown(evaluation: SubtypeEvaluation) -> str:
    """Return the scores and each method's pooled confusion matrix as Markdown."""
    titles = ("accuracy", "balanced accuracy", "macro-F1", "macro-F1, present")
    patients = sorted({r.patient for r in evaluation.records} - {MEAN, POOLED})
    head = ["method", *(f"{t} (mean of patients)" for t in titles), "accuracy, pooled", *patients]
    lines = [_row(head), _row(["---"] * len(head))]
    for method in evaluation.confusion:
        figures = [evaluation.value(method, metric) for metric in METRICS]
        figures += [evaluation.value(method, "accuracy", p) for p in (POOLED, *patients)]
        lines.append(_row([method, *(f"{figure:.3f}" for figure in figures)]))
    lines += ["", "The last columns are the accuracy on each held-out patient.", ""]
    for method, table in evaluation.confusion.items():
        if method == MAJORITY:
            continue
        lines += [f"`{method}`: rows are the pathologist's classes, columns what was told.", ""]
        lines += [_row(["", *evaluation.classes]), _row(["---"] * (1 + len(table)))]
        lines += [
            _row([name, *map(str, row)])
            for name, row in zip(evaluation.classes, table, strict=True)
        ]
        lines.append("")
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _one(cohort: Cohort, name: str) -> Cohort:
    return type(cohort)(tuple(s for s in cohort.sections if s.name == name))


def _commonest(labels: NDArray[np.str_]) -> str:
    names, counts = np.unique(labels, return_counts=True)
    return str(names[counts.argmax()])
