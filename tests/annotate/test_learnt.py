from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spotscope.annotate.learnt import SubtypeMap, areas, decide, smoothed
from spotscope.data.places import Grid, Places
from spotscope.errors import SpotScopeError


def _map(
    probabilities: Any,
    centres: Any,
    distance: Any = None,
    grid: Grid | None = None,
    mpp: Any = 0.5,
) -> SubtypeMap:
    section: Any = SimpleNamespace(name="S1", mpp_um=mpp)
    found = np.asarray(probabilities, np.float32)
    far = np.zeros(len(found), np.float32) if distance is None else np.float32(distance)
    names = ["tumour", "stroma", "fat"][: found.shape[1]]
    return SubtypeMap(names, found, far, Places(section, np.asarray(centres, float), grid))


def test_what_is_improbable_or_far_is_unsure() -> None:
    told = _map(
        [[0.9, 0.1, 0], [0.45, 0.4, 0.15], [0.1, 0.8, 0.1], [0, 0.5, 0.5]],
        np.zeros((4, 2)),
        [0.2, 0.2, 1.1, 1.0],
    )
    assert decide(told).tolist() == [0, -1, -1, 1]
    assert decide(told, threshold=0.4, farthest=np.inf).tolist() == [0, 0, 1, 1]
    assert told.labels.tolist() == ["tumour", "tumour", "stroma", "stroma"]


def test_smoothing_averages_over_the_neighbours_within_the_radius_alone() -> None:
    centres = [[0, 0], [0, 20], [0, 40], [500, 500]]  # 10 µm apart, and one alone
    told = _map([[1, 0], [0, 1], [0, 1], [1, 0]], centres, [0.1, 0.2, 0.3, 0.4])
    even = smoothed(told, 10.0)
    expected = [[1 / 2, 1 / 2], [1 / 3, 2 / 3], [0, 1], [1, 0]]
    np.testing.assert_allclose(even.probabilities, expected, atol=1e-6)
    np.testing.assert_array_equal(even.distance, told.distance)
    np.testing.assert_array_equal(smoothed(told, 0.0).probabilities, told.probabilities)
    with pytest.raises(SpotScopeError, match="no micrometres per pixel"):
        smoothed(_map([[1, 0]], [[0, 0]], mpp=None), 10.0)


def test_the_area_of_a_class_is_that_of_its_cells() -> None:
    grid = Grid((0.0, 0.0), 100.0, 50.0, np.array([[True, True], [False, True]]))
    told = _map([[1, 0, 0], [0.4, 0.3, 0.3], [0, 1, 0]], grid.centres_px, grid=grid)
    found = areas(told, decide(told))
    cell = pytest.approx(0.05**2)
    assert found == {
        "tumour": (1, cell),
        "stroma": (1, cell),
        "fat": (0, 0.0),
        "unsure": (1, cell),
    }
    assert areas(_map([[1, 0], [0, 1]], np.zeros((2, 2))), np.array([0, -1])) == {
        "tumour": (1, None),
        "stroma": (0, None),
        "unsure": (1, None),
    }


def test_a_map_whose_parts_do_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="probabilities"):
        _map([[1, 0], [0, 1]], np.zeros((3, 2)))
    with pytest.raises(ValueError, match="distance"):
        _map([[1, 0]], np.zeros((1, 2)), [0, 0])
