from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spotscope.errors import SpotScopeError
from spotscope.nets.image import image_encoder, last_stage


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("resnet50", 2048),
        ("densenet121", 1024),
        ("mobilenet_v2", 1280),
        ("timm:vit_tiny_patch16_224", 192),
        ("timm:resnet18", 512),
        ("timm:tf_efficientnet_lite0", 1280),
    ],
)
def test_every_network_gives_pooled_features_and_trains_its_last_stage(
    name: str, width: int
) -> None:
    encoder = image_encoder(name, trainable="last").train()
    size = 224 if "vit" in name else 32
    features = encoder(torch.rand(2, 3, size, size))
    assert features.shape == (2, width)
    assert encoder.width == width
    total = sum(p.numel() for p in encoder.parameters())
    trained = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    assert 0 < trained < total
    features.sum().backward()


def test_resnet_trains_layer4_alone_and_no_other_statistic_moves() -> None:
    encoder = image_encoder("resnet18", trainable="last").train()
    assert {n.split(".")[1] for n, p in encoder.named_parameters() if p.requires_grad} == {
        "layer4"
    }
    before = {key: value.clone() for key, value in encoder.named_buffers()}
    encoder(torch.rand(4, 3, 64, 64))
    moved = {n for n, b in encoder.named_buffers() if not torch.equal(b, before[n])}
    assert moved
    assert all(name.startswith("trunk.layer4") for name in moved)


def test_frozen_encoder_moves_nothing_and_needs_no_gradient() -> None:
    encoder = image_encoder("resnet18", trainable="none").train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    features = encoder(torch.rand(4, 3, 64, 64))
    assert not features.requires_grad
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())


def test_imagenet_statistics_are_applied_once() -> None:
    encoder = image_encoder("resnet18").eval()
    images = torch.rand(2, 3, 64, 64)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    torch.testing.assert_close(encoder(images), encoder.trunk((images - mean) / std))
    torch.testing.assert_close(encoder(images), encoder(images))


def test_features_do_not_depend_on_the_rest_of_the_batch() -> None:
    torch.manual_seed(0)
    encoder = image_encoder("resnet18").eval()
    images = torch.rand(3, 3, 64, 64)
    torch.testing.assert_close(encoder(images)[1:2], encoder(images[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("prefix", "suffix"), [("", ".safetensors"), ("module.", ".pth")])
def test_weights_come_from_a_file_with_or_without_the_classifier(
    tmp_path: Path, prefix: str, suffix: str
) -> None:
    from torchvision.models import resnet18

    source = resnet18(weights=None)
    state = {prefix + key: value for key, value in source.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": state}, path)
    else:
        save_file(state, path)
    encoder = image_encoder("resnet18", weights=path).eval()
    source.fc = torch.nn.Identity()
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(encoder(images * 0 + encoder.mean), source.eval()(images * 0))


def test_weights_that_do_not_fit_or_are_no_weights_are_refused_in_a_sentence(
    tmp_path: Path,
) -> None:
    from torchvision.models import resnet34

    save_file(resnet34(weights=None).state_dict(), tmp_path / "other.safetensors")
    assert image_encoder("resnet34", weights=tmp_path / "other.safetensors")
    with pytest.raises(SpotScopeError, match="do not belong to this network"):
        image_encoder("resnet50", weights=tmp_path / "other.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(SpotScopeError, match="not a whole safetensors file"):
        image_encoder("resnet18", weights=tmp_path / "torn.safetensors")
    torch.save(resnet34(weights=None), tmp_path / "pickle.pt")
    with pytest.raises(SpotScopeError, match="more than plain weights"):
        image_encoder("resnet18", weights=tmp_path / "pickle.pt")
    with pytest.raises(SpotScopeError, match="There is no file"):
        image_encoder("resnet18", weights=tmp_path / "absent.pth")
    with pytest.raises(SpotScopeError, match="no network 'resnet51'"):
        image_encoder("resnet51")
    with pytest.raises(SpotScopeError, match="no network 'nothing'"):
        image_encoder("timm:nothing")


def test_a_network_without_stages_says_so() -> None:
    with pytest.raises(SpotScopeError, match="train all of it or none"):
        last_stage(torch.nn.Linear(2, 2))


def test_real_weights_load(shared_data: Path) -> None:
    weights = shared_data / "weights"
    mobile = image_encoder("mobilenet_v2", weights=weights / "mobilenet_v2-imagenet.safetensors")
    lite = image_encoder(
        "timm:tf_efficientnet_lite2",
        weights=weights / "tf_efficientnet_lite2-imagenet.safetensors",
    )
    assert lite.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    for encoder in (mobile, lite):
        features = encoder.eval()(torch.rand(1, 3, 96, 96))
        assert features.shape == (1, encoder.width)
        assert torch.isfinite(features).all()
