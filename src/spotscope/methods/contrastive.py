"""What CLIP, BLEEP, mclSTExp, ST-GCHB and TPIRBAE share: training pairs, and retrieval.

A patch encoder and a spot encoder are trained so that a spot's two embeddings find one another;
a place is then predicted from the training spots whose embeddings are nearest to its patch's. Only
the patch encoder ever sees the place, so a slide without expression will do.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from spotscope.encoders.base import Encoder, encoders
from spotscope.errors import SpotScopeError
from spotscope.files import cache_folder
from spotscope.methods.base import Arrays, Method, MethodSettings
from spotscope.methods.pair_images import PairImages, Shown, TrainedImages
from spotscope.methods.reading import packed, unpacked
from spotscope.methods.used_spots import UsedSpots

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import nn

    from spotscope.data.cohort import Cohort
    from spotscope.data.places import Places
    from spotscope.nets.contrastive import ContrastiveLoss
    from spotscope.nets.retrieval import ReferenceIndex, Retrieved
    from spotscope.progress import Progress
    from spotscope.training.data import SpotTable
    from spotscope.training.models import ContrastiveModel

Floats = NDArray[np.floating]


class ContrastiveSettings(MethodSettings):
    """What all contrastive methods can be told; the defaults are each paper's own."""

    trainable: Literal["all", "last", "none"] = Field(
        "all",
        title="Image network",
        description="Train all of it, its last stage, or none (frozen features; quick on a CPU).",
    )
    epochs: int = Field(4, ge=1, title="Epochs", description="Passes over the training spots.")
    batch_size: int = Field(256, ge=2, title="Batch", description="Spots compared at a time.")
    accumulate: int = Field(
        1, ge=1, title="Batches a step", description="Batches whose gradients are added up."
    )
    learning_rate: float = Field(1e-3, gt=0, title="Learning rate", description="Of AdamW.")
    weight_decay: float = Field(1e-3, ge=0, title="Weight decay", description="Of AdamW.")
    patience: int | None = Field(
        None,
        ge=1,
        title="Patience",
        description="Epochs without a gain on validation patients before it stops.",
    )
    width: int = Field(256, ge=2, title="Embedding", description="Numbers of an embedding.")
    dropout: float = Field(0.1, ge=0, lt=1, title="Dropout", description="In the two heads.")
    temperature: float = Field(
        1.0, gt=0, title="Temperature", description="Divides the similarities."
    )
    normalise: bool = Field(
        False, title="Unit length", description="Whether embeddings are scaled to length one."
    )
    augment: bool = Field(
        True, title="Vary patches", description="Flips, quarter turns and stain in training."
    )
    neighbours: int = Field(
        50, ge=1, title="Neighbours", description="Reference spots that a prediction averages."
    )
    metric: Literal["cosine", "euclidean"] = Field(
        "cosine", title="Nearness", description="By which reference spots are chosen."
    )
    weights: Literal["mean", "softmax", "inverse"] = Field(
        "mean", title="Weights", description="How much each of them counts."
    )
    softness: float = Field(
        0.1, gt=0, title="Softness", description="Temperature of the softmax weights."
    )
    device: str = Field("auto", title="Device", description="auto, cpu, cuda or mps.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", title="Precision", description="Of the training; auto: bfloat16 on a GPU that can."
    )
    paper_compat: bool = Field(
        False, title="As published", description="Where paper and good sense differ, the paper."
    )


class ContrastiveMethod(Method):
    """Trains the pair of encoders and predicts by retrieval; a subclass says which encoders."""

    Settings: ClassVar[type[MethodSettings]] = ContrastiveSettings
    settings: ContrastiveSettings
    reference: ReferenceIndex
    model: ContrastiveModel
    trunk: ClassVar[str] = "resnet50"
    """The paper's image network; used with "auto" when its weights are at hand."""

    def __init__(
        self,
        settings: MethodSettings | dict[str, Any] | None = None,
        encoder: str | Encoder = "auto",
    ) -> None:
        if encoder == "auto":
            at_hand = {info.spec for info in encoders() if info.at_hand}
            encoder = self.trunk if self.trunk in at_hand else "stain"
        super().__init__(settings, encoder)
        self.history: list[dict[str, float]] = []

    # -- what a subclass writes

    @abstractmethod
    def spot_table(self, cohort: Cohort) -> SpotTable:
        """Return the spot encoder's inputs for all spots of `cohort`."""

    @abstractmethod
    def spot_encoder(self, cohort: Cohort | None) -> tuple[nn.Module, int]:
        """Return the untrained spot encoder and its width; None when weights will be loaded."""

    @abstractmethod
    def loss(self) -> ContrastiveLoss:
        """Return the loss of the pairs."""

    def image_side(self, images: PairImages) -> PairImages:
        """Return what turns places into image features; as given, unless a method adds to it."""
        return images

    def pair(
        self, image: nn.Module, image_width: int, spot: nn.Module, spot_width: int
    ) -> ContrastiveModel:
        """Return the two encoders with their heads and the loss."""
        from spotscope.training.models import ContrastiveModel

        return ContrastiveModel(
            image, self.head(image_width), spot, self.head(spot_width), self.loss()
        )

    def head(self, width: int) -> nn.Module:
        """Return an untrained head from `width` features to the joint space."""
        from spotscope.nets.projection import ProjectionHead

        return ProjectionHead(width, self.settings.width, self.settings.dropout)

    def pretrain(self, cohort: Cohort, shown: Shown, progress: Progress) -> None:
        """Train parts of `self.model` by themselves before the pair; nothing here."""

    def embedding_batch(self) -> int:
        """Return how many reference spots are embedded at a time."""
        return 1024

    # -- the protocol

    def learn(self, cohort: Cohort, validation: Cohort | None, progress: Progress) -> None:
        """Train the pair, then embed the training spots as the reference."""
        from spotscope.training.augment import Augmentation
        from spotscope.training.data import TrainingData
        from spotscope.training.engine import discard, seeded, train
        from spotscope.training.settings import TrainingSettings

        settings = self.settings
        self._enough(cohort)
        self.images = self.image_side(PairImages.of(self.encoder, settings.trainable))
        # With a network that is not trained, looking at the patches is most of the work.
        looking = 0.2 if isinstance(self.images, TrainedImages) else 0.75
        trained = progress.part(looking, 1.0)
        shown = self.images.training(cohort, self.spot_table(cohort), progress.part(0, looking))
        data = TrainingData(shown.spots, cohort.section_of.astype(np.int64), shown.patches)
        checks = None
        if validation is not None:
            held = self.images.training(
                validation, self.spot_table(validation), trained.part(0.0, 0.06)
            )
            checks = TrainingData(held.spots, validation.section_of.astype(np.int64), held.patches)
        with seeded(settings.seed):
            self.model = self._built(cohort)
            self.pretrain(cohort, shown, trained.part(0.06, 0.12))
        folder = self._run_folder(cohort, validation)
        result = train(
            self.model,
            data,
            TrainingSettings(
                epochs=settings.epochs,
                batch_size=min(settings.batch_size, cohort.n_spots),
                accumulate=settings.accumulate,
                learning_rate=settings.learning_rate,
                weight_decay=settings.weight_decay,
                patience=settings.patience,
                augmentation=Augmentation() if settings.augment and shown.patches else None,
                seed=settings.seed,
                device=settings.device,
                precision=settings.precision,
            ),
            validation=checks,
            folder=folder,
            progress=trained.part(0.12, 0.96),
        )
        self.notes, self.history = list(result.notes), result.history
        if settings.patience and validation is None:
            self.notes.append(
                "All epochs were trained: patience needs patients to validate on, and none were"
                " given."
            )
        last = result.history[-1] if result.history else {}
        told = ("loss", "contrastive", "chance", "top1", "top5")
        self.scores |= {k: v for k, v in last.items() if k in told}
        self._index(cohort, trained.part(0.96, 1.0))
        # A finished run must not stand in for a later one: the code may have changed by then.
        discard(folder)

    def infer(self, places: Places, progress: Progress) -> tuple[Floats, Floats]:
        """Return the neighbours' mean expression and its spread over them, both (n, G)."""
        found = self.retrieve(places, progress)
        return found.expression, found.spread

    def retrieve(self, places: Places, progress: Progress) -> Retrieved:
        """Return the reference spots that each place is predicted from, and the prediction.

        Raises
        ------
        SpotScopeError
            When the section is in the reference: its own measurement would be its prediction.
        """
        self.reference.refuse_overlap([places.section.name])
        device = self._device()
        queries = self.images.embed(self.model, places, device, progress.part(0.0, 0.9))
        if self.reference.fits(device):
            self.reference.to(device)
        return self.reference.retrieve(
            queries,
            self.settings.neighbours,
            query_sections=[places.section.name],
            weights=self.settings.weights,
            temperature=self.settings.softness,
            progress=progress.part(0.9, 1.0),
        )

    def spots_used(self, places: Places, progress: Progress) -> list[UsedSpots]:
        """Return the reference spots that each place is predicted from."""
        found = self.retrieve(places, progress)
        index = found.neighbours.index
        sections, barcodes = self.reference.describe(index)
        known = self.reference.expression.cpu().numpy()
        return [
            UsedSpots(
                sections[row],
                barcodes[row],
                found.neighbours.similarity[row].cpu().numpy(),
                self.settings.metric,
                found.weights[row],
                known[index[row].cpu().numpy()],
                found.expression[row],
                found.spread[row],
            )
            for row in range(len(index))
        ]

    def arrays(self) -> Arrays:
        """Return the pair's weights and the reference."""
        index = self.reference
        return {
            **{f"net.{k}": v.cpu().numpy() for k, v in self.model.state_dict().items()},
            **self.images.arrays(),
            "reference.embeddings": index.embeddings.cpu().numpy(),
            "reference.expression": index.expression.cpu().numpy(),
            "reference.section": index.section_codes,
            "reference.section_names": packed(index.section_names),
            "reference.spots": packed(index.spots),
        }

    def restore(self, arrays: Arrays) -> None:
        """Take them back; the image network's weights need not be at hand any more."""
        import torch

        from spotscope.nets.retrieval import ReferenceIndex

        images = PairImages.restored(self.provenance, self.settings.trainable, arrays)
        self.images = self.image_side(images)
        self.shapes = {k: v.shape for k, v in arrays.items()}
        self.model = self._built(None)
        weights = {
            k.removeprefix("net."): torch.from_numpy(np.array(v))
            for k, v in arrays.items()
            if k.startswith("net.")
        }
        self.model.load_state_dict(weights)
        self.model.eval()
        names = np.array(unpacked(arrays["reference.section_names"]), dtype=str)
        self.reference = ReferenceIndex(
            np.array(arrays["reference.embeddings"]),
            np.array(arrays["reference.expression"]),
            names[arrays["reference.section"]].tolist(),
            unpacked(arrays["reference.spots"]),
            metric=self.settings.metric,
        )

    # -- inside

    def _built(self, cohort: Cohort | None) -> ContrastiveModel:
        return self.pair(*self.images.network(), *self.spot_encoder(cohort))

    def _index(self, cohort: Cohort, progress: Progress) -> None:
        from spotscope.nets.retrieval import ReferenceIndex
        from spotscope.training.embed import embed_spots

        device = self._device()
        embeddings = embed_spots(
            self.model,
            self.spot_table(cohort),
            device=device,
            batch_size=self.embedding_batch(),
            progress=progress,
        )
        self.model.cpu()
        names = np.array(cohort.names)[cohort.section_of]
        self.reference = ReferenceIndex(
            embeddings,
            cohort.expression(self.genes),
            names.tolist(),
            [str(b) for section in cohort.sections for b in section.barcodes],
            metric=self.settings.metric,
        )

    def _device(self) -> str:
        from spotscope.training.settings import TrainingSettings

        chosen = TrainingSettings(epochs=1, batch_size=2, device=self.settings.device)
        return chosen.chosen_device()

    def _enough(self, cohort: Cohort) -> None:
        if self.settings.neighbours > cohort.n_spots:
            raise SpotScopeError(
                f"{self.settings.neighbours} neighbours cannot be had from {cohort.n_spots}"
                " training spots; add sections or set neighbours to fewer."
            )
        empty = sum(int((np.asarray(s.counts.sum(axis=1)) == 0).sum()) for s in cohort.sections)
        if empty:
            raise SpotScopeError(
                f"{empty} training spots have no counts at all and cannot be told apart; remove"
                " them (import leaves them out) and train again."
            )

    def _run_folder(self, cohort: Cohort, validation: Cohort | None) -> Path:
        """Return where this very training resumes from, if it is killed and started again."""
        told = [
            self.name,
            self.settings.model_dump_json(exclude={"device"}),
            self.provenance.encoder_fingerprint,
            self.provenance.versions["spotscope"],
            *self.genes,
        ]
        for part in (cohort, validation):
            told.append("sections")
            for section in part.sections if part is not None else ():
                counts = section.counts
                told += [section.name, section.patient, section.slide.fingerprint]
                told += [
                    _digest(section.centres_px),
                    _digest(counts.data),
                    _digest(counts.indices),
                ]
        digest = hashlib.sha256("\n".join(told).encode()).hexdigest()[:24]
        return cache_folder() / "training" / digest


def _digest(values: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def sections_positions(cohort: Cohort) -> Iterator[tuple[Floats, float]]:
    """Yield each section's spot centres (n, 2) in px and their pitch in px."""
    from spotscope.data.places import spot_pitch_px

    for section in cohort.sections:
        yield np.asarray(section.centres_px, np.float64), spot_pitch_px(section) or 1.0
