from __future__ import annotations

import numpy as np
import pytest

from spotscope.annotate import suggest
from spotscope.annotate.suggest import doubt, suggest_spots


@pytest.fixture
def clusters() -> tuple[np.ndarray, np.ndarray]:
    """Four clouds of 40, 30, 20 and 10 spots, far apart."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(4), [40, 30, 20, 10])
    return 10 * np.eye(4)[group] + 0.3 * rng.normal(size=(100, 4)), group


def test_without_a_classifier_one_typical_spot_of_each_cluster_is_asked(
    clusters: tuple[np.ndarray, np.ndarray],
) -> None:
    features, group = clusters
    first = suggest_spots(features, None, np.zeros(100, bool), 4)
    assert sorted(group[first]) == [0, 1, 2, 3]
    assert group[first].tolist() == [0, 1, 2, 3]  # the largest first
    for spot in first:
        own = features[group == group[spot]]
        apart = np.linalg.norm(own - own.mean(axis=0), axis=1)
        mine = np.linalg.norm(features[spot] - own.mean(axis=0))
        assert mine <= np.quantile(apart, 0.5)
    labelled = np.zeros(100, bool)
    labelled[first[:2]] = True
    assert set(group[suggest_spots(features, None, labelled, 2)]) == {2, 3}


def test_with_a_classifier_the_doubtful_are_asked_and_no_two_alike(
    clusters: tuple[np.ndarray, np.ndarray],
) -> None:
    features, group = clusters
    labelled = np.zeros(100, bool)
    labelled[[0, 1]] = True
    sure = np.where(group < 2, 0.999, 0.55)
    told = np.stack([sure, 1 - sure], 1)
    for seed in range(5):
        first = suggest_spots(features, told, labelled, 2, seed)
        assert sorted(group[first]) == [2, 3]


def test_suggestions_follow_from_the_seed_are_without_label_and_all_different(
    clusters: tuple[np.ndarray, np.ndarray],
) -> None:
    features, _ = clusters
    rng = np.random.default_rng(1)
    told = rng.dirichlet(np.ones(3), 100)
    labelled = rng.random(100) < 0.3
    for probabilities in (None, told):
        found = suggest_spots(features, probabilities, labelled, 25, 3)
        again = suggest_spots(features, probabilities, labelled, 25, 3)
        np.testing.assert_array_equal(found, again)
        assert len(set(found.tolist())) == 25
        assert not labelled[found].any()
        every = suggest_spots(features, probabilities, labelled, 1000)
        assert sorted(every.tolist()) == np.flatnonzero(~labelled).tolist()
        assert len(suggest_spots(features, probabilities, np.ones(100, bool), 5)) == 0


def test_of_very_many_spots_some_are_chosen_among(
    clusters: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    features, _ = clusters
    monkeypatch.setattr(suggest, "FEATURED", 40)
    labelled = np.arange(100) < 30
    found = suggest_spots(features, np.full((100, 2), 0.5), labelled, 5)
    assert len(set(found.tolist())) == 5
    assert not labelled[found].any()


def test_spots_that_are_all_the_same_are_no_trouble() -> None:
    same = np.ones((12, 3))
    for told in (None, np.full((12, 2), 0.5), np.tile([1.0, 0.0], (12, 1))):
        found = suggest_spots(same, told, np.arange(12) < 2, 4)
        assert len(set(found.tolist())) == 4


def test_doubt_is_how_little_the_first_class_leads() -> None:
    found = doubt(np.array([[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.5, 0.3]]))
    np.testing.assert_allclose(found, [0, 1, 0.8])
    np.testing.assert_array_equal(doubt(np.ones((2, 1))), [0, 0])
