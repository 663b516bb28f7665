"""Weights in a file as an encoder: safetensors, or a state dict without code in it."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spotscope.encoders.networks import (
    HEADS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Network,
    build,
    timm_config,
    timm_input,
    torchvision_names,
)
from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    import torch
    from torch import nn

State = dict[str, "torch.Tensor"]

# What training code wraps a state dict in, and puts before the names of its weights.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "teacher", "net", "encoder")
_PREFIXES = ("module.", "backbone.", "encoder.", "model.", "net.", "_orig_mod.")
# Under which a file states its architecture.
_METADATA = ("timm", "torchvision", "architecture", "arch", "model_name", "model")


def load_local(spec: str) -> Network:
    """Return the network whose weights lie in a file.

    Parameters
    ----------
    spec
        `local:PATH` or `local:PATH#ARCH`. ARCH is a name of torchvision or timm, with `timm:` or
        `torchvision:` before it where both have it. Without it the file's metadata, its name and
        at last the names and shapes of its weights decide.

    Raises
    ------
    SpotScopeError
        When the file cannot be read, or its weights do not fit the architecture.
    """
    path, _, arch = spec.removeprefix("local:").partition("#")
    file = Path(path).expanduser()
    state, metadata = read_state(file)
    candidates = _named(arch) if arch else _stated(metadata) or _in_file_name(file.stem)
    if arch and not candidates:
        raise SpotScopeError(
            f"Neither torchvision nor timm has an architecture '{arch}'; name one of theirs after"
            " the # of local:PATH#ARCH."
        )
    misfit = ""
    for library, name in candidates:
        module = build(name, library)
        misfit = fit_state(module, state)
        if not misfit:
            return _network(f"local:{file}#{library}:{name}", module, library, metadata)
    if not arch:
        for name in _of_shapes(state):
            module = build(name, "torchvision")
            if not fit_state(module, state):
                spec = f"local:{file}#torchvision:{name}"
                return _network(spec, module, "torchvision", metadata)
    if misfit:
        raise SpotScopeError(
            f"The weights in '{file.name}' do not fit '{candidates[-1][1]}': {misfit}; name the"
            " architecture they were trained with as local:PATH#ARCH."
        )
    raise SpotScopeError(
        f"The architecture of the weights in '{file.name}' could not be told; name it as"
        f" local:{file.name}#ARCH, for example #resnet50."
    )


def read_state(file: Path) -> tuple[State, dict[str, str]]:
    """Return the weights and metadata of a file.

    Raises
    ------
    SpotScopeError
        When it is absent, damaged or holds code instead of weights.
    """
    if not file.is_file():
        raise SpotScopeError(f"There is no file '{file}' with weights; check the path.")
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    import torch

    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise SpotScopeError(
            f"'{file.name}' is no plain state dict of PyTorch (it is damaged or holds more than"
            " weights, which is not opened for safety); save `model.state_dict()` or safetensors."
        ) from error
    while isinstance(content, Mapping) and not _is_state(content):
        inner = next((content[key] for key in _WRAPPERS if key in content), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not _is_state(content):
        raise SpotScopeError(
            f"'{file.name}' holds no weights that could be found; save `model.state_dict()`."
        )
    return {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}, {}


def _read_safetensors(file: Path) -> tuple[State, dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as handle:
            return {k: handle.get_tensor(k) for k in handle.keys()}, handle.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise SpotScopeError(
            f"'{file.name}' is no whole safetensors file; copy or download it again."
        ) from error


def _is_state(content: Mapping[Any, Any]) -> bool:
    import torch

    return bool(content) and any(isinstance(v, torch.Tensor) for v in content.values())


def fit_state(module: nn.Module, state: State) -> str:
    """Load `state` into `module`, all of it but a classifier; return what does not fit."""
    wanted = module.state_dict()
    state = _bare(state, wanted)
    heads = tuple(f"{head}." for head in (*HEADS, *_classifiers(module)))
    extra = [k for k in state if k not in wanted and not k.startswith(heads)]
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    shaped = [k for k in wanted if k in state and state[k].shape != wanted[k].shape]
    for names, what in (
        (missing, "lacks"),
        (extra, "has besides"),
        (shaped, "differs in shape at"),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            return f"the file {what} '{names[0]}'{more}"
    module.load_state_dict({k: v for k, v in state.items() if k in wanted}, strict=False)
    return ""


def _classifiers(module: nn.Module) -> list[str]:
    config = timm_config(module)
    named = config.get("classifier") or ()
    return [named] if isinstance(named, str) else list(named)


def _bare(state: State, wanted: Iterable[str]) -> State:
    """Take off what training code put before the names of the weights."""
    wanted = set(wanted)
    while not wanted & set(state):
        prefix = next((p for p in _PREFIXES if any(k.startswith(p) for k in state)), None)
        if prefix is None:
            break
        state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return state


def _network(spec: str, module: nn.Module, library: str, metadata: dict[str, str]) -> Network:
    config = timm_config(module)
    mean, std, size = timm_input(config) if library == "timm" else (None, None, None)
    return Network(
        spec,
        module,
        _three(metadata.get("mean")) or mean or IMAGENET_MEAN,
        _three(metadata.get("std")) or std or IMAGENET_STD,
        size or Network.patch_px,
    )


def _three(text: str | None) -> tuple[float, ...] | None:
    try:
        numbers = tuple(
            float(word) for word in (text or "").strip("()[]").replace(",", " ").split()
        )
    except ValueError:
        return None
    return numbers if len(numbers) == 3 else None


def _named(arch: str) -> list[tuple[str, str]]:
    """Return (library, name) of an architecture, in the order to try."""
    import timm

    library, colon, name = arch.partition(":")
    if not colon:
        library, name = "", arch
    found = []
    if library in ("", "torchvision") and name in torchvision_names():
        found.append(("torchvision", name))
    if library in ("", "timm") and timm.is_model(name):
        found.append(("timm", name))
    return found


def _stated(metadata: dict[str, str]) -> list[tuple[str, str]]:
    for key in _METADATA:
        if key in metadata:
            library = f"{key}:" if key in ("timm", "torchvision") else ""
            if found := _named(library + metadata[key]):
                return found
    return []


def _in_file_name(stem: str) -> list[tuple[str, str]]:
    """Return the longest architecture that a file's name holds."""
    import timm

    stem = stem.lower().replace("-", "_")
    names = {*torchvision_names(), *timm.list_models()}
    held = sorted((name for name in names if name in stem), key=len)
    return _named(held[-1]) if held and len(held[-1]) > 3 else []


def _of_shapes(state: State) -> list[str]:
    """Return torchvision's architectures that have as many weights of the same shapes."""
    import torch

    def shapes(weights: Mapping[str, torch.Tensor]) -> set[tuple[int, ...]]:
        return {tuple(v.shape) for v in weights.values() if v.ndim == 4}

    wanted = shapes(state)
    found = []
    for name in torchvision_names():
        # RegNets compute their widths with tensors, which have no values on this device.
        with torch.device("meta"), suppress(NotImplementedError):
            if shapes(build(name, "torchvision").state_dict()) == wanted:
                found.append(name)
    return found
