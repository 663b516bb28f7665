"""Clusters to grow a label over: spots that hang together and resemble one another; no Qt.

A pathologist who clicks on a field of tissue expects the field. So the expression is averaged
over each spot's neighbours before it is clustered, and what a click takes is the part of its
cluster that touches it, not every spot of the kind on the slide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from spotscope.errors import SpotScopeError
from spotscope.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from spotscope.plugin.opened import OpenSection
    from spotscope.plugin.workspace import Workspace

By = Literal["expression", "predicted subtype"]

TOUCHING_PITCHES = 1.5
_N_GENES, _N_COMPONENTS = 1_000, 20
_MANY_SPOTS = 20_000


def neighbours(centres_px: NDArray[np.float64], reach_px: float) -> csr_matrix:
    """Return (n, n) booleans: which spots touch, each itself as well."""
    from scipy.sparse import coo_matrix, identity
    from scipy.spatial import cKDTree

    n = len(centres_px)
    pairs = cKDTree(centres_px).query_pairs(reach_px, output_type="ndarray")
    half = coo_matrix((np.ones(len(pairs), np.float32), (pairs[:, 0], pairs[:, 1])), (n, n))
    return (half + half.T + identity(n, np.float32)).tocsr()


def fields(codes: NDArray[np.intp], touching: csr_matrix) -> NDArray[np.intp]:
    """Number the parts that hang together and have one code; spots of code -1 stay alone."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = touching.tocoo()
    same = (codes[pairs.row] == codes[pairs.col]) & (codes[pairs.row] >= 0)
    kept = coo_matrix((pairs.data[same], (pairs.row[same], pairs.col[same])), touching.shape)
    return connected_components(kept, directed=False)[1].astype(np.intp)


def expression_clusters(
    opened: OpenSection, touching: csr_matrix, n_clusters: int, progress: Progress
) -> NDArray[np.intp]:
    """Cluster the spots by the expression of themselves and of the spots that touch them.

    k-means on the first principal components of the genes that vary most, log1p CP10k.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    if opened.n_spots <= n_clusters or not len(opened.genes):
        raise SpotScopeError("This section has too few spots to find clusters in.")
    progress.report(0.1, "Reading the expression")
    expression = opened.expression()
    mean = np.asarray(expression.mean(axis=0)).ravel()
    square = np.asarray(expression.multiply(expression).mean(axis=0)).ravel()
    varied = np.sort(np.argsort(square - mean**2)[::-1][:_N_GENES])
    around = normalize(touching, norm="l1") @ expression[:, varied].tocsr()
    progress.report(0.4, "Finding what varies")
    count = min(_N_COMPONENTS, len(varied) - 1, opened.n_spots - 1)
    found = TruncatedSVD(max(count, 1), random_state=0).fit_transform(around)
    progress.report(0.7, "Finding clusters")
    kind = MiniBatchKMeans if opened.n_spots > _MANY_SPOTS else KMeans
    codes = kind(n_clusters, n_init=4, random_state=0).fit_predict(found - found.mean(axis=0))
    progress.report(1.0, "Clusters found")
    return np.asarray(codes, np.intp)


class Growing:
    """Which spots a click grows to, worked out once a section and way.

    Parameters
    ----------
    workspace
        Whose sections.

    Attributes
    ----------
    by
        What spots of one field share.
    n_clusters
        Of expression on the whole section; more make smaller fields.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._found: dict[tuple[object, ...], NDArray[np.intp]] = {}
        self.by: By = "expression"
        self.n_clusters = 8

    @property
    def ready(self) -> bool:
        """Whether the fields of the active section are known."""
        return self._key() in self._found

    def find(self, progress: Progress | None = None) -> None:
        """Work the fields of the active section out, if they are not known.

        Raises
        ------
        SpotScopeError
            When the section has no spots, or no prediction to go by.
        """
        opened, key = self._workspace.section, self._key()
        if opened is None or key in self._found:
            return
        if not opened.n_spots:
            raise SpotScopeError("This section is a slide alone; there are no spots to grow over.")
        touching = neighbours(opened.centres_px, TOUCHING_PITCHES * opened.pitch_px)
        if self.by == "expression":
            codes = expression_clusters(opened, touching, self.n_clusters, progress or Progress())
        else:
            told = self._workspace.subtypes.told()
            if told is None or told.on_spots is None:
                raise SpotScopeError(
                    "No subtypes are predicted at these spots; grow over the expression, or"
                    " predict subtypes in Review."
                )
            codes = told.on_spots.codes
        self._found[key] = fields(codes, touching)

    def known(self, spot: int) -> NDArray[np.intp] | None:
        """Return the spots of a spot's field, or None while they are not worked out."""
        found = self._found.get(self._key())
        return None if found is None else np.flatnonzero(found == found[spot])

    def spots(self, spot: int) -> NDArray[np.intp]:
        """Return the spots of a spot's field, worked out now if need be."""
        self.find()
        found = self.known(spot)
        assert found is not None
        return found

    def _key(self) -> tuple[object, ...]:
        opened = self._workspace.section
        name = None if opened is None else opened.key
        if self.by == "expression":
            return name, self.by, self.n_clusters
        run, settings = self._workspace.subtypes.run, self._workspace.subtypes.settings
        asked = settings.threshold, settings.radius_um
        return name, self.by, None if run is None else run.id, *asked
