"""Image encoders that can be trained: a torchvision or timm classifier without its last layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spotscope.errors import SpotScopeError

Trainable = Literal["all", "last", "none"]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_WRAPPERS = ("module.", "model.", "backbone.", "encoder.", "trunk.", "_orig_mod.")


class ImageEncoder(nn.Module):
    """A network that turns RGB patches into pooled features.

    Parameters
    ----------
    trunk
        Maps normalised images (n, 3, H, W) to features (n, width).
    width
        Features a patch.
    trainable
        "all"; "last": the last stage alone (ST-GCHB); "none". What is not trained stays in
        evaluation mode, so that no running statistic of it moves.
    mean, std
        Of the data that the weights were trained on, for values 0 to 1; applied once, here.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: nn.Module,
        width: int,
        trainable: Trainable = "all",
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.width = width
        self.trainable = trainable
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self._last = last_stage(trunk) if trainable == "last" else []
        if trainable != "all":
            trunk.requires_grad_(False)
        for module in self._last:
            module.requires_grad_(True)

    def forward(self, images: Tensor) -> Tensor:
        """Return features (n, width) of RGB `images` (n, 3, H, W) with values 0 to 1."""
        normalised = (images - self.mean) / self.std
        if self.trainable == "none":
            with torch.no_grad():
                return self.trunk(normalised)
        return self.trunk(normalised)

    def train(self, mode: bool = True) -> ImageEncoder:
        """Set training mode on the trained part alone."""
        super().train(mode)
        if self.trainable != "all":
            self.trunk.eval()
            for module in self._last:
                module.train(mode)
        return self


def image_encoder(
    name: str = "resnet50",
    *,
    weights: Path | str | None = None,
    trainable: Trainable = "all",
) -> ImageEncoder:
    """Make an image encoder.

    Parameters
    ----------
    name
        A torchvision classifier ("resnet50": 2048 features, "densenet121": 1024, ...) or
        "timm:NAME".
    weights
        None for random ones; "imagenet" for the library's own, which it downloads once; else a
        file of weights: safetensors, or a state dict that torch can read without running code.
    trainable
        See `ImageEncoder`.

    Raises
    ------
    SpotScopeError
        When there is no such network, or its weights cannot be had or do not fit.
    """
    wants_download = weights == "imagenet"
    try:
        if name.startswith("timm:"):
            trunk, width, mean, std = _from_timm(name.removeprefix("timm:"), wants_download)
        else:
            trunk, width, mean, std = _from_torchvision(name, wants_download)
    except OSError as error:
        raise SpotScopeError(
            f"The ImageNet weights of '{name}' could not be downloaded; go online once, or give"
            " a file of weights."
        ) from error
    if weights is not None and not wants_download:
        load_weights(trunk, Path(weights))
    return ImageEncoder(trunk, width, trainable, mean, std)


def load_weights(trunk: nn.Module, path: Path) -> None:
    """Load a file of weights into `trunk`; a classifier's last layer in the file is left out.

    Raises
    ------
    SpotScopeError
        When the file cannot be read or holds another network.
    """
    state = read_state(path)
    own = trunk.state_dict()
    for wrapper in _WRAPPERS:
        if state and all(key.startswith(wrapper) for key in state):
            state = {key.removeprefix(wrapper): value for key, value in state.items()}
    missing = [
        key
        for key, value in own.items()
        if key not in state or state[key].shape != value.shape
        if not key.endswith("num_batches_tracked")
    ]
    if missing:
        raise SpotScopeError(
            f"The weights in '{path.name}' do not belong to this network ('{missing[0]}' and"
            f" {len(missing) - 1} more are missing or of another shape); choose the network that"
            " they were trained for."
        )
    trunk.load_state_dict({key: state[key] for key in own if key in state}, strict=False)


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict from safetensors, or from a torch file without running any code in it.

    Raises
    ------
    SpotScopeError
        When there is no such file or it holds no weights.
    """
    if not path.is_file():
        raise SpotScopeError(f"There is no file of weights at '{path}'.")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, ValueError) as error:
            raise SpotScopeError(f"'{path.name}' is not a whole safetensors file.") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise SpotScopeError(
            f"'{path.name}' holds more than plain weights or is damaged; save the state dict as"
            " safetensors."
        ) from error
    for key in ("state_dict", "model", "teacher"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise SpotScopeError(f"'{path.name}' holds no state dict; save one as safetensors.")
    return state


def last_stage(trunk: nn.Module) -> list[nn.Module]:
    """Return the modules that "last" trains: the last stage of `trunk` and what follows it.

    Raises
    ------
    SpotScopeError
        When the network has no stages that are known here.
    """
    children = dict(trunk.named_children())
    features = children.get("features")
    if features is not None:
        return _from_last_block(list(features.children()))
    inside = dict(children["encoder"].named_children()) if "encoder" in children else {}
    if "layers" in inside and "ln" in inside:  # torchvision's ViT
        return [list(inside["layers"].children())[-1], inside["ln"]]
    if "layer4" in children:
        return [children["layer4"]]
    for stages in ("stages", "blocks", "layers"):
        if stages in children:
            names = list(children)
            after = [children[name] for name in names[names.index(stages) + 1 :]]
            return [list(children[stages].children())[-1], *after]
    raise SpotScopeError(
        "This network has no stages that SpotScope knows; train all of it or none."
    )


def _from_last_block(blocks: list[nn.Module]) -> list[nn.Module]:
    """Return the last block that is more than a convolution with its norm, and what follows."""
    deep = [i for i, block in enumerate(blocks) if sum(1 for _ in block.modules()) > 8]
    weighted = [i for i, block in enumerate(blocks) if any(True for _ in block.parameters())]
    return blocks[(deep or weighted)[-1] :]


def _from_torchvision(
    name: str, download: bool
) -> tuple[nn.Module, int, tuple[float, ...], tuple[float, ...]]:
    from torchvision.models import get_model, list_models

    if name not in list_models():
        raise SpotScopeError(
            f"torchvision has no network '{name}'; try 'resnet50', 'densenet121' or 'timm:NAME'."
        )
    trunk = get_model(name, weights="IMAGENET1K_V1" if download else None)
    linear = [key for key, module in trunk.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise SpotScopeError(f"'{name}' is not a classifier of whole images; choose another one.")
    parent, _, last = linear[-1].rpartition(".")
    width = trunk.get_submodule(linear[-1]).in_features
    setattr(trunk.get_submodule(parent), last, nn.Identity())
    return trunk, int(width), IMAGENET_MEAN, IMAGENET_STD


def _from_timm(
    name: str, download: bool
) -> tuple[nn.Module, int, tuple[float, ...], tuple[float, ...]]:
    import timm

    if not timm.is_model(name):
        raise SpotScopeError(f"timm has no network '{name}'; `timm.list_models()` lists them.")
    trunk = timm.create_model(name, pretrained=download, num_classes=0)
    settings: dict[str, Any] = trunk.pretrained_cfg  # type: ignore[assignment]
    mean = tuple(settings.get("mean", IMAGENET_MEAN))
    std = tuple(settings.get("std", IMAGENET_STD))
    # Some networks keep layers between the pooling and the classifier.
    width: Any = getattr(trunk, "head_hidden_size", None) or trunk.num_features
    return trunk, int(width), mean, std
