from __future__ import annotations

import threading

import numpy as np
import pytest

from spotscope.errors import Cancelled
from spotscope.methods.familiarity import Familiarity
from spotscope.methods.linear_head import LinearHead, fit_linear_head, softmax, standards
from spotscope.progress import Progress


@pytest.fixture
def spots() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 150)
    return 5 + 3 * (np.eye(4)[codes] + rng.normal(size=(150, 4))), codes


def test_the_optimum_is_that_of_scikit_learn(spots: tuple[np.ndarray, np.ndarray]) -> None:
    from sklearn.linear_model import LogisticRegression

    inputs, codes = spots
    mean, scale = standards(inputs)
    theirs = LogisticRegression(C=1 / (0.01 * 150), tol=1e-8, max_iter=1000)
    theirs.fit((inputs - mean) / scale, codes)
    ours = fit_linear_head(inputs, codes, np.ones(3), 0.01)
    expected = theirs.predict_proba((inputs - mean) / scale)
    np.testing.assert_allclose(softmax(ours.logits(inputs)), expected, atol=2e-4)
    assert ours.accuracy == pytest.approx(theirs.score((inputs - mean) / scale, codes))


def test_wherever_the_search_begins_it_ends_at_the_same(
    spots: tuple[np.ndarray, np.ndarray],
) -> None:
    inputs, codes = spots
    cold = fit_linear_head(inputs, codes, np.ones(3), 0.01)
    rng = np.random.default_rng(1)
    far = LinearHead(rng.normal(size=(3, 4)), rng.normal(size=3))
    wild = fit_linear_head(inputs, codes, np.ones(3), 0.01, far)
    np.testing.assert_allclose(
        softmax(wild.logits(inputs)), softmax(cold.logits(inputs)), atol=1e-3
    )
    near = fit_linear_head(inputs[:140], codes[:140], np.ones(3), 0.01)
    warm = fit_linear_head(inputs, codes, np.ones(3), 0.01, near)
    assert warm.steps < cold.steps
    assert fit_linear_head(inputs, codes, np.ones(3), 0.01, cold).steps <= 1


def test_a_head_moves_between_scales(spots: tuple[np.ndarray, np.ndarray]) -> None:
    inputs, codes = spots
    head = fit_linear_head(inputs, codes, np.ones(3), 0.01)
    mean, scale = standards(inputs)
    moved = head.after(mean, scale)
    np.testing.assert_allclose(moved.logits((inputs - mean) / scale), head.logits(inputs))
    np.testing.assert_allclose(moved.before(mean, scale).weight, head.weight)


def test_a_search_can_be_cancelled(spots: tuple[np.ndarray, np.ndarray]) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        fit_linear_head(*spots, np.ones(3), 0.01, progress=Progress(cancel=cancel))


def test_distance_is_one_at_the_percentile_among_the_training_spots() -> None:
    rng = np.random.default_rng(0)
    seen = 100 + 7 * rng.normal(size=(500, 6))
    known = Familiarity.learn(seen)
    scaled = (seen - seen.mean(axis=0)) / seen.std(axis=0)
    apart = np.linalg.norm(scaled[:, None] - scaled[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert known.unit == pytest.approx(np.percentile(apart.min(axis=1), 99), rel=1e-3)
    np.testing.assert_allclose(known.distance(seen), 0, atol=2e-3)
    assert (known.distance(seen + 100) > 3).all()
    again = Familiarity.restored(known.arrays())
    np.testing.assert_array_equal(again.distance(seen + 1), known.distance(seen + 1))


def test_two_spots_and_one_alone_have_a_distance_too() -> None:
    assert Familiarity.learn(np.array([[0.0, 0.0], [2.0, 2.0]])).unit > 0
    alone = Familiarity.learn(np.zeros((1, 2)))
    assert np.isfinite(alone.distance(np.ones((3, 2)))).all()
