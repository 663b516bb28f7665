"""Networks of torchvision and timm as encoders; needs numpy and torch alone to run."""

from __future__ import annotations

import hashlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import numpy as np

from spotscope.encoders.base import PATCH_PX, Encoder, EncoderInfo, Images, pick_device
from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from numpy.typing import NDArray
    from torch import nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Where torchvision's and timm's classifiers hang; what they decide is not wanted here.
HEADS = ("fc", "classifier", "heads", "head", "AuxLogits", "aux1", "aux2")
OTHERWISE = "use the encoder 'stain', which needs none, or name a file with local:PATH"

Pooling = Literal["stages", "last"]


@dataclass(frozen=True)
class Network:
    """A network without its classifier, and what it must be fed.

    Attributes
    ----------
    spec
        What makes it again.
    module
        Maps (n, 3, patch_px, patch_px) to its last layer's (n, k).
    mean, std
        Of red, green and blue in 0 to 1, as it was trained with.
    patch_px
        The input it is fed.
    """

    spec: str
    module: nn.Module
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    patch_px: int = PATCH_PX


class NetworkEncoder(Encoder):
    """A network, averaged over the patch after every stage.

    Early stages hold stain and texture, late ones objects of everyday photographs. On tissue the
    former matter: pooling every stage of an ImageNet network predicts expression better than its
    last layer alone (EfficientNet-Lite2 on breast sections: mean Pearson .425 against .376). A
    transformer has no stages; its last layer is taken.

    Parameters
    ----------
    network
        What to run.
    pooling
        "stages" or "last".
    device
        See `pick_device`.
    """

    def __init__(
        self, network: Network, *, pooling: Pooling = "stages", device: str = "auto"
    ) -> None:
        import torch

        self.device = pick_device(device)
        self.patch_px = network.patch_px
        self.pooling: Pooling = pooling
        module = network.module.eval().requires_grad_(False)
        self.fingerprint = f"{weights_fingerprint(module)}-{pooling}"
        self.name = network.spec if pooling == "stages" else f"{network.spec}@last"
        self._module = module.to(self.device).to(memory_format=torch.channels_last)
        self._mean = torch.tensor(network.mean, device=self.device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(network.std, device=self.device).view(1, 3, 1, 1) * 255
        self._stages = stage_ends(module, self._prepared(self._blank())) if self.staged else []
        self.width = self.encode(self._blank()).shape[1]

    @property
    def staged(self) -> bool:
        """Whether features are taken after every stage."""
        return self.pooling == "stages"

    def encode(self, patches: Images) -> NDArray[np.float32]:
        """Return the features of `patches`, (n, width) float32."""
        import torch

        patches = self.checked(patches)
        if not len(patches):
            return np.zeros((0, self.width), np.float32)
        with torch.inference_mode():
            inputs = self._prepared(patches)
            if self._stages:
                maps = _outputs(self._module, self._stages, inputs)
                pooled = torch.cat([each.mean((2, 3)) for each in maps], dim=1)
            else:
                pooled = self._module(inputs).flatten(1)
            return pooled.float().cpu().numpy()

    def _blank(self) -> Images:
        return np.full((1, self.patch_px, self.patch_px, 3), 255, dtype=np.uint8)

    def _prepared(self, patches: Images) -> torch.Tensor:
        """Return RGB patches as the network was trained on them."""
        import torch

        # (n, rows, cols, 3) seen as (n, 3, rows, cols) is channels_last already.
        images = torch.from_numpy(np.ascontiguousarray(patches)).permute(0, 3, 1, 2)
        return (images.to(self.device).float() - self._mean) / self._std


def stage_ends(module: nn.Module, inputs: torch.Tensor) -> list[str]:
    """Name the parts after which the picture gets smaller, in the order they run.

    Returns nothing for a network whose parts give no pictures, such as a transformer.
    """
    import torch

    seen: list[tuple[str, int]] = []

    def watch(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if (
                isinstance(output, torch.Tensor)
                and output.ndim == 4
                and output.shape[2] == output.shape[3] > 1
            ):
                seen.append((name, output.shape[2]))

        return hook

    handles = [part.register_forward_hook(watch(name)) for name, part in _trunk(module)]
    try:
        with torch.inference_mode():
            module(inputs)
    finally:
        for handle in handles:
            handle.remove()
    last_of: dict[int, str] = {}
    for name, size in seen:
        last_of[size] = name
    ends = [last_of[size] for size in sorted(last_of, reverse=True)]
    return ends if len(ends) >= 3 else []


def _trunk(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Walk the parts that run one after the other, and into plain sequences of them."""
    from torch import nn

    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if type(child) is nn.Sequential or name in ("trunk_output", "stages"):
            yield from _trunk(child, f"{path}.")
        else:
            yield path, child


def _outputs(module: nn.Module, names: list[str], inputs: torch.Tensor) -> list[torch.Tensor]:
    """Run `module` and return what the named parts put out."""
    kept: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: kept.__setitem__(name, output)

    handles = [module.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        module(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return [kept[name] for name in names]


def weights_fingerprint(module: nn.Module) -> str:
    """Return a hash of all weights, the same for the same weights from any file."""
    digest = hashlib.blake2b(digest_size=12)
    for name, tensor in sorted(module.state_dict().items()):
        if not name.endswith("num_batches_tracked"):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def split_pooling(spec: str) -> tuple[str, Pooling]:
    """Split `@last` or `@stages` off the end of a spec."""
    if spec.endswith("@last"):
        return spec.removesuffix("@last"), "last"
    return spec.removesuffix("@stages"), "stages"


def load_network(spec: str) -> Network:
    """Return the network that `spec` names, with its weights.

    Parameters
    ----------
    spec
        A torchvision classifier, `timm:NAME` or `local:PATH[#ARCH]`.

    Raises
    ------
    SpotScopeError
        When there is no such network, or its weights cannot be had.
    """
    if spec.startswith("local:"):
        from spotscope.encoders.local import load_local

        return load_local(spec)
    if spec.startswith("timm:"):
        return _timm_network(spec.removeprefix("timm:"))
    if spec in torchvision_names():
        return _torchvision_network(spec)
    raise SpotScopeError(
        f"There is no encoder '{spec}'; choose stain, resnet50, densenet121, timm:NAME,"
        " local:PATH or features:PATH (see `spotscope encoders`)."
    )


def torchvision_names() -> list[str]:
    """Names of torchvision's classifiers."""
    from torchvision import models

    return models.list_models(module=models)


def build(name: str, library: str) -> nn.Module:
    """Return an untrained network of "torchvision" or "timm" without its classifier."""
    if library == "timm":
        import timm

        return timm.create_model(name, pretrained=False, num_classes=0)
    from torchvision import models

    # Some of torchvision's networks warn about the initialisation, which is overwritten anyway.
    extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return without_head(models.get_model(name, weights=None, **extra))


def without_head(module: nn.Module) -> nn.Module:
    """Take the classifier off a torchvision network."""
    from torch import nn

    for name in HEADS:
        if getattr(module, name, None) is not None:
            setattr(module, name, nn.Identity() if not name.lower().startswith("aux") else None)
    vars(module).update({"aux_logits": False} if hasattr(module, "aux_logits") else {})
    return module


def timm_config(module: nn.Module) -> dict[str, Any]:
    """Return timm's configuration of a network; empty for others."""
    return dict(vars(module).get("pretrained_cfg") or {})


def timm_input(config: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    """Return mean, standard deviation and input size of timm's configuration of a network."""
    size = PATCH_PX
    if config.get("fixed_input_size"):
        size = int(config["input_size"][-1])
    mean = tuple(config.get("mean") or IMAGENET_MEAN)
    return mean, tuple(config.get("std") or IMAGENET_STD), size


def _torchvision_network(name: str) -> Network:
    from torchvision import models

    weights = models.get_model_weights(name).DEFAULT
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except Exception as error:
        raise _no_weights(name, "torchvision") from error
    module = models.get_model(name, weights=None)
    module.load_state_dict(state)
    return Network(name, without_head(module))


def _timm_network(name: str) -> Network:
    import timm

    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('.')[0]}*")[:3]
        hint = f"it has {', '.join(near)}" if near else "look the name up in timm's list of models"
        raise SpotScopeError(f"timm has no network '{name}'; {hint}.")
    module = timm.create_model(name, pretrained=False, num_classes=0)
    source = timm_config(module).get("hf_hub_id") or ""
    # The hub's client tries again for most of a minute before it says that there is no network.
    if not (_cached(source) or _hub_in_reach()):
        raise _no_weights(f"timm:{name}", "timm")
    try:
        module = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:
        raise _no_weights(f"timm:{name}", "timm") from error
    mean, std, size = timm_input(timm_config(module))
    return Network(f"timm:{name}", module, mean, std, size)


def _cached(source: str) -> bool:
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE) / f"models--{source.replace('/', '--')}"
    return any(folder.glob("snapshots/*/*.safetensors")) or any(folder.glob("snapshots/*/*.bin"))


def _hub_in_reach() -> bool:
    """Tell whether the hub's name can be looked up; behind a proxy the proxy will know."""
    from huggingface_hub.constants import ENDPOINT

    host = urlsplit(ENDPOINT).hostname or ""
    if getproxies() and not proxy_bypass(host):
        return True
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True


def _no_weights(spec: str, library: str) -> SpotScopeError:
    return SpotScopeError(
        f"The weights of '{spec}' are not at hand and {library} could not download them;"
        f" connect to the network once, {OTHERWISE}."
    )


def known_networks() -> list[EncoderInfo]:
    """List the networks offered by name, and those of timm whose weights are at hand."""
    named = [
        EncoderInfo(
            spec, f"{title}, ImageNet (torchvision)", at_hand, "" if at_hand else _DOWNLOAD
        )
        for spec, title, file in _OFFERED
        for at_hand in [(_torch_cache() / file).is_file()]
    ]
    cached = [
        EncoderInfo(f"timm:{name}", "network of timm, weights at hand", True)
        for name in _cached_by_timm()
    ]
    anything = EncoderInfo("timm:NAME", "any network of timm by name", False, _DOWNLOAD)
    return [*named, *cached, anything]


_DOWNLOAD = "downloaded at the first use, which needs the network"
# The files are torchvision's default weights; listing them must not take seconds of imports.
_OFFERED = (
    ("resnet50", "ResNet-50", "resnet50-11ad3fa6.pth"),
    ("densenet121", "DenseNet-121", "densenet121-a639ec97.pth"),
)


def _torch_cache() -> Path:
    home = os.environ.get("TORCH_HOME")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(home) if home else cache / "torch") / "hub" / "checkpoints"


def _cached_by_timm() -> list[str]:
    from huggingface_hub.constants import HF_HUB_CACHE

    return [
        folder.name.removeprefix("models--timm--")
        for folder in sorted(Path(HF_HUB_CACHE).glob("models--timm--*"))
        if _cached(folder.name.removeprefix("models--").replace("--", "/"))
    ]
