"""What a job will do and about how long it takes, told before it starts."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.data.places import Places, default_stride_um
from spotscope.slide.patches import read_patches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotscope.data.section import Section
    from spotscope.methods.base import Method

_SAMPLE = 16  # patches that are timed
_BASE_BYTES = 950e6  # Python with its libraries
_HEAD_SECONDS = 1e-3  # a spot and epoch where the image features are frozen, on two cores
_LATENT_START_SECONDS = 5.0  # scvi-tools itself
_LATENT_SECONDS, _LATENT_GENE_SECONDS = 1.0e-4, 1.5e-7  # scVI, a spot and epoch, on two cores
_LABEL_EPOCH = 2.0  # scANVI's passes with the labels, in passes of scVI
_TIMED_PATCHES = 4  # through a network that is trained


@dataclass(frozen=True)
class Estimate:
    """About what a job costs.

    Attributes
    ----------
    places
        Where the image is looked at on the user's behalf: spots, and cells of the grid.
    patches
        Patches to encode, those of the surroundings too.
    seconds
        When none of them was encoded before; shorter otherwise.
    memory_bytes
        At its peak.
    """

    places: int
    patches: int
    seconds: float
    memory_bytes: float

    def __str__(self) -> str:
        return (
            f"{self.places:,} places, {_duration(self.seconds)} unless features are at hand,"
            f" {self.memory_bytes / 1e9:.1f} GB of memory"
        )


def estimate_training(method: Method, sections: Sequence[Section]) -> Estimate:
    """Estimate the training of a method on sections; a few patches are encoded to time it."""
    spots = [Places.on_spots(section) for section in sections]
    genes = min(method.settings.panel.n_genes, min(len(section.genes) for section in sections))
    trained = _trained_network(method)
    count = sum(len(part) for part in spots)
    before = _latent_seconds(method, count, genes)
    if trained is None:
        found = _estimate(method, spots, genes)
        passes = getattr(method.settings, "epochs", 0) * found.places
        return replace(found, seconds=found.seconds + before + _HEAD_SECONDS * passes)
    seconds, memory_bytes = _step_cost(trained, method.encoder.patch_px, method.settings, count)
    return Estimate(
        count,
        count,
        before + seconds * count * getattr(method.settings, "epochs", 1),
        _BASE_BYTES + memory_bytes + 8.0 * count * genes,
    )


def estimate_prediction(
    method: Method, section: Section, stride_um: float | None = None, on_grid: bool = True
) -> Estimate:
    """Estimate the prediction of a section; a few patches are encoded to time it."""
    places = [Places.on_spots(section)] if section.has_spots else []
    if on_grid or not places:
        places.append(Places.on_grid(section, stride_um))
    return _estimate(method, places, len(method.genes))


def _estimate(method: Method, parts: Sequence[Places], genes: int) -> Estimate:
    count = sum(len(part) for part in parts)
    if not method.uses_encoder:
        return Estimate(count, 0, 1.0, _BASE_BYTES + count * genes * 8.0)
    radii = getattr(method.settings, "context_um", ())
    patches = count + (sum(_surroundings(part, method) for part in parts) if radii else 0)
    values = method.encoder.width * (1 + len(radii)) + 2 * genes
    return Estimate(
        count,
        patches,
        patches * _seconds_a_patch(method, parts[0]),
        _BASE_BYTES + 8.0 * count * values,
    )


def _latent_seconds(method: Method, n_spots: int, n_genes: int) -> float:
    """Return how long the latent space takes that a method learns first; 0 without one."""
    settings: Any = method.settings
    kind = getattr(settings, "latent", None)
    if kind not in ("scvi", "scanvi"):
        return 0.0
    epochs = settings.latent_epochs + (kind == "scanvi") * _LABEL_EPOCH * settings.label_epochs
    a_spot = _LATENT_SECONDS + _LATENT_GENE_SECONDS * n_genes
    return _LATENT_START_SECONDS + a_spot * n_spots * epochs


def _trained_network(method: Method) -> Any:
    """Return the image network that the method would train; None when it trains none."""
    if not hasattr(method.settings, "trainable"):
        return None
    from spotscope.methods.pair_images import PairImages, TrainedImages

    images = PairImages.of(method.encoder, method.settings.trainable)
    return images.network()[0] if isinstance(images, TrainedImages) else None


def _step_cost(network: Any, patch_px: int, settings: Any, n_spots: int) -> tuple[float, float]:
    """Return seconds a patch, forward and back, and the bytes that a batch holds meanwhile."""
    import torch

    from spotscope.training.memory import bytes_a_spot, room_bytes
    from spotscope.training.settings import TrainingSettings

    batch = min(settings.batch_size, n_spots)
    device = TrainingSettings(1, batch, device=settings.device).chosen_device()
    network.train().to(device)
    shape = (3, patch_px, patch_px)
    held = bytes_a_spot(lambda count: network(torch.rand(count, *shape, device=device)).sum())
    patches = torch.rand(_TIMED_PATCHES, *shape, device=device)
    began = time.perf_counter()
    total = network(patches).sum()
    total.backward()
    total.item()  # waits for a graphics card
    seconds = (time.perf_counter() - began) / _TIMED_PATCHES
    weights = sum(each.numel() * each.element_size() for each in network.parameters())
    # The weights, their gradients and the two moments of the optimiser.
    room = room_bytes() if device == "cpu" else math.inf  # a larger batch is taken in parts
    return seconds, min(held * batch, room) + 4.0 * weights


def _surroundings(places: Places, method: Method) -> int:
    """Return about how many touching patches cover what the places cover."""
    stride_um = places.grid.stride_um if places.grid else 2 * default_stride_um(places.section)
    return round(len(places) * (stride_um / method.encoder.patch_um) ** 2)


def _seconds_a_patch(method: Method, places: Places) -> float:
    encoder: Any = method.encoder
    if hasattr(encoder, "table"):  # computed elsewhere: nothing is encoded
        return 0.0
    chosen = np.linspace(0, len(places) - 1, _SAMPLE).round().astype(int)
    centres, slide = places.centres_px[chosen], places.section.slide
    encoder.encode(read_patches(slide, centres[:1], encoder.patch_um, encoder.patch_px))  # warm
    began = time.perf_counter()
    encoder.encode(read_patches(slide, centres, encoder.patch_um, encoder.patch_px))
    return (time.perf_counter() - began) / len(chosen)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 5400:
        return f"about {round(seconds / 60)} minutes"
    return f"about {seconds / 3600:.1f} hours"
