from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from spotscope.encoders.base import get_encoder
from spotscope.encoders.local import load_local
from spotscope.encoders.networks import build, weights_fingerprint
from spotscope.errors import SpotScopeError


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(1)
    from torchvision.models import resnet18

    return {name: value.clone() for name, value in resnet18(weights=None).state_dict().items()}


@pytest.fixture(scope="module")
def fingerprint(state):
    module = build("resnet18", "torchvision")
    module.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")})
    return weights_fingerprint(module)


def test_an_architecture_after_the_hash_is_loaded_strictly(tmp_path, state, fingerprint):
    save_file(state, tmp_path / "weights.safetensors")
    network = load_local(f"local:{tmp_path}/weights.safetensors#resnet18")
    assert weights_fingerprint(network.module) == fingerprint
    assert network.spec == f"local:{tmp_path}/weights.safetensors#torchvision:resnet18"


def test_a_file_name_tells_the_architecture(tmp_path, state, fingerprint):
    torch.save(state, tmp_path / "my-resnet18-tissue.pth")
    network = load_local(f"local:{tmp_path}/my-resnet18-tissue.pth")
    assert weights_fingerprint(network.module) == fingerprint


def test_metadata_tells_the_architecture_and_the_statistics(tmp_path, state):
    metadata = {"timm": "resnet18", "mean": "0.5 0.4 0.3", "std": "(0.2, 0.2, 0.2)"}
    save_file(state, tmp_path / "x.safetensors", metadata)
    network = load_local(f"local:{tmp_path}/x.safetensors")
    assert network.spec.endswith("#timm:resnet18")
    assert (network.mean, network.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))


def test_the_weights_themselves_tell_the_architecture(tmp_path, state, monkeypatch):
    from spotscope.encoders import local

    names = ["vgg11", "mobilenet_v2", "regnet_x_400mf", "resnet18", "resnet34"]
    monkeypatch.setattr(local, "torchvision_names", lambda: names)
    torch.save(state, tmp_path / "best.pt")
    assert load_local(f"local:{tmp_path}/best.pt").spec.endswith("#torchvision:resnet18")


def test_what_training_code_wraps_weights_in_is_taken_off(tmp_path, state, fingerprint):
    wrapped = {f"module.backbone.{k}": v for k, v in state.items() if not k.startswith("fc.")}
    wrapped["module.projector.weight"] = torch.zeros(3)
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "resnet18.tar")
    network = load_local(f"local:{tmp_path}/resnet18.tar")
    assert weights_fingerprint(network.module) == fingerprint


def test_weights_that_do_not_fit_are_named(tmp_path, state):
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(SpotScopeError, match=r"do not fit 'resnet50': the file lacks 'layer1"):
        load_local(f"local:{tmp_path}/w.safetensors#resnet50")
    odd = {**state, "conv1.weight": state["conv1.weight"][:32].clone()}
    save_file(odd, tmp_path / "odd.safetensors")
    with pytest.raises(SpotScopeError, match="differs in shape at 'conv1.weight'"):
        load_local(f"local:{tmp_path}/odd.safetensors#resnet18")
    more = {**state, "layer5.weight": torch.zeros(2)}
    save_file(more, tmp_path / "more.safetensors")
    with pytest.raises(SpotScopeError, match="has besides 'layer5.weight'"):
        load_local(f"local:{tmp_path}/more.safetensors#resnet18")


def test_an_unknown_architecture_is_refused(tmp_path, state):
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(SpotScopeError, match="Neither torchvision nor timm has"):
        load_local(f"local:{tmp_path}/w.safetensors#uni2")


def test_a_file_with_code_in_it_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "resnet18.pth").write_bytes(pickle.dumps({"state_dict": Evil()}))
    with pytest.raises(SpotScopeError, match="not opened for safety"):
        load_local(f"local:{tmp_path}/resnet18.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["resnet18.pth", "resnet18.safetensors"])
def test_a_truncated_file_is_refused(tmp_path, state, name):
    file = tmp_path / name
    (save_file if file.suffix == ".safetensors" else torch.save)(state, file)
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(SpotScopeError, match="no whole safetensors file|no plain state dict"):
        load_local(f"local:{file}")


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(SpotScopeError, match="There is no file"):
        get_encoder(f"local:{tmp_path}/none.pth")


@pytest.mark.parametrize(
    ("file", "arch", "width"),
    [
        ("mobilenet_v2-imagenet.safetensors", "torchvision:mobilenet_v2", 1448),
        ("tf_efficientnet_lite2-imagenet.safetensors", "timm:tf_efficientnet_lite2", 1488),
    ],
)
def test_real_weights_are_opened_by_path_alone(shared_data, file, arch, width):
    encoder = get_encoder(f"local:{shared_data / 'weights' / file}", device="cpu")
    assert encoder.name.endswith(f"#{arch}")
    assert encoder.width == width


def test_real_weights_see_a_cat_and_an_espresso(shared_data):
    from skimage import data, transform
    from torchvision.models import mobilenet_v2

    file = shared_data / "weights" / "mobilenet_v2-imagenet.safetensors"
    encoder = get_encoder(f"local:{file}", device="cpu")
    weights = {name: value.float() for name, value in load_file(file).items()}
    head = mobilenet_v2(weights=None).classifier.eval()
    head.load_state_dict({k[11:]: v for k, v in weights.items() if k.startswith("classifier.")})
    for picture, classes in ((data.chelsea(), {281, 282, 285}), (data.coffee(), {967})):
        side = min(picture.shape[:2])
        top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
        square = picture[top : top + side, left : left + side]
        patch = transform.resize(square, (224, 224), anti_aliasing=True, preserve_range=True)
        # The last 1,280 features are what the network's own classifier is fed.
        last = encoder.encode(patch.round().astype(np.uint8)[None])[:, -1280:]
        with torch.inference_mode():
            assert int(head(torch.from_numpy(last)).argmax()) in classes
