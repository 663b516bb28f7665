from __future__ import annotations

import socket
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from spotscope.encoders import networks
from spotscope.encoders.base import get_encoder
from spotscope.encoders.networks import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Network,
    NetworkEncoder,
    build,
    split_pooling,
    stage_ends,
    weights_fingerprint,
)
from spotscope.errors import SpotScopeError


class Means(nn.Module):
    """Gives back the mean of each channel it is fed."""

    def forward(self, images):
        return images.mean((2, 3))


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return Network("small", build("resnet18", "torchvision"), patch_px=64)


def patches(n=3, px=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, px, px, 3), dtype=np.uint8)


def test_colours_are_fed_as_red_green_blue_with_the_statistics_once():
    encoder = NetworkEncoder(Network("means", Means(), patch_px=8), device="cpu")
    patch = np.zeros((1, 8, 8, 3), np.uint8)
    patch[..., 0], patch[..., 1], patch[..., 2] = 255, 51, 102
    wanted = (np.array([1.0, 0.2, 0.4]) - IMAGENET_MEAN) / IMAGENET_STD
    np.testing.assert_allclose(encoder.encode(patch)[0], wanted, rtol=1e-5)


def test_two_passes_are_identical_and_training_mode_is_off(small):
    encoder = NetworkEncoder(small, device="cpu")
    np.testing.assert_array_equal(encoder.encode(patches()), encoder.encode(patches()))
    assert not any(part.training for part in small.module.modules())


def test_a_row_does_not_depend_on_the_rest_of_the_batch(small):
    encoder = NetworkEncoder(small, device="cpu")
    together = encoder.encode(patches(4))
    assert together.shape == (4, encoder.width)
    assert together.dtype == np.float32
    np.testing.assert_allclose(
        encoder.encode(patches(4)[2:3]), together[2:3], rtol=1e-4, atol=1e-5
    )
    assert encoder.encode(patches(0)).shape == (0, encoder.width)


def test_features_are_the_means_after_every_stage(small):
    encoder = NetworkEncoder(small, device="cpu")
    net, maps = small.module, []
    x = encoder._prepared(patches())
    x = net.relu(net.bn1(net.conv1(x)))
    maps.append(x)
    x = net.maxpool(x)
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        x = layer(x)
        maps.append(x)
    wanted = torch.cat([each.mean((2, 3)) for each in maps], 1).detach().numpy()
    assert encoder.width == 64 + 64 + 128 + 256 + 512
    np.testing.assert_allclose(encoder.encode(patches()), wanted, rtol=1e-4, atol=1e-6)


def test_the_last_layer_alone_is_taken_when_asked(small):
    encoder = NetworkEncoder(small, pooling="last", device="cpu")
    assert encoder.width == 512
    assert encoder.name == "small@last"
    assert encoder.fingerprint != NetworkEncoder(small, device="cpu").fingerprint


@pytest.mark.parametrize(
    ("library", "name", "ends"),
    [
        ("torchvision", "densenet121", 5),
        ("torchvision", "mobilenet_v2", 5),
        ("torchvision", "regnet_y_400mf", 5),
        ("timm", "tf_efficientnet_lite0", 5),
        ("timm", "vit_tiny_patch16_224", 0),
        ("torchvision", "swin_t", 0),
    ],
)
def test_stages_are_found_in_networks_and_not_in_transformers(library, name, ends):
    module = build(name, library).eval()
    found = stage_ends(module, torch.zeros(1, 3, 224, 224))
    assert len(found) == ends
    assert not any(part._forward_hooks for part in module.modules())


def test_a_transformer_is_taken_at_its_last_layer():
    network = Network("tiny", build("vit_tiny_patch16_224", "timm"))
    assert NetworkEncoder(network, device="cpu").width == 192


def test_the_fingerprint_follows_the_weights_and_not_their_file():
    module = build("resnet18", "torchvision")
    before = weights_fingerprint(module)
    again = build("resnet18", "torchvision")
    again.load_state_dict(module.state_dict())
    assert weights_fingerprint(again) == before
    with torch.no_grad():
        again.conv1.weight[0, 0, 0, 0] += 1
    assert weights_fingerprint(again) != before


def test_the_pooling_stands_at_the_end_of_a_spec():
    assert split_pooling("resnet50@last") == ("resnet50", "last")
    assert split_pooling("local:/a@b/c.pth#resnet18") == ("local:/a@b/c.pth#resnet18", "stages")


def test_without_network_torchvision_weights_are_refused_with_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(SpotScopeError, match=r"'resnet50' are not at hand.*'stain'.*local:PATH"):
        get_encoder("resnet50", device="cpu")


def test_without_network_timm_weights_are_refused_at_once(monkeypatch):
    def offline(*args, **kwargs):
        raise socket.gaierror("no name service")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    monkeypatch.setattr(networks, "getproxies", dict)
    monkeypatch.setattr(networks, "_cached", lambda source: False)
    with pytest.raises(SpotScopeError, match=r"'timm:resnet18' are not at hand.*'stain'"):
        get_encoder("timm:resnet18", device="cpu")


def test_a_name_that_timm_lacks_is_refused_with_near_ones():
    with pytest.raises(SpotScopeError, match="timm has no network 'resnet18x'"):
        get_encoder("timm:resnet18x")


def test_timm_statistics_and_fixed_input_sizes_are_taken_over(monkeypatch):
    import timm

    config = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2), "fixed_input_size": True}
    module = Means()
    module.pretrained_cfg = {**config, "input_size": (3, 96, 96), "hf_hub_id": "timm/x"}
    monkeypatch.setattr(timm, "is_model", lambda name: True)
    monkeypatch.setattr(timm, "create_model", lambda *args, **kwargs: module)
    monkeypatch.setattr(networks, "_cached", lambda source: source == "timm/x")
    encoder = get_encoder("timm:x", device="cpu")
    assert encoder.patch_px == 96
    white = np.full((1, 96, 96, 3), 255, np.uint8)
    np.testing.assert_allclose(encoder.encode(white), 2.5, rtol=1e-5)


def test_a_device_of_its_own_is_preferred(monkeypatch):
    from spotscope.encoders.base import pick_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends, "mps", SimpleNamespace(is_available=lambda: True))
    assert pick_device() == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device() == "cuda"
