"""ST-GCHB (Chi et al. 2024): graph contrastive pair with an HSIC bottleneck, query by retrieval.

Each side is a graph layer of width 256 over the spots and their neighbours on the tissue,
pre-trained by Deep Graph Infomax: over principal components of the expression for the spot, over a
network's features for the patch. The two are then aligned with soft targets in 128 numbers, while
a bottleneck makes the spot's layer forget its input and keep what the embedding needs; the mean of
the 50 nearest reference spots is the prediction. See docs/methods/st_gchb.md for what differs and
why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from spotscope.data.places import Places
from spotscope.methods.bleep import BleepSettings
from spotscope.methods.contrastive import ContrastiveMethod
from spotscope.methods.st_gchb_graph import ImagesOnGraph, Spacing, as_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from spotscope.data.cohort import Cohort
    from spotscope.methods.base import Arrays, MethodSettings
    from spotscope.methods.pair_images import PairImages, Shown
    from spotscope.nets.contrastive import ContrastiveLoss
    from spotscope.progress import Progress
    from spotscope.training.data import SpotTable
    from spotscope.training.graphs import Side
    from spotscope.training.models import ContrastiveModel

NEAREST = 6
"""Neighbours of a spot in the published code."""
KERNEL = 10 / np.sqrt(2)
"""Its kernel exp(-d²/10²) as the width of exp(-d²/(2 s²))."""


class StGchbSettings(BleepSettings):
    """Settings of `st_gchb`: AdamW 1e-3 / 1e-3, batches of 16, 4 epochs, 50 neighbours."""

    trainable: Literal["all", "last", "none"] = Field(
        "last",
        title="Image network",
        description="Train all of it, its last stage, or none (frozen features; quick on a CPU).",
    )
    batch_size: int = Field(16, ge=2, title="Batch", description="Spots compared at a time.")
    width: int = Field(128, ge=2, title="Embedding", description="Numbers of an embedding.")
    dropout: float = Field(0.4, ge=0, lt=1, title="Dropout", description="In the two heads.")
    components: int = Field(
        813, ge=2, title="Components", description="Of the expression, at most; principal ones."
    )
    radius_um: float | None = Field(
        None,
        gt=0,
        le=5000,
        title="Reach (µm)",
        description="Spots closer than this are joined; empty for 1.6 spot distances.",
    )
    nearest: int | None = Field(
        None,
        ge=1,
        le=64,
        title="Nearest spots",
        description="Join each spot to so many nearest ones in place of all within the reach.",
    )
    graph_epochs: int = Field(
        50,
        ge=0,
        title="Graph epochs",
        description="Of the graph layers' own training; 0 for none.",
    )
    bottleneck: Literal["spots", "both", "none"] = Field(
        "spots",
        title="Bottleneck",
        description="Which sides forget what the embedding does not need.",
    )
    beta: float = Field(
        25.0, ge=0, title="Keep", description="How much keeping counts against forgetting."
    )

    @property
    def chosen_nearest(self) -> int | None:
        """Neighbours by number: as set, six as published, else None for all within the reach."""
        return self.nearest or (NEAREST if self.paper_compat else None)

    PUBLISHED: ClassVar[dict[str, Any]] = {"normalise": False, "bottleneck": "both"}

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides with a bottleneck."""
        sides: dict[str, tuple[Side, ...]] = {
            "spots": ("spot",),
            "both": ("spot", "image"),
            "none": (),
        }
        return sides[self.bottleneck]


class StGchbMethod(ContrastiveMethod):
    """Contrastive pair whose two sides look along the graph of neighbouring spots.

    As published, the graph has one-way edges to the six nearest whatever their distance, sums
    that are not normalised, kernels of a fixed width and one-hot targets; all are kept under
    `paper_compat`.
    """

    name: ClassVar[str] = "st_gchb"
    title: ClassVar[str] = "ST-GCHB"
    summary: ClassVar[str] = (
        "graphs of neighbouring spots, contrastive pair with a bottleneck, prediction by retrieval"
    )
    Settings: ClassVar[type[MethodSettings]] = StGchbSettings
    settings: StGchbSettings
    images: ImagesOnGraph

    def learn(self, cohort: Cohort, validation: Cohort | None, progress: Progress) -> None:
        """Fit the components and the graph's measures, then train as the others do."""
        from sklearn.decomposition import PCA

        settings = self.settings
        self._enough(cohort)
        nearest = settings.chosen_nearest
        self.spacing = Spacing.of(cohort, settings.radius_um, nearest, settings.paper_compat)
        expression = cohort.expression(self.genes)
        count = min(settings.components, *expression.shape)
        found = PCA(count, random_state=settings.seed).fit(expression)
        self.mean = found.mean_.astype(np.float32)
        self.axes = found.components_.astype(np.float32)
        super().learn(cohort, validation, progress)

    def spot_table(self, cohort: Cohort) -> SpotTable:
        """Return the components of the expression, and their sums over the graph."""
        import torch

        from spotscope.training.data import SpotTable

        own, sums = [], []
        for section in cohort.sections:
            components = self.components(section.expression(self.genes))
            weights = as_matrix(self.spacing.graph(Places.on_spots(section)))
            own.append(components)
            sums.append(weights @ components)
        return SpotTable(*(torch.from_numpy(np.concatenate(part)) for part in (own, sums)))

    def components(self, expression: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the principal components (n, p) of expression (n, G)."""
        return (expression - self.mean) @ self.axes.T

    def spot_encoder(self, cohort: Cohort | None) -> tuple[nn.Module, int]:
        """Return the graph layer over the components."""
        from spotscope.training.graphs import GraphSpots

        return GraphSpots(len(self.axes), self.spacing.width), self.spacing.width

    def image_side(self, images: PairImages) -> PairImages:
        """Return the image side with a graph layer."""
        return ImagesOnGraph(images, self.spacing)

    def pair(
        self, image: nn.Module, image_width: int, spot: nn.Module, spot_width: int
    ) -> ContrastiveModel:
        """Return the pair with its bottlenecks."""
        from spotscope.training.graphs import GraphImages, GraphPair

        assert isinstance(image, GraphImages)
        settings = self.settings
        return GraphPair(
            image,
            self.head(image_width),
            spot,
            self.head(spot_width),
            self.loss(),
            sides=settings.sides,
            beta=settings.beta,
            scale=KERNEL if settings.paper_compat else None,
            published=settings.paper_compat,
        )

    def loss(self) -> ContrastiveLoss:
        """Return the alignment; unless as published, the rows of both its targets sum to one."""
        from spotscope.nets.contrastive import ContrastiveLoss

        settings = self.settings
        if settings.paper_compat:  # its temperature is the targets' alone
            return ContrastiveLoss(
                "alignment",
                normalise=settings.normalise,
                target_temperature=settings.temperature,
            )
        return ContrastiveLoss(
            "soft_target", temperature=settings.temperature, normalise=settings.normalise
        )

    def pretrain(self, cohort: Cohort, shown: Shown, progress: Progress) -> None:
        """Train each side's graph layer to tell a section from one with its spots shuffled."""
        from spotscope.training.graphs import GraphImages, GraphSpots, pretrain_graph

        epochs = self.settings.graph_epochs
        if not epochs:
            return
        spots, images = self.model.spot_encoder, self.model.image_encoder
        assert isinstance(spots, GraphSpots)
        assert isinstance(images, GraphImages)
        graphs, device = self.images.graphs(cohort), self._device()
        components = self.spot_table(cohort).tables[0]
        features = self.images.nodes(images, shown, device, progress.part(0.0, 0.5))
        for name, layer, nodes, share in (
            ("spots", spots.graph, components, progress.part(0.5, 0.75)),
            ("images", images.graph, features, progress.part(0.75, 1.0)),
        ):
            message = f"Training the graph layer of the {name}"
            loss = pretrain_graph(layer, nodes, graphs, epochs, device, share, message)
            self.scores[f"graph_{name}"] = loss

    def arrays(self) -> Arrays:
        """Return the pair's weights, the reference and the components."""
        return super().arrays() | {"genes.mean": self.mean, "genes.axes": self.axes}

    def restore(self, arrays: Arrays) -> None:
        """Take them back."""
        settings = self.settings
        self.mean, self.axes = arrays["genes.mean"], arrays["genes.axes"]
        self.spacing = Spacing.restored(arrays, settings.chosen_nearest, settings.paper_compat)
        super().restore(arrays)
