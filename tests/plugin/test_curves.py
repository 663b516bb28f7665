from __future__ import annotations

import math

import pytest

from spotscope.plugin.curves import Curves


def step(at, loss, **more):
    return {"epochs_done": at, "loss": loss, "chance": math.log(64), **more}


def test_steps_without_figures_draw_nothing():
    curves = Curves()
    assert not curves.add({})
    assert not curves.add({"loss": 1.0})
    assert curves.points == {}


def test_the_validation_loss_stands_at_the_end_of_its_epoch():
    curves = Curves()
    for at, more in ((0.5, {}), (1.0, {"val_loss": 3.0}), (1.5, {"val_loss": 3.0})):
        curves.add(step(at, 4.0, **more))
    assert curves.points["val_loss"] == ([1.0], [3.0])
    assert curves.points["loss"][0] == [0.5, 1.0, 1.5]


def test_a_loss_with_further_parts_is_compared_with_chance_by_its_contrastive_part():
    curves = Curves()
    curves.add(step(1.0, 9.0, contrastive=4.0, val_loss=8.0, val_contrastive=3.5))
    assert curves.last("loss") == 4.0
    assert curves.last("val_loss") == 3.5


def test_a_step_told_twice_is_one_point_and_none_goes_back():
    curves = Curves()
    for at, loss in ((1.0, 4.0), (1.0, 3.0), (0.5, 9.0), (2.0, math.nan)):
        curves.add(step(at, loss))
    assert curves.points["loss"] == ([1.0], [3.0])


def test_the_figures_are_said_beside_those_of_guessing():
    curves = Curves()
    curves.add(step(1.0, 3.21, top1=0.25, top5=0.5))
    said = curves.said()
    assert "Loss 3.21, guessing 4.16" in said
    assert "64 patches" in said
    assert "first in 25 % (guessing 1.6 %), among five in 50 %" in said


@pytest.mark.parametrize("values", [{"epochs_done": 2.0, "loss": 0.5, "val_loss": 0.7}])
def test_a_loss_without_chance_is_said_alone(values):
    curves = Curves()
    curves.add(values)
    assert curves.said() == "Loss 0.5, on the validation patients 0.7."
