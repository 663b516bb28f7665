from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from spotscope.data.cohort import Cohort
from spotscope.data.places import Places
from spotscope.data.section import Section
from spotscope.errors import SpotScopeError
from spotscope.evaluate.subtypes import (
    MAJORITY,
    POOLED,
    as_markdown,
    evaluate_subtypes,
    score_folds,
    subtype_scores,
)
from spotscope.progress import Progress

# Labelled spots of the seven patients of TPIRBAE's her2st cohort, by class.
HER2ST = {
    "B": (63, 95, 70, 0, 0, 41),
    "C": (127, 37, 3, 0, 0, 0),
    "D": (139, 109, 0, 7, 0, 0),
    "E": (340, 17, 0, 177, 0, 0),
    "F": (577, 56, 0, 26, 0, 0),
    "G": (140, 110, 98, 17, 20, 17),
    "H": (90, 169, 112, 23, 97, 39),
}
NAMES = ("invasive cancer", "connective tissue", "adipose", "immune", "in situ", "breast glands")


def test_scores_of_a_small_table_are_those_by_hand() -> None:
    true = ["a", "a", "a", "b"]
    told = ["a", "a", "b", "b"]
    scores = subtype_scores(true, told, ["a", "b", "c"])
    assert scores.accuracy == pytest.approx(3 / 4)
    assert scores.balanced_accuracy == pytest.approx((2 / 3 + 1) / 2)
    f1 = (2 * 2 / (3 + 2), 2 * 1 / (1 + 2))
    assert scores.macro_f1 == pytest.approx(sum(f1) / 3)  # "c" counts 0
    assert scores.macro_f1_present == pytest.approx(sum(f1) / 2)
    np.testing.assert_array_equal(scores.confusion, [[2, 1, 0], [0, 1, 0], [0, 0, 0]])


def test_the_scores_agree_with_scikit_learn() -> None:
    from sklearn import metrics

    rng = np.random.default_rng(0)
    true, told = (np.array(list("abcde"))[rng.integers(0, 4, 200)] for _ in range(2))
    scores = subtype_scores(true, told, list("abcde"))
    expected = metrics.f1_score(true, told, labels=list("abcde"), average="macro", zero_division=0)
    assert scores.macro_f1 == pytest.approx(expected)
    assert scores.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(true, told))


def test_telling_invasive_cancer_always_scores_what_is_known_of_the_published_cohort() -> None:
    true = np.concatenate([np.repeat(NAMES, counts) for counts in HER2ST.values()])
    patients = np.repeat(list(HER2ST), [sum(counts) for counts in HER2ST.values()])
    found = score_folds(
        true,
        {MAJORITY: np.full(len(true), NAMES[0]), "perfect": true},
        patients.tolist(),
    )
    assert len(true) == 2816
    assert found.value(MAJORITY, "accuracy") == pytest.approx(0.510, abs=5e-4)
    assert found.value(MAJORITY, "macro_f1") == pytest.approx(0.106, abs=5e-4)
    assert found.value(MAJORITY, "accuracy", POOLED) == pytest.approx(1476 / 2816)
    assert found.value("perfect", "macro_f1_present") == 1
    present = sum(sum(n > 0 for n in counts) for counts in HER2ST.values())
    assert found.value("perfect", "macro_f1") == pytest.approx(present / 42)


@pytest.fixture
def cohort(make_section: Callable[..., Section]) -> Cohort:
    """Three patients, one of them with an unlabelled section as well."""
    sections = []
    for seed, (name, patient) in enumerate((("A1", "A"), ("A2", "A"), ("B1", "B"), ("C1", "C"))):
        section = make_section(name, patient, seed)
        if name != "A2":
            labels = np.array(["x", "y", None], object)[np.arange(30) % 3]
            labels[0] = "x" if patient == "A" else "y"
            labels[3] = "x" if patient == "A" else "y"
            section.measured().obs["subtype"] = pd.Categorical(labels)
        sections.append(section)
    return Cohort(tuple(sections))


def test_each_labelled_patient_is_held_out_whole_and_the_unlabelled_sections_are_trained_on(
    cohort: Cohort,
) -> None:
    seen: list[list[str]] = []

    def make(train: Cohort, progress: Progress) -> Any:
        seen.append(train.names)

        def tell(places: Places, progress: Progress | None = None) -> Any:
            assert places.section.patient not in train.patients
            return SimpleNamespace(labels=np.asarray(places.section.labels, str))

        return SimpleNamespace(predict_subtypes=tell)

    found = evaluate_subtypes({"oracle": make}, cohort)
    assert seen == [["B1", "C1"], ["A1", "A2", "C1"], ["A1", "A2", "B1"]]
    assert found.value("oracle", "accuracy") == 1
    # B and C have 8 x and 12 y each, so y is told of A, who has 10 of each.
    assert found.value(MAJORITY, "accuracy", "A") == pytest.approx(10 / 20)
    assert found.confusion["oracle"].sum() == 60
    text = as_markdown(found)
    assert "| majority | " in text
    assert "pathologist" in text


def test_one_labelled_patient_alone_is_refused(cohort: Cohort) -> None:
    with pytest.raises(SpotScopeError, match="Only patient A is labelled"):
        evaluate_subtypes({}, Cohort(cohort.sections[:2]))
    with pytest.raises(SpotScopeError, match="No spot of these sections has a subtype"):
        evaluate_subtypes({}, Cohort(cohort.sections[1:2]))


def test_labels_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(SpotScopeError, match="score the same"):
        subtype_scores(["a"], ["a", "b"], ["a", "b"])
    with pytest.raises(SpotScopeError, match="'z' is none of the classes"):
        subtype_scores(["a"], ["z"], ["a", "b"])
