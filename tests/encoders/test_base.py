from __future__ import annotations

import numpy as np
import pytest

from spotscope.encoders.base import encoders, get_encoder, pick_device
from spotscope.errors import SpotScopeError


def test_auto_is_stain_on_every_machine():
    assert get_encoder("auto").name == "stain"


def test_an_encoder_is_taken_as_it_is(colour_encoder):
    assert get_encoder(colour_encoder) is colour_encoder


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(SpotScopeError, match="choose stain, resnet50, densenet121, timm:NAME"):
        get_encoder("uni")


def test_a_device_that_is_not_at_hand_is_refused_by_name():
    with pytest.raises(SpotScopeError, match="'cuda:7x' is not at hand|'tpu' is not at hand"):
        pick_device("tpu")
    assert pick_device("cpu") == "cpu"


@pytest.mark.parametrize(
    "patches",
    [
        np.zeros((2, 12, 12, 4), np.uint8),
        np.zeros((2, 10, 12, 3), np.uint8),
        np.zeros((2, 12, 12, 3), np.float32),
        np.zeros((12, 12, 3), np.uint8),
    ],
)
def test_patches_of_another_size_kind_or_channel_count_are_refused(colour_encoder, patches):
    with pytest.raises(SpotScopeError, match="takes patches of 12 x 12 RGB pixels"):
        colour_encoder.encode(patches)


def test_the_list_says_what_is_at_hand_and_how_to_get_the_rest(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    listed = {info.spec: info for info in encoders()}
    assert listed["stain"].at_hand
    assert not listed["resnet50"].at_hand
    assert "downloaded at the first use" in listed["resnet50"].how
    assert {"densenet121", "timm:NAME", "local:PATH#ARCH", "features:PATH"} <= set(listed)
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "resnet50-11ad3fa6.pth").touch()
    assert {info.spec: info for info in encoders()}["resnet50"].at_hand


def test_the_weights_that_the_list_looks_for_are_those_that_torchvision_loads():
    from torchvision.models import DenseNet121_Weights, ResNet50_Weights

    from spotscope.encoders.networks import _OFFERED

    files = {spec: file for spec, _, file in _OFFERED}
    assert ResNet50_Weights.DEFAULT.url.endswith(files["resnet50"])
    assert DenseNet121_Weights.DEFAULT.url.endswith(files["densenet121"])
