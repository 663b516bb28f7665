from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spotscope.data.labelled import LabelledSpots
from spotscope.evaluate.validation import (
    CLASSIFIER,
    MAJORITY,
    Validation,
    as_markdown,
    label_folds,
    validate,
)
from spotscope.progress import Progress


def _section(name: str, patient: str, side: int = 20) -> Any:
    """Spots on a square lattice, 100 µm apart."""
    centres = 200.0 * np.argwhere(np.ones((side, side), bool))
    n = len(centres)
    return SimpleNamespace(name=name, patient=patient, mpp_um=0.5, centres_px=centres, n_spots=n)


def _spots(labels: list[Any], patients: str = "A") -> LabelledSpots:
    """One section a patient, each with its labels; None where there is none."""
    sections = tuple(
        _section(f"{p}1", p, int(np.sqrt(len(x)))) for p, x in zip(patients, labels, strict=True)
    )
    rows = [np.flatnonzero(np.asarray(x, object) != None) for x in labels]  # noqa: E711
    return LabelledSpots(
        sections,
        np.repeat(np.arange(len(rows)), [len(r) for r in rows]),
        np.concatenate(rows),
        np.concatenate(
            [np.asarray(x, object)[r].astype(str) for x, r in zip(labels, rows, strict=True)]
        ),
    )


@pytest.fixture
def halves() -> LabelledSpots:
    """One section of 400 spots: tumour on the left, stroma on the right."""
    return _spots([np.where(np.arange(400) % 20 < 10, "tumour", "stroma")])


def test_of_several_patients_each_is_held_out_whole() -> None:
    spots = _spots([["x", "y", "x", "y"], ["x", "y", "y", "y"], ["y", "x", "x", "x"]], "ABC")
    by, folds, notes = label_folds(spots, 100.0)
    assert (by, [f.name for f in folds], notes) == ("patients", ["A", "B", "C"], [])
    for fold in folds:
        assert set(spots.patient_of[fold.test]) == {fold.name}
        np.testing.assert_array_equal(fold.train, ~fold.test)


@pytest.mark.parametrize(("reach_um", "margin_um"), [(0.0, 150.0), (300.0, 300.0)])
def test_of_one_patient_blocks_are_held_out_with_a_margin_that_is_not_learnt(
    halves: LabelledSpots, reach_um: float, margin_um: float
) -> None:
    by, folds, _ = label_folds(halves, reach_um)
    assert by == "blocks"
    assert sum(fold.test for fold in folds).tolist() == [1] * 400  # every spot once
    centres = halves.sections[0].centres_px * 0.5
    for fold in folds:
        assert set(halves.labels[fold.train]) == {"tumour", "stroma"}
        apart = np.linalg.norm(centres[fold.test][:, None] - centres[fold.train][None], axis=2)
        assert apart.min() > margin_um * (1 - 1e-9)
        left_out = ~(fold.train | fold.test)
        nearest = np.linalg.norm(centres[left_out][:, None] - centres[fold.test], axis=2).min(
            axis=1
        )
        assert nearest.max() <= margin_um * (1 + 1e-9)


def test_held_out_labels_are_scored_beside_the_commonest_class(halves: LabelledSpots) -> None:
    def oracle(train: np.ndarray, test: np.ndarray, progress: Progress) -> np.ndarray:
        return halves.labels[test]

    found = validate(halves, oracle, 100.0, Progress())
    assert found.n_spots == 400
    assert found.scores[CLASSIFIER]["macro_f1"] == 1
    assert found.scores[MAJORITY]["accuracy"] <= 0.6
    assert np.sum(found.confusion) == 400
    assert "a new patient will score lower" in found.protocol
    assert Validation.from_dict(found.as_dict()) == found
    text = as_markdown(found)
    assert "| classifier | 1.000 | 1.000 | 1.000 |" in text
    assert "| commonest class | " in text


def test_a_class_with_one_spot_is_not_validated_and_this_is_said(halves: LabelledSpots) -> None:
    labels = halves.labels.astype(object)
    labels[7] = "nerve"
    spots = _spots([labels])
    _, folds, notes = label_folds(spots, 0.0)
    assert not any(fold.test[7] or fold.train[7] for fold in folds)
    assert notes == [
        "nerve has one labelled spot, which is learnt from but cannot be validated; label more."
    ]


def test_a_class_that_one_patient_alone_has_is_said() -> None:
    spots = _spots([["x", "y", "z", "z"], ["x", "y", "y", "y"]], "AB")
    _, _, notes = label_folds(spots, 0.0)
    assert notes == [
        "Only one patient has z, so held out it is always told wrong; label it on another"
        " patient's section."
    ]


def test_where_a_patient_is_needed_to_learn_from_blocks_are_held_out() -> None:
    one, other = np.full(400, "x"), np.full(400, "y")
    by, folds, notes = label_folds(_spots([one, other], "AB"), 0.0)
    assert by == "blocks"
    assert folds
    assert "one class alone is left to learn from" in notes[0]


def test_labels_that_lie_too_close_together_are_not_validated() -> None:
    labels = np.full(400, None, object)
    labels[[0, 1, 20, 21]] = ["x", "y", "x", "y"]
    found = validate(_spots([labels]), lambda *_: [], 0.0, Progress())
    assert found.by == "none"
    assert "too close together" in found.notes[0]
    assert "too close together" in as_markdown(found)
