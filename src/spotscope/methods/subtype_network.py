"""The network of a subtype classifier: an image side, perhaps a pair's projection, and a head."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spotscope.data.places import Places
from spotscope.encoders.features import features
from spotscope.errors import SpotScopeError
from spotscope.methods.pair_images import FrozenImages, PairImages, TrainedImages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from spotscope.data.labelled import LabelledSpots
    from spotscope.methods.base import Arrays
    from spotscope.methods.contrastive import ContrastiveMethod
    from spotscope.progress import Progress
    from spotscope.training.classifier import ClassifierModel, HeadKind
    from spotscope.training.data import TrainingData

WHOLE = 20_000
"""Spots of a section up to which all are looked at, so that further labels need no encoding."""
_AT_ONCE = 20_000  # places whose features are held in memory


@dataclasses.dataclass(frozen=True)
class Looked:
    """What the image side gives for labelled spots, and how it varies over their sections.

    Attributes
    ----------
    features
        (n, d) float32.
    section_of
        (n,) row of each spot's section in what follows.
    counts
        (S,) spots of each section that were looked at, labelled or not.
    means, spreads
        (S, d) over these.
    """

    features: NDArray[np.float32]
    section_of: NDArray[np.intp]
    counts: NDArray[np.intp]
    means: NDArray[np.float64]
    spreads: NDArray[np.float64]

    def of(self, keep: NDArray) -> Looked:
        """Return some of them; a section of which none is kept does not count any more."""
        features, section_of = self.features[keep], self.section_of[keep]
        return dataclasses.replace(self, features=features, section_of=section_of)

    def standards(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and standard deviation (d,) over the spots' sections; 1 for no deviation."""
        used = np.unique(self.section_of)
        share = (self.counts[used] / self.counts[used].sum())[:, None]
        mean = (share * self.means[used]).sum(axis=0)
        apart = self.spreads[used] ** 2 + (self.means[used] - mean) ** 2
        spread = np.sqrt((share * apart).sum(axis=0))
        return mean, np.where(spread > 1e-7, spread, 1.0)


def gone_on(method: ContrastiveMethod, trunk: Literal["none", "last", "all"]) -> PairImages:
    """Return the image side of a trained pair, to be trained further without changing the pair."""
    images = method.images
    if type(images) is FrozenImages:
        return images
    if type(images) is TrainedImages:
        module: Any = copy.deepcopy(method.model.image_encoder.trunk)
        source = dataclasses.replace(images.source, module=module)
        return TrainedImages(source, images.patch_um, trunk)
    raise SpotScopeError(
        f"The image side of '{method.name}' needs a place's neighbours, so a classifier of single"
        " patches cannot go on from it; use clip, bleep, mclstexp or tpirbae."
    )


def built(
    images: PairImages,
    projection: nn.Module,
    head: HeadKind,
    class_weights: Tensor,
    chance: float = 0.0,
    *,
    frozen: bool,
) -> ClassifierModel:
    """Return the classifier's network with an untrained head."""
    from spotscope.training.classifier import ClassifierModel, classifier_head

    network, width = images.network()
    width = int(getattr(projection, "width", width))
    return ClassifierModel(
        network,
        projection,
        classifier_head(head, width, len(class_weights)),
        class_weights,
        chance,
        frozen_projection=frozen,
    )


def seen(
    images: PairImages, network: nn.Module, places: Places, device: str, progress: Progress
) -> NDArray[np.float32]:
    """Return the features (n, d) of places, as they enter the projection but unstandardised."""
    if isinstance(images, TrainedImages):
        found = images.through(
            network,  # type: ignore[arg-type]  # all of a model that is needed
            network,
            places,
            device,
            progress,
        )
        return found.reshape(len(places), -1)
    assert isinstance(images, FrozenImages)
    return features(places, images.encoder, progress)


def standardised(images: PairImages, found: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return features as the projection takes them."""
    mean, scale = standards_of(images)
    return ((found - mean) / scale).astype(np.float32)


def standards_of(images: PairImages) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return what is taken off features, and what they are divided by."""
    if not isinstance(images, FrozenImages):
        return np.zeros(1, np.float32), np.ones(1, np.float32)
    assert images.mean is not None
    assert images.scale is not None
    return images.mean, images.scale


def look(
    images: PairImages,
    spots: LabelledSpots,
    device: str,
    progress: Progress,
    network: nn.Module | None = None,
) -> Looked:
    """Return the features of labelled spots.

    Up to `WHOLE` spots of a section are looked at together, so that what is kept of them serves
    when further spots are labelled, and when the subtypes of all are told.

    Parameters
    ----------
    network
        The image side's, when it was trained.
    """
    network = network if network is not None else images.network()[0]
    parts, moments = [], []
    for number, section in enumerate(spots.sections):
        rows = spots.row_of[spots.section_of == number]
        share = progress.part(number / len(spots.sections), (number + 1) / len(spots.sections))
        places = Places.on_spots(section)
        if len(places) > WHOLE or isinstance(images, TrainedImages):  # which is kept nowhere
            places, rows = Places(section, places.centres_px[rows]), np.arange(len(rows))
        found = seen(images, network, places, device, share)
        spread = found.std(axis=0, dtype=np.float64)
        moments.append((len(found), found.mean(axis=0, dtype=np.float64), spread))
        parts.append(found[rows])
    counts, means, spreads = (np.array(each) for each in zip(*moments, strict=True))
    return Looked(np.concatenate(parts), spots.section_of, counts, means, spreads)


def in_parts(images: PairImages, places: Places) -> list[Places]:
    """Return places in parts whose features fit into memory; those of the cache stay together."""
    if not isinstance(images, TrainedImages):
        return [places]
    starts = range(0, max(len(places), 1), _AT_ONCE)
    return [Places(places.section, places.centres_px[at : at + _AT_ONCE]) for at in starts]


def projected(model: ClassifierModel, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the head takes (n, h)."""
    import torch

    with torch.inference_mode():
        return model.eval().projection(torch.from_numpy(inputs)).numpy()


def head_logits(model: ClassifierModel, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return logits (n, K) of standardised features (n, d)."""
    import torch

    with torch.inference_mode():
        return model.eval().image_head(torch.from_numpy(inputs)).numpy()


def training_data(
    images: PairImages,
    model: ClassifierModel,
    spots: LabelledSpots,
    codes: Tensor,
    looked: Looked | None,
    progress: Progress,
) -> tuple[TrainingData, ClassifierModel]:
    """Return the labelled spots and what is trained on them: a frozen trunk has run once."""
    import torch

    from spotscope.training.classifier import ClassifierModel
    from spotscope.training.data import SpotTable, TrainingData
    from spotscope.training.frozen import FeatureTable, FrozenFeatures

    table, sections = SpotTable(codes), spots.section_of.astype(np.int64)
    if looked is None:
        shown = images.training(spots.cohort(), table, progress)
        return TrainingData(shown.spots, sections, shown.patches), model
    inputs = torch.from_numpy(standardised(images, looked.features))
    trained = ClassifierModel(
        FrozenFeatures(),
        model.projection,
        model.head,
        model.class_weights,
        model.chance,
        frozen_projection=model.frozen_projection,
    )
    return TrainingData(FeatureTable(table, inputs), sections), trained


def restored_network(
    images: PairImages, arrays: Arrays, head: HeadKind, n_classes: int, *, frozen: bool
) -> ClassifierModel:
    """Return the network of a saved classifier."""
    import torch
    from torch import nn

    from spotscope.nets.projection import ProjectionHead

    projection: nn.Module = nn.Identity()
    if (first := arrays.get("net.projection.project.weight")) is not None:
        projection = ProjectionHead(first.shape[1], first.shape[0])
    model = built(images, projection, head, torch.ones(n_classes), frozen=frozen)
    weights = {
        k.removeprefix("net."): torch.from_numpy(np.array(v))
        for k, v in arrays.items()
        if k.startswith("net.")
    }
    model.load_state_dict(weights)
    model.eval()
    return model


def check_classes(classes: Sequence[str]) -> None:
    """Refuse labels that leave nothing to tell apart.

    Raises
    ------
    SpotScopeError
        When there is one class alone.
    """
    if len(classes) < 2:
        raise SpotScopeError(
            f"All labelled spots are '{classes[0]}', so there is nothing to tell apart; label some"
            " tissue of another subtype, or add sections with other subtypes."
        )
