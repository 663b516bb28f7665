"""Subtypes from the image: a classifier trained on labelled spots, perhaps after a pair.

The third step of TPIRBAE (Nishimura, Bise and Kojima, section 4): the image side of a contrastive
pair, or any encoder, is fine-tuned on the pathologist's labels. The paper states neither head,
optimiser nor whether the trunk is frozen; all three are settings.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from spotscope.data.cohort import Cohort, filter_spots
from spotscope.data.places import Places
from spotscope.encoders.base import Encoder, get_encoder
from spotscope.errors import SpotScopeError
from spotscope.files import write_json, written_beside
from spotscope.methods.base import (
    ARRAYS,
    FORMAT,
    PROVENANCE,
    SETTINGS,
    Provenance,
    read_record,
)
from spotscope.methods.latent import cohort_labels
from spotscope.methods.pair_images import FrozenImages, PairImages, TrainedImages
from spotscope.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from spotscope.methods.base import Arrays
    from spotscope.methods.contrastive import ContrastiveMethod
    from spotscope.training.classifier import ClassifierModel
    from spotscope.training.data import TrainingData

NAME = "subtypes"
TITLE = "Subtype classifier"


class SubtypeSettings(BaseModel):
    """How subtypes are learnt."""

    model_config = ConfigDict(extra="forbid")

    trunk: Literal["none", "last", "all"] = Field(
        "none",
        title="Image network",
        description="Train none of it (frozen; quick on a CPU), its last stage, or all.",
    )
    start: Literal["auto", "trunk", "head"] = Field(
        "auto",
        title="After a pair",
        description="Classify what the pair's image network gives, or its head to the joint space;"
        " auto takes the head where the network was not trained.",
    )
    head: Literal["linear", "mlp"] = Field(
        "linear", title="Classifier", description="One layer, or two."
    )
    balanced: bool = Field(
        True, title="Balance", description="Let every class count the same, however rare."
    )
    epochs: int = Field(30, ge=1, title="Epochs", description="Passes over the labelled spots.")
    batch_size: int = Field(64, ge=2, title="Batch", description="Spots at a time.")
    learning_rate: float = Field(1e-3, gt=0, title="Learning rate", description="Of AdamW.")
    weight_decay: float = Field(1e-2, ge=0, title="Weight decay", description="Of AdamW.")
    augment: bool = Field(
        True, title="Vary patches", description="Flips, quarter turns and stain, if trained."
    )
    seed: int = Field(0, ge=0, title="Seed", description="The same seed, the same classifier.")
    device: str = Field("auto", title="Device", description="auto, cpu, cuda or mps.")


@dataclasses.dataclass(frozen=True)
class SubtypePrediction:
    """Subtypes at places.

    Attributes
    ----------
    classes
        K names.
    probabilities
        (n, K) float32, rows sum to one.
    places
        Where.
    provenance
        Of the classifier, for JSON.
    """

    classes: list[str]
    probabilities: NDArray[np.float32]
    places: Places
    provenance: dict[str, Any]

    @property
    def labels(self) -> NDArray[np.str_]:
        """(n,) the most probable class of each place."""
        return np.array(self.classes)[self.probabilities.argmax(axis=1)]


class SubtypeClassifier:
    """Learns subtypes from labelled spots' patches, and tells them anywhere on a slide.

    Parameters
    ----------
    settings
        Or a dict of them.
    encoder
        A spec for `get_encoder`, or an encoder; not used after a pair.
    pretrained
        A trained contrastive method, such as TPIRBAE, whose image side is gone on with.
    """

    def __init__(
        self,
        settings: SubtypeSettings | dict[str, Any] | None = None,
        encoder: str | Encoder = "auto",
        pretrained: ContrastiveMethod | None = None,
    ) -> None:
        self.settings = SubtypeSettings.model_validate(settings or {})
        self.classes: list[str] = []
        self.provenance = Provenance(NAME, TITLE)
        self.notes: list[str] = []
        self.images: PairImages
        self.model: ClassifierModel
        self._encoder = encoder
        self._pretrained = pretrained
        self._after = pretrained.name if pretrained is not None else ""

    def fit(self, cohort: Cohort, progress: Progress | None = None) -> Self:
        """Learn from the labelled spots of `cohort`; the others are left out.

        Raises
        ------
        SpotScopeError
            When fewer than two subtypes are labelled.
        """
        import torch

        from spotscope.training.augment import Augmentation
        from spotscope.training.classifier import weights_and_chance
        from spotscope.training.engine import seeded, train
        from spotscope.training.settings import TrainingSettings

        progress, settings = progress or Progress(), self.settings
        cohort = labelled(cohort)
        classes, codes = np.unique(cohort_labels(cohort), return_inverse=True)
        self.classes = [str(name) for name in classes]
        if len(self.classes) < 2:
            raise SpotScopeError(
                f"All labelled spots are '{self.classes[0]}', so there is nothing to tell apart;"
                " add sections with other subtypes."
            )
        chosen = torch.from_numpy(codes.astype(np.int64))
        told = weights_and_chance(chosen, len(self.classes), settings.balanced)
        with seeded(settings.seed):
            self._start(*told)
        data, trained = self._data(cohort, chosen, progress.part(0.0, 0.3))
        result = train(
            trained,
            data,
            TrainingSettings(
                epochs=settings.epochs,
                batch_size=min(settings.batch_size, len(data)),
                learning_rate=settings.learning_rate,
                weight_decay=settings.weight_decay,
                augmentation=Augmentation() if settings.augment and data.patches else None,
                seed=settings.seed,
                device=settings.device,
            ),
            progress=progress.part(0.3, 1.0),
        )
        self.model.eval()
        self.notes = list(result.notes)
        self.provenance = self._provenance(cohort, result.history[-1])
        return self

    def predict_subtypes(
        self, places: Places, progress: Progress | None = None
    ) -> SubtypePrediction:
        """Return the probability of each class at `places`, from the image alone."""
        self._must_be_trained()
        logits = self.images.embed(
            self.model,  # type: ignore[arg-type]  # it is called as a pair's image side is
            places,
            _device(self.settings.device),
            progress or Progress(),
        ).astype(np.float64)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True)) if len(places) else logits
        shares = odds / odds.sum(axis=1, keepdims=True)
        probabilities = shares.reshape(len(places), -1).astype(np.float32)
        return SubtypePrediction(self.classes, probabilities, places, self.record())

    def record(self) -> dict[str, Any]:
        """Return where the classifier comes from, and its classes, for JSON."""
        return {
            **dataclasses.asdict(self.provenance),
            "classes": self.classes,
            "pretrained": self._after,
        }

    def save(self, folder: str | Path) -> None:
        """Write the classifier to a folder: safetensors and JSON."""
        from safetensors.numpy import save_file

        self._must_be_trained()
        with written_beside(Path(folder)) as beside:
            beside.mkdir()
            arrays = {name: np.ascontiguousarray(value) for name, value in self._arrays().items()}
            save_file(arrays, beside / ARRAYS)
            write_json(beside / SETTINGS, self.settings.model_dump(mode="json"))
            write_json(beside / PROVENANCE, {"format": FORMAT, **self.record()})

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a classifier from a folder.

        Raises
        ------
        SpotScopeError
            When it is no subtype classifier, of a newer version, or not whole.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(folder)
        record = read_record(folder)
        if record["method"] != NAME:
            raise SpotScopeError(
                f"The model in '{folder}' predicts expression ('{record['method']}'), not"
                " subtypes; use it with `spotscope predict`."
            )
        try:
            found = cls(json.loads((folder / SETTINGS).read_text(encoding="utf-8")))
            known = {each.name for each in dataclasses.fields(Provenance)}
            found.provenance = Provenance(**{k: v for k, v in record.items() if k in known})
            found.classes, found._after = record["classes"], record["pretrained"]
            found._restore(load_file(folder / ARRAYS))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise SpotScopeError(
                f"The subtype classifier in '{folder}' is damaged ({error}); copy or train it"
                " again."
            ) from error
        return found

    # -- inside

    def _start(self, class_weights: Any, chance: float) -> None:
        """Set the image side and the untrained head."""
        from torch import nn

        trunk = self.settings.trunk
        projection: nn.Module = nn.Identity()
        if self._pretrained is None:
            encoder = self._encoder
            encoder = encoder if isinstance(encoder, Encoder) else get_encoder(encoder)
            self._encoder = encoder
            self.images = PairImages.of(encoder, trunk)
        else:
            self.images = _gone_on(self._pretrained, trunk)
            if self._through_head():
                projection = copy.deepcopy(self._pretrained.model.image_head)
        self.model = self._built(projection, class_weights, chance)

    def _through_head(self) -> bool:
        start = self.settings.start
        return start == "head" or (start == "auto" and isinstance(self.images, FrozenImages))

    def _built(self, projection: nn.Module, weights: Any, chance: float = 0.0) -> ClassifierModel:
        from spotscope.training.classifier import ClassifierModel, classifier_head

        network, width = self.images.network()
        width = int(getattr(projection, "width", width))
        return ClassifierModel(
            network,
            projection,
            classifier_head(self.settings.head, width, len(self.classes)),
            weights,
            chance,
            frozen_projection=self.settings.trunk == "none",
        )

    def _data(
        self, cohort: Cohort, classes: Any, progress: Progress
    ) -> tuple[TrainingData, ClassifierModel]:
        """Return the labelled spots, and what is trained on them: frozen trunks run once."""
        import torch

        from spotscope.training.classifier import ClassifierModel
        from spotscope.training.data import SpotTable, TrainingData
        from spotscope.training.frozen import FeatureTable, FrozenFeatures

        table, sections = SpotTable(classes), cohort.section_of.astype(np.int64)
        images, model = self.images, self.model
        if not isinstance(images, TrainedImages) or self.settings.trunk != "none":
            shown = images.training(cohort, table, progress)
            return TrainingData(shown.spots, sections, shown.patches), model
        seen = [
            images.through(
                model,  # type: ignore[arg-type]
                model.image_encoder,
                Places.on_spots(section),
                _device(self.settings.device),
                progress.part(i / len(cohort.sections), (i + 1) / len(cohort.sections)),
            )
            for i, section in enumerate(cohort.sections)
        ]
        features = FeatureTable(table, torch.from_numpy(np.concatenate(seen)))
        trained = ClassifierModel(
            FrozenFeatures(),
            model.projection,
            model.head,
            model.class_weights,
            model.chance,
            frozen_projection=True,
        )
        return TrainingData(features, sections), trained

    def _provenance(self, cohort: Cohort, last: dict[str, float]) -> Provenance:
        if self._pretrained is not None:
            before = self._pretrained.provenance
        else:
            encoder = self._encoder
            assert isinstance(encoder, Encoder)
            before = Provenance(
                NAME,
                TITLE,
                encoder=encoder.name,
                encoder_fingerprint=encoder.fingerprint,
                patch_um=encoder.patch_um,
                patch_px=encoder.patch_px,
            )
        return dataclasses.replace(
            before,
            method=NAME,
            title=TITLE,
            training_sections=sorted({*before.training_sections, *cohort.names}),
            training_patients=sorted({*before.training_patients, *cohort.patients}),
            n_spots=cohort.n_spots,
            seed=self.settings.seed,
            scores={k: float(v) for k, v in last.items() if k in ("loss", "chance", "accuracy")},
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )

    def _arrays(self) -> Arrays:
        weights = {f"net.{k}": v.cpu().numpy() for k, v in self.model.state_dict().items()}
        return {**weights, **self.images.arrays()}

    def _restore(self, arrays: Arrays) -> None:
        import torch
        from torch import nn

        from spotscope.nets.projection import ProjectionHead

        self.images = PairImages.restored(self.provenance, self.settings.trunk, arrays)
        projection: nn.Module = nn.Identity()
        if (first := arrays.get("net.projection.project.weight")) is not None:
            projection = ProjectionHead(first.shape[1], first.shape[0])
        self.model = self._built(projection, torch.ones(len(self.classes)))
        weights = {
            k.removeprefix("net."): torch.from_numpy(np.array(v))
            for k, v in arrays.items()
            if k.startswith("net.")
        }
        self.model.load_state_dict(weights)
        self.model.eval()

    def _must_be_trained(self) -> None:
        if not self.classes:
            raise SpotScopeError("The classifier is not trained yet; train it or load one first.")


def labelled(cohort: Cohort) -> Cohort:
    """Return the sections of `cohort` that have labels, with their labelled spots alone.

    Raises
    ------
    SpotScopeError
        When no spot is labelled.
    """
    known = [s for s in cohort.sections if s.labels is not None and (s.labels.codes >= 0).any()]
    if not known:
        raise SpotScopeError(
            "No spot of these sections has a subtype; import labels with the sections, or draw"
            " regions and save them as labels."
        )
    return Cohort(tuple(filter_spots(section, labelled=True) for section in known))


def _gone_on(method: ContrastiveMethod, trunk: Literal["none", "last", "all"]) -> PairImages:
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


def _device(device: str) -> str:
    from spotscope.training.settings import TrainingSettings

    return TrainingSettings(epochs=1, batch_size=2, device=device).chosen_device()
