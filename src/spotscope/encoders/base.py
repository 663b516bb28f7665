"""What an image encoder is, and how one is chosen by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spotscope.errors import SpotScopeError

Images = NDArray[np.uint8]

PATCH_UM = 165.0
"""Width of a patch on the tissue: a first-generation spot (100 µm) and the rim that it shares
with its neighbours, or a Visium spot (55 µm) and its neighbours. At 224 px this is 0.74 µm per
pixel, between the 10× and the 20× of a microscope."""
PATCH_PX = 224

AUTO = "stain"
"""What "auto" stands for: the encoder that is at hand everywhere, so that the same command gives
the same numbers on every machine. Networks are used when they are named."""


class Encoder(ABC):
    """Turns patches of tissue into numbers.

    Attributes
    ----------
    name
        The spec that makes it again, see `get_encoder`.
    width
        How many numbers a patch becomes.
    patch_um, patch_px
        Width of a patch on the tissue and in pixels.
    fingerprint
        Of the weights: what was encoded with other weights is not mixed with these.
    device
        Where it computes: "cuda", "mps" or "cpu".
    """

    name: str
    width: int
    patch_um: float = PATCH_UM
    patch_px: int = PATCH_PX
    fingerprint: str
    device: str = "cpu"

    @abstractmethod
    def encode(self, patches: Images) -> NDArray[np.float32]:
        """Encode RGB `patches` (n, patch_px, patch_px, 3) uint8; return (n, width) float32."""

    def checked(self, patches: Images) -> Images:
        """Return `patches`, or say what is wrong with them."""
        patches = np.asarray(patches)
        wanted = (self.patch_px, self.patch_px, 3)
        if patches.ndim != 4 or patches.shape[1:] != wanted or patches.dtype != np.uint8:
            raise SpotScopeError(
                f"The encoder '{self.name}' takes patches of {wanted[0]} x {wanted[1]} RGB pixels"
                f" as 8-bit numbers; it was given {patches.shape} of {patches.dtype}."
            )
        return patches


def get_encoder(spec: str | Encoder = "auto", *, device: str = "auto") -> Encoder:
    """Return the encoder that `spec` names.

    Parameters
    ----------
    spec
        - `auto`: `stain`, always.
        - `stain`: stain, texture and nuclei; needs no weights.
        - `resnet50`, `densenet121`, or any classifier of torchvision, with its ImageNet weights.
        - `timm:NAME`: any model of timm, with its weights.
        - `local:PATH`, `local:PATH#ARCH`: weights in a file (safetensors or a state dict) of a
          torchvision or timm architecture.
        - `features:PATH`: features computed elsewhere, see `precomputed`.

        Networks are averaged after every stage; `@last` at the end takes the last layer alone.
    device
        "auto" takes CUDA, else MPS, else the CPU.

    Raises
    ------
    SpotScopeError
        When no encoder is called so, or its weights cannot be had.
    """
    if isinstance(spec, Encoder):
        return spec
    text = str(spec).strip()
    if text == "auto":
        text = AUTO
    if text == "stain":
        from spotscope.encoders.stain import StainEncoder

        return StainEncoder(device)
    if text.startswith("features:"):
        from spotscope.encoders.precomputed import PrecomputedEncoder

        return PrecomputedEncoder(text.removeprefix("features:"))
    from spotscope.encoders.networks import NetworkEncoder, load_network, split_pooling

    source, pooling = split_pooling(text)
    return NetworkEncoder(load_network(source), pooling=pooling, device=device)


def pick_device(wanted: str = "auto") -> str:
    """Return "cuda", "mps" or "cpu": the fastest at hand, or the one that is wanted.

    Raises
    ------
    SpotScopeError
        When the wanted device is not at hand.
    """
    import torch

    at_hand = ["cpu"]
    if torch.backends.mps.is_available():
        at_hand.insert(0, "mps")
    if torch.cuda.is_available():
        at_hand.insert(0, "cuda")
    if wanted == "auto":
        return at_hand[0]
    if wanted.split(":")[0] not in at_hand:
        raise SpotScopeError(
            f"The device '{wanted}' is not at hand here; choose {' or '.join(at_hand)}."
        )
    return wanted


@dataclass(frozen=True)
class EncoderInfo:
    """What the list of encoders says about one.

    Attributes
    ----------
    spec
        What to type.
    title
        What it is.
    at_hand
        Whether it can run now, without a download.
    how
        How to get its weights; empty when they are at hand.
    """

    spec: str
    title: str
    at_hand: bool
    how: str = ""


def encoders() -> list[EncoderInfo]:
    """List the encoders: those of this package, and the networks whose weights are at hand."""
    from spotscope.encoders.networks import known_networks

    return [
        EncoderInfo("stain", "stain, texture and nuclei; the default, needs no weights", True),
        *known_networks(),
        EncoderInfo(
            "local:PATH#ARCH",
            "your own weights of any torchvision or timm architecture",
            False,
            "name a safetensors file or a PyTorch state dict",
        ),
        EncoderInfo(
            "features:PATH",
            "features computed elsewhere",
            False,
            "name an h5 or zarr file with `features` and `coords`",
        ),
    ]
