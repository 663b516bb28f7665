from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spotscope.annotate.learnt import SubtypeMap
from spotscope.annotate.review import disagreements, following, uncertain_regions
from spotscope.data.places import Grid, Places

CLASSES = ["tumour", "stroma"]


def _on_grid(tumour: np.ndarray, distance: np.ndarray | None = None) -> SubtypeMap:
    """A map of 50 µm cells with a probability of tumour each."""
    grid = Grid((10.0, 10.0), 100.0, 50.0, np.ones(tumour.shape, bool))
    section: Any = SimpleNamespace(name="S1", mpp_um=0.5)
    p = np.stack([tumour.ravel(), 1 - tumour.ravel()], 1).astype(np.float32)
    far = np.zeros(len(p)) if distance is None else distance.ravel()
    return SubtypeMap(CLASSES, p, far.astype(np.float32), Places(section, grid.centres_px, grid))


def test_unsure_cells_that_touch_are_one_region_and_the_greatest_doubt_comes_first() -> None:
    tumour = np.full((10, 12), 0.95)
    tumour[1, 1:4] = 0.6  # unsure below 0.7: a row of three
    tumour[2, 4] = 0.6  # which a corner joins
    tumour[8, 8] = 0.55  # one alone
    told = _on_grid(tumour)
    first, second = uncertain_regions(told, 0.7)
    assert first.members.tolist() == [13, 14, 15, 28]
    assert second.members.tolist() == [8 * 12 + 8]
    assert first.score == pytest.approx(4 * (1 - 0.2), abs=1e-5)
    assert first.extent_px == pytest.approx(300.0)
    assert second.centre_px == pytest.approx((810.0, 810.0))
    assert (first.told, first.annotated) == ("tumour", None)
    assert [r.score for r in uncertain_regions(told, 0.7)] == [first.score, second.score]
    assert len(uncertain_regions(told, 0.7, at_most=1)) == 1


def test_what_is_far_from_the_training_is_unsure_however_probable() -> None:
    far = np.zeros((4, 5))
    far[2, 3] = 1.5
    (region,) = uncertain_regions(_on_grid(np.full((4, 5), 0.99), far))
    assert region.members.tolist() == [13]
    assert region.score == pytest.approx(1.0)


def test_a_region_has_one_class_and_is_cut_where_it_is_too_wide() -> None:
    tumour = np.full((2, 24), 0.52)
    tumour[:, 6:] = 0.48
    regions = uncertain_regions(_on_grid(tumour), 0.6, widest_um=600.0)
    assert {r.told for r in regions} == set(CLASSES)
    assert max(r.extent_px for r in regions) <= 1200.0
    assert sorted(np.concatenate([r.members for r in regions]).tolist()) == list(range(48))


def test_where_all_are_sure_the_least_certain_are_shown() -> None:
    tumour = np.full((10, 10), 0.99)
    tumour[4, 4] = 0.7
    regions = uncertain_regions(_on_grid(tumour))
    assert 44 in regions[0].members
    assert sum(len(r.members) for r in regions) == 2


def _on_spots(p: list[list[float]]) -> SubtypeMap:
    """Spots 100 µm apart in a row."""
    centres = np.stack([np.zeros(len(p)), 200.0 * np.arange(len(p))], 1)
    section: Any = SimpleNamespace(name="S1", mpp_um=0.5, n_spots=len(p), centres_px=centres)
    shares = np.asarray(p, np.float32)
    return SubtypeMap(CLASSES, shares, np.zeros(len(p), np.float32), Places(section, centres))


def test_spots_told_otherwise_than_annotated_are_found_the_surest_first() -> None:
    told = _on_spots(
        [[0.9, 0.1], [0.1, 0.9], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6], [0.99, 0.01], [0.5, 0.5]]
    )
    labels = np.array(["tumour", None, "stroma", "stroma", "stroma", "fat", "fat"], object)
    first, second = disagreements(told, labels, threshold=0.6)
    assert first.members.tolist() == [2, 3]
    assert (first.told, first.annotated) == ("tumour", "stroma")
    assert first.score == pytest.approx(0.6 + 0.4, abs=1e-5)
    assert second.members.tolist() == [5]  # of a class that the classifier does not know
    assert (second.annotated, second.score) == ("fat", pytest.approx(0.99))
    assert disagreements(told, np.full(7, None)) == []
    with pytest.raises(ValueError, match="6 labels for 7 spots"):
        disagreements(told, labels[:6])


def test_a_list_that_was_made_anew_is_gone_on_with() -> None:
    tumour = np.full((6, 12), 0.99)
    tumour[0, 0:3], tumour[3, 5:7], tumour[5, 11] = 0.6, 0.6, 0.6
    regions = uncertain_regions(_on_grid(tumour), 0.7)
    assert len(regions) == 3
    assert following(regions, None) is regions[0]
    assert following(regions, regions[0]) is regions[1]
    assert following(regions, regions[2]) is None
    tumour[0, 0:3] = 0.99  # the first was answered
    again = uncertain_regions(_on_grid(tumour), 0.7)
    assert following(again, regions[0]) is again[0]
    assert following([], None) is None
