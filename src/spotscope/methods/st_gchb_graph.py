"""Which places ST-GCHB joins to which, and the image side of a pair that looks along them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from spotscope.data.places import Places, spot_pitch_px
from spotscope.errors import SpotScopeError
from spotscope.methods.pair_images import FrozenImages, PairImages, Shown, TrainedImages

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from torch import Tensor, nn

    from spotscope.data.cohort import Cohort
    from spotscope.data.section import Section
    from spotscope.methods.base import Arrays
    from spotscope.nets.graph import Graph
    from spotscope.progress import Progress
    from spotscope.training.data import SpotTable
    from spotscope.training.graphs import GraphImages
    from spotscope.training.models import ContrastiveModel

Floats = NDArray[np.floating]

PITCHES = 1.6
"""Radius of the graph: between the diagonal of a square array, 1.41, all 8 of whose neighbours are
within, and the second ring of a hexagonal one, 1.73, of which only the first 6 are."""
DENSER = 0.75
"""Places closer than this many pitches of the training spots are denser than these. Of their own
pitch, how far one may lie from where it is looked for: on a square grid up to 0.71."""


@dataclass(frozen=True)
class Spacing:
    """How places are joined: as the training spots are, in micrometres.

    Attributes
    ----------
    radius_um
        Places closer than this are joined.
    offsets_um
        (m, 2) where the neighbours of a typical training spot lie. Among denser places each looks
        at the ones nearest to these, so that a sum over neighbours has as many terms, from as
        far, as in training.
    nearest
        Join each place to so many nearest in place of all within the radius; None for these.
    published
        The `nearest` alone and one way, weights 0 and 1, whatever the places.
    """

    radius_um: float
    offsets_um: Floats
    nearest: int | None
    published: bool
    width: ClassVar[int] = 256

    @classmethod
    def of(
        cls, cohort: Cohort, radius_um: float | None, nearest: int | None, published: bool
    ) -> Spacing:
        """Return the spacing of the training spots, of the section with the widest pitch."""
        pitches = [(spot_pitch_px(s) or 0.0) * mpp_of(s) for s in cohort.sections]
        widest = cohort.sections[int(np.argmax(pitches))]
        radius = PITCHES * max(pitches) if radius_um is None else radius_um
        empty = cls(radius, np.zeros((0, 2)), nearest, published)
        points = positions_um(Places.on_spots(widest))
        graph = empty.joined(points)
        counts = np.bincount(graph.receivers.numpy(), minlength=graph.n)
        usual = np.flatnonzero(counts == np.bincount(counts).argmax())
        middle = usual[((points[usual] - np.median(points, axis=0)) ** 2).sum(axis=1).argmin()]
        senders = graph.senders.numpy()[graph.receivers.numpy() == middle]
        offsets = points[senders[senders != middle]] - points[middle]
        return cls(radius, offsets, nearest, published)

    def graph(self, places: Places) -> Graph:
        """Return the graph of places, weighted and with loops."""
        return self.joined(positions_um(places))

    def joined(self, points_um: Floats) -> Graph:
        """Return the graph of points (n, 2) in micrometres, weighted and with loops."""
        import torch

        from spotscope.nets.graph import Graph, knn_graph, radius_graph

        n = len(points_um)
        points, alone = torch.from_numpy(points_um), torch.zeros(n, dtype=torch.int64)
        if self.published:
            assert self.nearest is not None
            plain = knn_graph(points, alone, self.nearest, symmetric=False)
            loops = torch.arange(n)
            ends = torch.cat([plain.receivers, loops]), torch.cat([plain.senders, loops])
            return Graph(*ends, torch.ones(len(ends[0])), n)
        pitch = self._pitch_if_dense(points_um)
        if pitch is not None:
            return self._at_offsets(points_um, pitch).normalised()
        if self.nearest is not None:
            return knn_graph(points, alone, self.nearest).normalised()
        return radius_graph(points, alone, self.radius_um).normalised()

    def around(self, places: Places, *, anywhere: bool) -> tuple[Places, csr_matrix]:
        """Return what must be seen for predictions at `places`, and how it is summed.

        A place without another within the radius, such as a single point that a user asks about,
        looks at the tissue where a training spot's neighbours would be.

        Parameters
        ----------
        places
            n places.
        anywhere
            Whether images can be had at other places as well.

        Returns
        -------
        seen
            The places, then such further ones: m in all.
        weights
            (n, m) of the sums.
        """
        weights = as_matrix(self.graph(places))
        if self.published or not anywhere or not len(self.offsets_um):
            return places, weights
        lonely = self._lonely(positions_um(places))
        centres = np.asarray(places.centres_px)
        ring = centres[lonely][:, None, :] + self.offsets_um / mpp_of(places.section)
        owner = np.repeat(lonely, len(self.offsets_um))
        ring = ring.reshape(-1, 2)
        kept = _on_tissue(places.section, ring, self.radius_um) if len(ring) else owner == -1
        ring, owner = ring[kept], owner[kept]
        if not len(ring):
            return places, weights
        return (
            Places(places.section, np.concatenate([centres, ring])),
            _with_further(weights, owner),
        )

    def arrays(self) -> Arrays:
        """Return what `restored` takes."""
        return {"graph.radius_um": np.array(self.radius_um), "graph.offsets_um": self.offsets_um}

    @classmethod
    def restored(cls, arrays: Arrays, nearest: int | None, published: bool) -> Spacing:
        """Return the spacing of a saved model."""
        radius = float(arrays["graph.radius_um"].item())
        return cls(radius, np.array(arrays["graph.offsets_um"]), nearest, published)

    def _pitch_if_dense(self, points_um: Floats) -> float | None:
        from scipy.spatial import cKDTree

        if len(points_um) < 2 or not len(self.offsets_um):
            return None
        pitch = float(np.median(cKDTree(points_um).query(points_um, k=2)[0][:, 1]))
        dense = pitch < DENSER * np.linalg.norm(self.offsets_um, axis=1).min()
        return pitch if dense else None

    def _at_offsets(self, points_um: Floats, pitch_um: float) -> Graph:
        import torch
        from scipy.spatial import cKDTree

        from spotscope.nets.graph import Graph

        n = len(points_um)
        # A little inwards: halfway between two places rounding would choose.
        wanted = points_um[:, None, :] + 0.999 * self.offsets_um
        apart, senders = cKDTree(points_um).query(wanted)
        receivers = np.broadcast_to(np.arange(n)[:, None], senders.shape)
        near = (apart < DENSER * pitch_um) & (senders != receivers)
        one, other = receivers[near], senders[near]
        keys = np.unique(np.concatenate([one * n + other, other * n + one]))
        ends = torch.from_numpy(keys // n), torch.from_numpy(keys % n)
        return Graph(*ends, torch.ones(len(keys)), n)

    def _lonely(self, points_um: Floats) -> NDArray[np.intp]:
        from scipy.spatial import cKDTree

        if len(points_um) < 2:
            return np.arange(len(points_um))
        return np.flatnonzero(cKDTree(points_um).query(points_um, k=2)[0][:, 1] >= self.radius_um)


def mpp_of(section: Section) -> float:
    """Return micrometres per pixel.

    Raises
    ------
    SpotScopeError
        When the slide states none: neighbours are found by distance on the tissue.
    """
    if section.mpp_um is None:
        raise SpotScopeError(
            f"The slide of section '{section.name}' states no micrometres per pixel; import it"
            " again with --mpp."
        )
    return float(section.mpp_um)


def positions_um(places: Places) -> Floats:
    """Return where places lie, (n, 2) row, col in micrometres."""
    return np.asarray(places.centres_px, np.float64) * mpp_of(places.section)


def as_matrix(graph: Graph) -> csr_matrix:
    """Return the graph's weights (n, n); a product with it holds no row for each edge."""
    from scipy.sparse import csr_matrix

    ends = (graph.receivers.numpy(), graph.senders.numpy())
    return csr_matrix((graph.weights.numpy(), ends), shape=(graph.n, graph.n))


def _with_further(weights: csr_matrix, owner: NDArray[np.intp]) -> csr_matrix:
    """Give the places `owner` (e,) a further sender each; all of a place weigh the same.

    In the middle of an even array the normalised weights are 1 / (1 + neighbours) too.
    """
    from scipy.sparse import csr_matrix, diags, hstack

    n, e = weights.shape[0], len(owner)
    counts = np.bincount(owner, minlength=n)
    even = 1 / (1 + counts)
    own = diags((counts == 0).astype(float)) @ weights + diags(even * (counts > 0))
    further = csr_matrix((even[owner], (owner, np.arange(e))), shape=(n, e))
    return hstack([own, further]).tocsr().astype(np.float32)


def _on_tissue(section: Section, centres_px: Floats, stride_um: float) -> NDArray[np.bool_]:
    """Say which points lie on tissue, or at least on the slide when no tissue is found."""
    low, high = np.zeros(2), np.array(section.slide.shape_px)
    inside = np.all((centres_px >= low) & (centres_px < high), axis=1)
    try:
        grid = Places.on_grid(section, min(stride_um, 100.0)).grid
    except SpotScopeError:
        return np.asarray(inside, bool)
    assert grid is not None
    cells = np.rint((centres_px - grid.origin_px) / grid.stride_px).astype(np.int64)
    cells = np.clip(cells, 0, np.array(grid.shape) - 1)
    return np.asarray(inside & grid.mask[cells[:, 0], cells[:, 1]], bool)


class ImagesOnGraph(PairImages):
    """The image side of another pair with ST-GCHB's graph layer over its features.

    Parameters
    ----------
    inner
        A network that is trained, or frozen features.
    spacing
        How places are joined.
    """

    def __init__(self, inner: PairImages, spacing: Spacing) -> None:
        self.inner, self.spacing = inner, spacing

    def network(self) -> tuple[nn.Module, int]:
        """Return the inner network with the graph layer."""
        from spotscope.training.graphs import GraphImages

        trunk, width = self.inner.network()
        kept = trunk if isinstance(self.inner, TrainedImages) else None
        return GraphImages(kept, width, self.spacing.width), self.spacing.width

    def training(self, cohort: Cohort, spots: SpotTable, progress: Progress) -> Shown:
        """Return the spots with their features and sums, or with their neighbours' patches."""
        import torch

        from spotscope.nets.graph import block_diagonal
        from spotscope.training.graphs import NeighbourPatches, SummedFeatures

        shown = self.inner.training(cohort, spots, progress)
        graph = block_diagonal(self.graphs(cohort))
        if shown.patches is not None:
            return Shown(NeighbourPatches(spots, graph), shown.patches)
        own = shown.spots.tables[0]
        sums = torch.from_numpy(as_matrix(graph) @ own.numpy())
        return Shown(SummedFeatures(spots, own, sums), None)

    def graphs(self, cohort: Cohort) -> list[Graph]:
        """Return each section's graph of its spots."""
        return [self.spacing.graph(Places.on_spots(section)) for section in cohort.sections]

    def nodes(self, encoder: GraphImages, shown: Shown, device: str, progress: Progress) -> Tensor:
        """Return the features (N, w) of the training spots before the pair is trained."""
        import torch

        from spotscope.training.augment import to_images

        if shown.patches is None:
            return shown.spots.tables[0]
        assert encoder.trunk is not None
        trunk = encoder.trunk.eval().to(device)
        made, n, batch = [], len(shown.patches), 16 if device == "cpu" else 256
        with torch.no_grad():
            for start in range(0, n, batch):
                progress.report(start / n, "Encoding the patches")
                pixels = shown.patches.take(torch.arange(start, min(start + batch, n)))
                made.append(trunk(to_images(pixels.to(device))).float().cpu())
        trunk.cpu()
        return torch.cat(made)

    def embed(
        self, model: ContrastiveModel, places: Places, device: str, progress: Progress
    ) -> NDArray[np.float32]:
        """Return the joint embeddings (n, d) of places; each patch is encoded once."""
        import torch

        from spotscope.training.graphs import GraphImages

        inner, encoder = self.inner, model.image_encoder
        assert isinstance(encoder, GraphImages)
        seen, weights = self.spacing.around(places, anywhere=self._anywhere())
        linear = encoder.graph.linear  # before the sum: 256 numbers a place, not 2,048
        if isinstance(inner, TrainedImages):
            assert encoder.trunk is not None
            trunk = encoder.trunk

            def call(images: Tensor) -> Tensor:
                return linear(trunk(images))

            hidden = inner.through(model, call, seen, device, progress)
        else:
            assert isinstance(inner, FrozenImages)
            with torch.inference_mode():
                hidden = linear(inner.features(seen, progress)).numpy()
        with torch.inference_mode():
            sums = torch.from_numpy(weights @ hidden)
            model.eval()
            return model.image_head(encoder.graph.finished(sums)).numpy()

    def _anywhere(self) -> bool:
        """Say whether images can be had off the given places: not from a file of features."""
        inner = self.inner
        return not (isinstance(inner, FrozenImages) and inner.spec.startswith("features:"))

    def arrays(self) -> Arrays:
        """Return what must be kept beside the network's weights."""
        return self.inner.arrays() | self.spacing.arrays()
