"""The low-dimensional embeddings of Anand et al.: patch, neighbourhood and adjacency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spotscope.encoders.features import disc_means, features

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotscope.data.places import Places
    from spotscope.encoders.base import Encoder
    from spotscope.methods.linear import Projection
    from spotscope.nets.graph import Graph
    from spotscope.progress import Progress

Floats = NDArray[np.floating]

SPANS_UM = (150.0, 6000.0)
"""Shortest and longest distance over which the adjacency encoding looks."""


@dataclass(frozen=True)
class Heat:
    """Turns heat signatures onto the few directions in which training spots differ.

    Signatures over neighbouring distances say nearly the same, and over long ones nearly nothing;
    a regression without a penalty would live on the rest. A fragment of tissue that no training
    section has would be thousands of spreads off; it is taken for the nearest that was seen.

    Attributes
    ----------
    mean
        (adjacency,) over the training spots.
    rows
        (d, adjacency) orthonormal directions; those with under 1 % of the first one's spread are
        left out.
    low, high
        (d,) least and greatest among the training spots.
    """

    mean: Floats
    rows: Floats
    low: Floats
    high: Floats

    @classmethod
    def fit(cls, signatures: Floats) -> Heat:
        """Fit on the signatures (n, adjacency) of training spots."""
        mean = signatures.mean(axis=0)
        _, sizes, rows = np.linalg.svd(signatures - mean, full_matrices=False)
        rows = rows[sizes > 0.01 * max(sizes[0], 1e-6)]
        found = (signatures - mean) @ rows.T
        return cls(mean, rows, found.min(axis=0), found.max(axis=0))

    def apply(self, signatures: Floats) -> Floats:
        """Return (n, d) features."""
        return np.clip((signatures - self.mean) @ self.rows.T, self.low, self.high)


@dataclass(frozen=True)
class Embedding:
    """What was fitted on the training spots to embed any place.

    Attributes
    ----------
    patch, pooled
        Principal components of a place's own features and of their neighbourhood mean; None
        where that part is not used.
    adjacency
        Number of distances that the heat signature looks over, or of the paper's per-section
        singular vectors where `heat` is None; 0 for neither.
    k
        Neighbours of a spot.
    reach_um
        Distance of the k-th neighbour of a training spot: the radius that stands for k on a grid,
        whose cells lie closer than spots.
    heat
        How heat signatures become features.
    """

    patch: Projection | None
    pooled: Projection | None
    adjacency: int
    k: int
    reach_um: float
    heat: Heat | None

    def apply(self, own: Floats, around: Floats, places: Places) -> Floats:
        """Return (n, d): the parts in use, side by side, of `own` and `around` features (n, p)."""
        parts = []
        if self.patch is not None:
            parts.append(self.patch.apply(own))
        if self.pooled is not None:
            parts.append(self.pooled.apply(around))
        if self.adjacency:
            if self.heat is None:
                parts.append(singular_vectors(places, self.k, self.adjacency))
            else:
                parts.append(self.heat.apply(heat_signature(places, self.k, self.adjacency)))
        return np.concatenate(parts, axis=1)

    def graph(self, places: Places) -> Graph:
        """Return the averaging graph that joins each place to its neighbours."""
        import torch

        from spotscope.nets.graph import knn_graph, radius_graph

        centres = torch.from_numpy(np.ascontiguousarray(places.centres_px))
        alone = torch.zeros(len(centres), dtype=torch.int64)
        if places.grid is None:
            return knn_graph(centres, alone, self.k).averaged()
        return radius_graph(centres, alone, self.reach_um / mpp(places)).averaged()


def seen(
    places: Places, encoder: Encoder, k: int, reach_um: float, progress: Progress
) -> tuple[Floats, Floats]:
    """Return each place's own features and the mean over its neighbourhood, both (n, p).

    On spots the neighbourhood is the spot and its `k` nearest; on a grid, all cells within
    `reach_um`, so that it covers the same tissue whatever the stride.
    """
    own = features(places, encoder, progress)
    if places.grid is None:
        table = nearest(places, k)
        return own, own[table].mean(axis=1)
    radius_px = reach_um / mpp(places)
    return own, disc_means(places.centres_px, places.centres_px, own, radius_px, progress)


def nearest(places: Places, k: int) -> NDArray[np.intp]:
    """Return (n, 1 + k) indices of each spot and its nearest ones; fewer in a small section."""
    from scipy.spatial import cKDTree

    count = min(1 + k, len(places))
    found = cKDTree(places.centres_px).query(places.centres_px, k=list(range(1, count + 1)))[1]
    return np.asarray(found)


def reach_um(all_places: Sequence[Places], k: int) -> float:
    """Return the median distance of the k-th nearest spot, in µm."""
    from scipy.spatial import cKDTree

    distances = []
    for places in all_places:
        count = min(1 + k, len(places))
        found = cKDTree(places.centres_px).query(places.centres_px, k=[count])[0]
        distances.append(found[:, 0] * mpp(places))
    return float(np.median(np.concatenate(distances)))


def heat_signature(places: Places, k: int, count: int) -> Floats:
    """Return how much heat stays at each place after diffusing over `count` distances, (n, count).

    ``n * sum_j exp(-t lambda_j) u_ij²`` of the random-walk Laplacian of the symmetric graph of
    the `k` nearest (heat kernel signature, Sun et al. 2009), as log. Eigenvectors enter by their
    squares within each eigenspace, so that neither their sign nor a rotation among equal
    eigenvalues matters, and one section's numbers mean the same in another: near an edge heat
    stays, in the middle of wide tissue it leaves.
    """
    from scipy.sparse import coo_matrix, diags
    from scipy.sparse.linalg import eigsh
    from scipy.spatial import cKDTree

    n = len(places)
    if n <= 2:
        return np.zeros((n, count))
    # All within the typical reach, not each one's k nearest: on a lattice those are ties that
    # the numbering would settle.
    tree = cKDTree(places.centres_px)
    reach = 1.05 * float(np.median(tree.query(places.centres_px, k=[min(k, n - 1) + 1])[0]))
    pairs = tree.query_pairs(reach, output_type="ndarray")
    ends = np.concatenate([pairs, pairs[:, ::-1], np.repeat(np.arange(n)[:, None], 2, axis=1)])
    joined = coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(n, n)).tocsr()
    degree = np.asarray(joined.sum(axis=1)).ravel()
    scale = diags(1 / np.sqrt(degree))
    walk = scale @ joined @ scale
    kept = min(n - 1, 300)
    if n <= 1000:
        values, vectors = np.linalg.eigh(walk.toarray())
        values, vectors = values[-kept:], vectors[:, -kept:]
    else:
        start = np.ones(n)  # the same start gives the same vectors again
        values, vectors = eigsh(walk, k=kept, which="LA", v0=start)
    rates = 1 - np.clip(values, -1, 1)
    # A step of the walk covers about the mean squared distance to a neighbour, itself included.
    apart = places.centres_px[ends[:, 0]] - places.centres_px[ends[:, 1]]
    step_um2 = max(float((apart**2).sum(axis=1).mean()), 1e-12) * mpp(places) ** 2
    spans = np.geomspace(*SPANS_UM, count)
    heat = np.exp(-np.outer(spans**2 / step_um2, rates))
    stays = n * (vectors**2) @ heat.T * (degree.mean() / degree)[:, None]
    return np.log(np.maximum(stays, 1e-6))


def singular_vectors(places: Places, k: int, count: int) -> Floats:
    """Return the paper's adjacency embedding, (n, count), zeros where a section has too few spots.

    Truncated SVD of the section's own nearest-neighbour connectivities (scanpy's, with a Gaussian
    kernel: the paper does not say which, and UMAP's would compile for half a minute). Its axes
    are the section's own: signs and order differ from section to section, so that what a model
    learns of them on one means nothing on the next.
    """
    import scanpy as sc
    from anndata import AnnData
    from sklearn.decomposition import TruncatedSVD

    if len(places) <= 2:
        return np.zeros((len(places), count))
    table = AnnData(np.asarray(places.centres_px, dtype=np.float32))
    sc.pp.neighbors(table, n_neighbors=min(k, len(places) - 1), use_rep="X", method="gauss")
    rank = min(count, len(places) - 1)
    found = TruncatedSVD(rank, random_state=0).fit_transform(table.obsp["connectivities"])
    return np.pad(found, ((0, 0), (0, count - rank)))


def mpp(places: Places) -> float:
    """Return micrometres per pixel of the places' slide."""
    value = places.section.mpp_um
    assert value is not None  # features could not have been read without it
    return float(value)
