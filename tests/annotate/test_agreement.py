from __future__ import annotations

import math

import numpy as np
import pytest

from spotscope.annotate.agreement import agreement


def _labels(*names: str | None) -> np.ndarray:
    return np.array(names, dtype=object)


def test_kappa_of_a_hand_computed_table() -> None:
    # 4 shared spots, 3 agree; chance = (3/4)(2/4) + (1/4)(2/4) = 1/2, so kappa = 1/2
    first = _labels("a", "a", "a", "b", None, "a")
    second = _labels("a", "a", "b", "b", "a", None)
    found = agreement(first, second)
    assert (found.n_shared, found.share) == (4, 0.75)
    assert found.kappa == pytest.approx(0.5)
    assert found.disagreeing.tolist() == [2]


def test_nothing_shared_is_undefined_rather_than_zero() -> None:
    found = agreement(_labels("a", None), _labels(None, "a"))
    assert found.n_shared == 0
    assert math.isnan(found.kappa)
    assert math.isnan(found.share)
