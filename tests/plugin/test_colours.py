from __future__ import annotations

import numpy as np
import pytest

from spotscope.plugin import colours


def test_the_middle_of_the_error_map_is_almost_white_and_its_ends_blue_and_red():
    low, middle, high = colours.error_map().map([0.0, 0.5, 1.0])[:, :3]
    assert middle.min() > 0.95
    assert low[2] > 2 * low[0]
    assert high[0] > 2 * high[2]


def test_both_ends_of_the_error_map_are_equally_dark():
    steps = colours.error_map().map(np.linspace(0, 1, 101))[:, :3]
    light = steps @ [0.2126, 0.7152, 0.0722]
    np.testing.assert_allclose(light, light[::-1], atol=0.12)


def test_a_value_takes_the_colour_of_its_place_in_the_range():
    colour_map = colours.expression_map()
    drawn = colours.rgba(np.array([-1.0, 0.0, 1.0, 2.0, 9.0]), (0.0, 2.0), colour_map)
    wanted = colour_map.map([0.0, 0.0, 0.5, 1.0, 1.0])
    np.testing.assert_allclose(drawn, wanted, atol=0.01)


def test_a_missing_value_is_transparent():
    drawn = colours.rgba(np.array([np.nan, 1.0]), (0.0, 2.0), colours.expression_map())
    assert drawn[0, 3] == 0
    assert drawn[1, 3] == 1


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([], (0.0, 1.0)),
        ([0.0, 0.0, 0.0], (0.0, 1.0)),
        ([0.0] * 999 + [4.0], (0.0, 4.0)),
        ([np.nan, 1.0, 3.0], (1.02, 2.98)),
    ],
)
def test_a_range_is_never_empty(values, wanted):
    assert colours.expression_limits(np.array(values)) == pytest.approx(wanted)


def test_the_range_of_an_error_of_nothing_is_still_a_range():
    assert colours.error_limits(np.zeros(5)) == (-1.0, 1.0)


def test_subtypes_have_colours_of_their_own_whatever_the_order():
    names = ["stroma", "invasive cancer", "adipose tissue"]
    palette = colours.subtype_colours(names)
    assert len(set(palette.values())) == 3
    assert palette == colours.subtype_colours(reversed(names))
