from __future__ import annotations

import numpy as np
import pytest

from spotscope.data.readers.lattice import ST_1000, ST_2000, VISIUM, scale_of

DESIGNS = [ST_1000, ST_2000, VISIUM]


def places(design, turn=0.0, jitter_px=0.0, mpp=0.7):
    """Indices and pixels of an array of a design, turned by an angle."""
    array = np.argwhere(np.ones((20, 24)))
    if design.staggered:
        array = array[array.sum(axis=1) % 2 == 0]
    steps = np.array(design.steps_um[::-1]) / mpp
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    noise = np.random.default_rng(0).normal(0, jitter_px, array.shape)
    return array, (array * steps) @ spin + 300 + noise


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("turn", [0.0, 0.3, np.pi / 2])
def test_each_array_is_told_from_the_others_and_gives_the_scale(design, turn):
    found = scale_of(*places(design, turn), DESIGNS)
    assert found is not None
    assert found[0] is design
    assert found[1].mpp_um == pytest.approx(0.7, rel=1e-9)


def test_spots_a_little_off_do_not_bias_the_scale():
    found = scale_of(*places(ST_1000, jitter_px=12), DESIGNS)
    assert found is not None
    assert found[1].mpp_um == pytest.approx(0.7, rel=3e-3)


def test_a_square_array_is_no_visium_and_a_row_is_no_array():
    array, centres = places(ST_1000)
    assert scale_of(array, centres, [VISIUM]) is None
    one_row = array[:, 0] == 3
    assert scale_of(array[one_row], centres[one_row], DESIGNS) is None
    assert scale_of(array[:2], centres[:2], DESIGNS) is None
