"""Subtypes from the image: a classifier trained on labelled spots, perhaps after a pair.

The third step of TPIRBAE (Nishimura, Bise and Kojima, section 4): the image side of a contrastive
pair, or any encoder, is fine-tuned on the pathologist's labels. The paper states neither head,
optimiser nor whether the trunk is frozen; all three are settings.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from spotscope.data.labelled import LabelledSpots
from spotscope.data.subtype_map import SubtypeMap
from spotscope.encoders.base import Encoder, get_encoder
from spotscope.errors import SpotScopeError
from spotscope.methods.familiarity import Familiarity
from spotscope.methods.linear_head import fit_linear_head, softmax
from spotscope.methods.pair_images import FrozenImages, PairImages, TrainedImages
from spotscope.methods.provenance import Provenance, now, versions
from spotscope.methods.subtype_files import read_classifier, write_classifier
from spotscope.methods.subtype_network import (
    Looked,
    built,
    check_classes,
    gone_on,
    head_logits,
    in_parts,
    look,
    projected,
    restored_network,
    seen,
    standardised,
    training_data,
)
from spotscope.methods.subtype_settings import SubtypeSettings
from spotscope.methods.subtype_warm import LEARNT_ANEW, begun_head, go_on, projected_alike
from spotscope.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from spotscope.data.cohort import Cohort
    from spotscope.data.places import Places
    from spotscope.methods.base import Arrays
    from spotscope.methods.contrastive import ContrastiveMethod
    from spotscope.training.classifier import ClassifierModel

_WARM_EPOCHS = 4  # a training that goes on takes this fraction of the epochs


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

    name: ClassVar[str] = "subtypes"
    title: ClassVar[str] = "Subtype classifier"

    def __init__(
        self,
        settings: SubtypeSettings | dict[str, Any] | None = None,
        encoder: str | Encoder = "auto",
        pretrained: ContrastiveMethod | None = None,
    ) -> None:
        self.settings = SubtypeSettings.model_validate(settings or {})
        self.classes: list[str] = []
        self.provenance = Provenance(self.name, self.title)
        self.notes: list[str] = []
        self.validation: dict[str, Any] | None = None
        self.images: PairImages
        self.model: ClassifierModel
        self.known: Familiarity
        self._encoder = encoder
        self.pretrained = pretrained
        self._after = pretrained.name if pretrained is not None else ""

    @property
    def frozen(self) -> bool:
        """Whether the image side and a pair's projection stay as they are."""
        return self.settings.trunk == "none"

    def fit(
        self,
        cohort: Cohort,
        progress: Progress | None = None,
        *,
        warm: SubtypeClassifier | None = None,
    ) -> Self:
        """Learn from the labelled spots of `cohort`; the others are left out.

        Parameters
        ----------
        warm
            An earlier classifier to go on from, if it is of the same kind: its head is begun
            with, classes matched by name.

        Raises
        ------
        SpotScopeError
            When fewer than two subtypes are labelled.
        """
        progress, spots = progress or Progress(), LabelledSpots.among(cohort)
        looked = self.look(spots, progress.part(0.0, 0.6))
        return self.fit_spots(spots, looked, progress.part(0.6, 1.0), warm=warm)

    def look(self, spots: LabelledSpots, progress: Progress) -> Looked | None:
        """Return what the image side gives for `spots`; None when it is trained itself."""
        self._start()
        if isinstance(self.images, TrainedImages) and not self.frozen:
            return None
        return look(self.images, spots, self._device(), progress)

    def fit_spots(
        self,
        spots: LabelledSpots,
        looked: Looked | None,
        progress: Progress | None = None,
        *,
        warm: SubtypeClassifier | None = None,
    ) -> Self:
        """Learn from labelled spots whose features were looked at before, see `look`."""
        import torch

        from spotscope.training.classifier import weights_and_chance
        from spotscope.training.engine import seeded

        progress, self.notes = progress or Progress(), []
        self.classes = spots.classes
        check_classes(self.classes)
        codes = np.searchsorted(self.classes, spots.labels)
        weights, chance = weights_and_chance(
            torch.from_numpy(codes), len(self.classes), self.settings.balanced
        )
        with seeded(self.settings.seed):
            self._start()
            self.model = built(
                self.images,
                self._projection(),
                self.settings.head,
                weights,
                chance,
                frozen=self.frozen,
            )
        if looked is not None:
            self._standardise(looked)
        warm = self._usable(warm)
        progress.report(0.0, "Learning the subtypes")
        if self.frozen and self.settings.head == "linear":
            assert looked is not None
            figures = self._solve(looked, codes, weights, warm, progress.part(0.0, 0.8))
        else:
            figures = self._train(spots, looked, codes, warm, progress.part(0.0, 0.8))
        self.model.eval()
        self._get_familiar(spots, looked, progress.part(0.8, 1.0))
        self.provenance = self._provenance(spots, figures)
        return self

    def predict_subtypes(self, places: Places, progress: Progress | None = None) -> SubtypeMap:
        """Return the probability of each class at `places`, from the image alone."""
        self._must_be_trained()
        progress, told, far = progress or Progress(), [], []
        parts = in_parts(self.images, places)
        for number, part in enumerate(parts):
            share = progress.part(number / len(parts), (number + 1) / len(parts))
            found = seen(self.images, self.model.image_encoder, part, self._device(), share)
            probabilities, distance = self.tell(found, share)
            told.append(probabilities)
            far.append(distance)
        return SubtypeMap(self.classes, np.concatenate(told), np.concatenate(far), places)

    def tell(
        self, found: NDArray[np.float32], progress: Progress | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return probabilities (n, K) and distance (n,) of features that were looked at."""
        if not len(found):
            return np.zeros((0, len(self.classes)), np.float32), np.zeros(0, np.float32)
        probabilities = softmax(head_logits(self.model, standardised(self.images, found)))
        return probabilities, self.known.distance(found, progress)

    def record(self) -> dict[str, Any]:
        """Return where the classifier comes from, its classes and its validation, for JSON."""
        return {
            **dataclasses.asdict(self.provenance),
            "classes": self.classes,
            "pretrained": self._after,
            "validation": self.validation,
        }

    def save(self, folder: str | Path) -> None:
        """Write the classifier to a folder: safetensors and JSON."""
        self._must_be_trained()
        write_classifier(folder, self._arrays(), self.settings, self.record())

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a classifier from a folder.

        Raises
        ------
        SpotScopeError
            When it is no subtype classifier, of a newer version, or not whole.
        """
        with read_classifier(folder, cls.name) as (settings, record, arrays):
            found = cls(json.loads(settings))
            found.provenance = Provenance.of_record(record)
            found.classes, found._after = record["classes"], record["pretrained"]
            found.validation = record.get("validation")
            found._restore(arrays)
        return found

    # -- inside

    def _start(self) -> None:
        """Set the image side as it is before any training."""
        trunk = self.settings.trunk
        if self.pretrained is not None:
            self.images = gone_on(self.pretrained, trunk)
            return
        encoder = self._encoder
        self._encoder = encoder if isinstance(encoder, Encoder) else get_encoder(encoder)
        self.images = PairImages.of(self._encoder, trunk)

    def _projection(self) -> nn.Module:
        """Return the pair's head to the joint space, or what hands features on."""
        from torch import nn

        start = self.settings.start
        through = start == "head" or (start == "auto" and isinstance(self.images, FrozenImages))
        if self.pretrained is None or not through:
            return nn.Identity()
        return copy.deepcopy(self.pretrained.model.image_head)

    def _standardise(self, looked: Looked) -> None:
        """Settle the standardisation, unless it is a pair's."""
        if self.pretrained is None and isinstance(self.images, FrozenImages):
            mean, scale = looked.standards()
            self.images.mean, self.images.scale = mean.astype(np.float32), scale.astype(np.float32)

    def _usable(self, warm: SubtypeClassifier | None) -> SubtypeClassifier | None:
        """Return the earlier classifier if this one can begin with its head."""
        if warm is None or not warm.classes:
            return None
        same = (
            warm.settings.head == self.settings.head
            and warm.provenance.encoder_fingerprint == self._before().encoder_fingerprint
            and projected_alike(warm.model, self.model)
        )
        if not same:
            self.notes.append(LEARNT_ANEW)
        return warm if same else None

    def _solve(
        self,
        looked: Looked,
        codes: NDArray[np.intp],
        weights: Tensor,
        warm: SubtypeClassifier | None,
        progress: Progress,
    ) -> dict[str, float]:
        """Find the best single layer on what does not change."""
        import torch

        inputs = projected(self.model, standardised(self.images, looked.features))
        start = None
        if warm is not None:
            standards = None if self.pretrained is not None else (warm.images, self.images)
            start = begun_head(warm.model, warm.classes, self.classes, standards)
        head = fit_linear_head(
            inputs, codes, weights.numpy(), self.settings.decay, start, progress
        )
        found = {"weight": torch.from_numpy(head.weight), "bias": torch.from_numpy(head.bias)}
        self.model.head.load_state_dict(found)
        chance = float(self.model.chance)
        return {
            "loss": head.loss,
            "chance": chance,
            "accuracy": head.accuracy,
            "steps": head.steps,
        }

    def _train(
        self,
        spots: LabelledSpots,
        looked: Looked | None,
        codes: NDArray[np.intp],
        warm: SubtypeClassifier | None,
        progress: Progress,
    ) -> dict[str, float]:
        """Train what is not at its optimum in one step, epoch by epoch."""
        import torch

        from spotscope.training.augment import Augmentation
        from spotscope.training.engine import train
        from spotscope.training.settings import TrainingSettings

        settings, epochs = self.settings, self.settings.epochs
        if warm is not None:
            go_on(self.model, warm.model, self.classes, warm.classes)
            epochs = max(1, epochs // _WARM_EPOCHS)
        told = torch.from_numpy(codes.astype(np.int64))
        data, trained = training_data(
            self.images, self.model, spots, told, looked, progress.part(0.0, 0.2)
        )
        result = train(
            trained,
            data,
            TrainingSettings(
                epochs=epochs,
                batch_size=min(settings.batch_size, len(data)),
                learning_rate=settings.learning_rate,
                weight_decay=settings.weight_decay,
                augmentation=Augmentation() if settings.augment and data.patches else None,
                seed=settings.seed,
                device=settings.device,
            ),
            progress=progress.part(0.2, 1.0),
        )
        self.notes += result.notes
        return result.history[-1]

    def _get_familiar(
        self, spots: LabelledSpots, looked: Looked | None, progress: Progress
    ) -> None:
        """Keep what was trained on, to tell how far a place is from it."""
        if looked is None:
            share = progress.part(0.0, 0.9)
            looked = look(self.images, spots, self._device(), share, self.model.image_encoder)
        self.known = Familiarity.learn(looked.features, self.settings.seed, progress)

    def _before(self) -> Provenance:
        """Return where the image side comes from."""
        if self.pretrained is not None:
            return self.pretrained.provenance
        encoder = self._encoder
        assert isinstance(encoder, Encoder)
        return Provenance(self.name, self.title).seen_through(encoder)

    def _provenance(self, spots: LabelledSpots, figures: dict[str, float]) -> Provenance:
        before, told = self._before(), ("loss", "chance", "accuracy")
        used = [spots.sections[number] for number in np.unique(spots.section_of)]
        sections, patients = ({getattr(s, k) for s in used} for k in ("name", "patient"))
        return dataclasses.replace(
            before,
            method=self.name,
            title=self.title,
            training_sections=sorted({*before.training_sections, *sections}),
            training_patients=sorted({*before.training_patients, *patients}),
            n_spots=len(spots),
            seed=self.settings.seed,
            scores={name: float(figures[name]) for name in told if name in figures},
            notes=list(self.notes),
            versions=versions(("spotscope", "numpy", "torch")),
            created=now(),
        )

    def _device(self) -> str:
        from spotscope.training.settings import TrainingSettings

        return TrainingSettings(1, 2, device=self.settings.device).chosen_device()

    def _arrays(self) -> Arrays:
        weights = {f"net.{k}": v.cpu().numpy() for k, v in self.model.state_dict().items()}
        return {**weights, **self.images.arrays(), **self.known.arrays()}

    def _restore(self, arrays: Arrays) -> None:
        self.images = PairImages.restored(self.provenance, self.settings.trunk, arrays)
        self.model = restored_network(
            self.images, arrays, self.settings.head, len(self.classes), frozen=self.frozen
        )
        self.known = Familiarity.restored(arrays)

    def _must_be_trained(self) -> None:
        if not self.classes:
            raise SpotScopeError("The classifier is not trained yet; train it or load one first.")
