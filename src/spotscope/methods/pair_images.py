"""The image side of a contrastive pair: a network that is trained, or features that are frozen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from spotscope.data.places import Places
from spotscope.encoders.features import features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from spotscope.data.cohort import Cohort
    from spotscope.encoders.base import Encoder
    from spotscope.encoders.networks import Network
    from spotscope.methods.base import Arrays, Provenance
    from spotscope.progress import Progress
    from spotscope.training.data import SpotTable
    from spotscope.training.models import ContrastiveModel
    from spotscope.training.patches import PatchStore

Trainable = Literal["all", "last", "none"]
FROZEN = ("stain", "features:")
"""Encoders that have no network to train."""


@dataclass
class Shown:
    """Spots to train on: their tables, and their patches when a network looks at these."""

    spots: SpotTable
    patches: PatchStore | None


class PairImages(ABC):
    """How patches become image features."""

    @staticmethod
    def of(encoder: Encoder, trainable: Trainable) -> PairImages:
        """Return the image side for an encoder; one without a network is frozen."""
        if trainable == "none" or encoder.name.startswith(FROZEN):
            return FrozenImages(encoder, encoder.width)
        from spotscope.encoders.networks import load_network, split_pooling

        network = load_network(split_pooling(encoder.name)[0])
        return TrainedImages(network, encoder.patch_um, trainable)

    @staticmethod
    def restored(provenance: Provenance, trainable: Trainable, arrays: Arrays) -> PairImages:
        """Return the image side of a saved model."""
        if "images.mean" in arrays:
            found = FrozenImages(provenance.encoder, len(arrays["images.mean"]))
            found.mean, found.scale = arrays["images.mean"], arrays["images.scale"]
            return found
        from spotscope.encoders.networks import Network, build

        arch = provenance.encoder.partition("@")[0]
        arch = arch.rpartition("#")[2] if arch.startswith("local:") else arch
        library, colon, name = arch.partition(":")
        module = build(name, library) if colon else build(arch, "torchvision")
        mean, std = (tuple(arrays[f"trunk.{k}"].tolist()) for k in ("mean", "std"))
        network = Network(arch, module, mean, std, int(arrays["trunk.px"].item()))
        return TrainedImages(network, provenance.patch_um, trainable)

    @abstractmethod
    def network(self) -> tuple[nn.Module, int]:
        """Return the network, called with (images, *image inputs), and its width."""

    @abstractmethod
    def training(self, cohort: Cohort, spots: SpotTable, progress: Progress) -> Shown:
        """Return the spots of `cohort` with what the image side needs of them."""

    @abstractmethod
    def embed(
        self, model: ContrastiveModel, places: Places, device: str, progress: Progress
    ) -> NDArray[np.float32]:
        """Return the joint embeddings (n, d) of places."""

    def arrays(self) -> Arrays:
        """Return what must be kept beside the network's weights."""
        return {}


class FrozenImages(PairImages):
    """Features of an encoder that stays as it is, standardised over the training spots."""

    def __init__(self, encoder: Encoder | str, width: int) -> None:
        self._encoder = encoder
        self.width = width
        self.mean: NDArray[np.floating] | None = None
        self.scale: NDArray[np.floating] | None = None

    @property
    def spec(self) -> str:
        """The encoder's name."""
        return self._encoder if isinstance(self._encoder, str) else self._encoder.name

    @property
    def encoder(self) -> Encoder:
        """The encoder, made when it is first needed."""
        from spotscope.encoders.base import get_encoder

        return get_encoder(self._encoder)

    def network(self) -> tuple[nn.Module, int]:
        """Return what hands the features on."""
        from spotscope.training.frozen import FrozenFeatures

        return FrozenFeatures(), self.width

    def training(self, cohort: Cohort, spots: SpotTable, progress: Progress) -> Shown:
        """Return the spots with their features; the first call settles the standardisation."""
        from spotscope.training.frozen import FeatureTable

        parts = []
        for number, section in enumerate(cohort.sections):
            n = len(cohort.sections)
            share = progress.part(number / n, (number + 1) / n)
            parts.append(features(Places.on_spots(section), self.encoder, share))
        found = np.concatenate(parts)
        if self.mean is None:
            self.mean = found.mean(axis=0)
            spread = found.std(axis=0)
            self.scale = np.where(spread > 1e-7, spread, 1.0).astype(np.float32)
        return Shown(FeatureTable(spots, self._standardised(found)), None)

    def embed(
        self, model: ContrastiveModel, places: Places, device: str, progress: Progress
    ) -> NDArray[np.float32]:
        """Return the embeddings of the places' features."""
        import torch

        with torch.inference_mode():
            return model.eval().image_head(self.features(places, progress)).numpy()

    def features(self, places: Places, progress: Progress) -> Tensor:
        """Return the standardised features (n, width) of places."""
        return self._standardised(features(places, self.encoder, progress))

    def _standardised(self, found: NDArray[np.floating]) -> Tensor:
        import torch

        assert self.mean is not None
        assert self.scale is not None
        return torch.from_numpy(((found - self.mean) / self.scale).astype(np.float32))

    def arrays(self) -> Arrays:
        """Return the standardisation."""
        assert self.mean is not None
        assert self.scale is not None
        return {"images.mean": self.mean, "images.scale": self.scale}


class TrainedImages(PairImages):
    """A network of torchvision or timm that is trained with the pair."""

    def __init__(self, network: Network, patch_um: float, trainable: Trainable) -> None:
        self.source, self.patch_um, self.trainable = network, patch_um, trainable

    def network(self) -> tuple[nn.Module, int]:
        """Return the network as a trainable encoder."""
        import torch

        from spotscope.nets.image import ImageEncoder

        source = self.source
        with torch.no_grad():
            blank = torch.zeros(1, 3, source.patch_px, source.patch_px)
            width = source.module.eval()(blank).shape[1]
        mean, std = _three(source.mean), _three(source.std)
        return ImageEncoder(source.module, width, self.trainable, mean, std), width

    def training(self, cohort: Cohort, spots: SpotTable, progress: Progress) -> Shown:
        """Return the spots with their patches, cut once."""
        from spotscope.training.patches import PatchStore

        sections = [(s.slide, np.asarray(s.centres_px)) for s in cohort.sections]
        return Shown(
            spots, PatchStore.cut(sections, self.patch_um, self.source.patch_px, progress)
        )

    def embed(
        self, model: ContrastiveModel, places: Places, device: str, progress: Progress
    ) -> NDArray[np.float32]:
        """Return the embeddings of the places' patches."""
        return self.through(model, model.embed_images, places, device, progress)

    def through(
        self,
        model: ContrastiveModel,
        call: Callable[[Tensor], Tensor],
        places: Places,
        device: str,
        progress: Progress,
    ) -> NDArray[np.float32]:
        """Return what `call`, a part of `model`, makes (n, d) of the places' images.

        Patches are read as they lie on the slide.
        """
        import torch

        from spotscope.slide.patches import iter_patches
        from spotscope.training.augment import to_images

        model.eval().to(device)
        found: NDArray[np.float32] | None = None
        done, message = 0, f"Embedding {places.section.name}"
        progress.report(0.0, message)
        batch = 16 if device == "cpu" else 256  # a CPU must look at the cancel flag in time
        slide, px = places.section.slide, self.source.patch_px
        with torch.inference_mode():
            for index, patches in iter_patches(
                slide, places.centres_px, self.patch_um, px, batch=batch
            ):
                pixels = torch.from_numpy(np.ascontiguousarray(patches)).to(device)
                made = call(to_images(pixels)).float().cpu().numpy()
                if found is None:
                    found = np.empty((len(places), made.shape[1]), np.float32)
                found[index] = made
                done += len(index)
                progress.report(done / len(places), message)
        model.cpu()
        return found if found is not None else np.empty((0, 1), np.float32)

    def arrays(self) -> Arrays:
        """Return what the network must be fed."""
        source = self.source
        return {
            "trunk.mean": np.array(source.mean),
            "trunk.std": np.array(source.std),
            "trunk.px": np.array(source.patch_px),
        }


def _three(values: Iterable[float]) -> tuple[float, float, float]:
    red, green, blue = (float(v) for v in values)
    return red, green, blue
