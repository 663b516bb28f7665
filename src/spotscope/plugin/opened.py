"""An open section and the values that are drawn of it; no Qt, no napari."""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from spotscope.plugin.colours import error_limits, expression_limits
from spotscope.plugin.outline import Outline
from spotscope.plugin.raster import POINTS_BELOW, SpotRaster

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from scipy.sparse import csc_matrix
    from scipy.spatial import cKDTree

    from spotscope.data.places import Grid
    from spotscope.data.runs import Run, Where
    from spotscope.data.section import Section
    from spotscope.data.subtype_runs import SubtypeRun

_GENES_KEPT = 64


class OpenSection:
    """A section with what drawing it needs, worked out once.

    Parameters
    ----------
    section
        The section.
    """

    def __init__(self, section: Section) -> None:
        self.section = section
        self.runs: list[Run] = []
        self.subtype_runs: list[SubtypeRun] = []
        self._shown_labels: tuple[list[str], NDArray[np.intp]] | None = None
        self._lock = threading.Lock()
        self._outlines: dict[tuple[object, ...], Outline] = {}
        self._kept: OrderedDict[tuple[str, ...], NDArray[np.float32]] = OrderedDict()
        self.read_runs()
        self.read_subtype_runs()

    @property
    def path(self) -> Path:
        """The store, or the slide of a section that has none."""
        return self.section.store or self.section.slide.path

    @property
    def key(self) -> str:
        """What the section's layers are found by."""
        return str(self.path)

    @property
    def name(self) -> str:
        """Name for people."""
        return self.section.name

    @property
    def mpp_um(self) -> float:
        """Micrometres per pixel; 1 where nothing states it, and the unit is then the pixel."""
        return self.section.mpp_um or 1.0

    @property
    def unit(self) -> str:
        """Unit of the world that the layers are drawn in."""
        return "um" if self.section.mpp_um else "pixel"

    @cached_property
    def genes(self) -> list[str]:
        """Measured genes in the order of the alphabet."""
        return sorted(map(str, self.section.genes), key=str.upper)

    @cached_property
    def centres_px(self) -> NDArray[np.float64]:
        """(n, 2) row, col of the spots."""
        return self.section.centres_px

    @property
    def n_spots(self) -> int:
        """Number of spots."""
        return len(self.centres_px)

    @cached_property
    def pitch_px(self) -> float:
        """Distance between neighbouring spots."""
        from spotscope.data.places import spot_pitch_px

        return spot_pitch_px(self.section) or 1.0

    @cached_property
    def spot_share_px(self) -> float:
        """The area of the grid that one spot stands for, in square level-0 pixels."""
        if self.n_spots < 2:
            return self.diameter_px**2
        distances, _ = self._tree.query(self.centres_px, k=min(7, self.n_spots))
        near = (distances[:, 1:] < 1.25 * self.pitch_px).sum(axis=1)
        # Six neighbours as near as the nearest: rows are shifted by half, and lie closer.
        return self.pitch_px**2 * (np.sqrt(0.75) if np.percentile(near, 75) > 4 else 1.0)

    @cached_property
    def diameter_px(self) -> float:
        """True width of a spot; half the pitch where nothing states it."""
        if self.section.spot_diameter_um:
            return self.section.spot_diameter_um / self.mpp_um
        return self.pitch_px / 2

    @cached_property
    def raster(self) -> SpotRaster | None:
        """The spots as a picture, when there are too many to draw as points."""
        if self.n_spots < POINTS_BELOW:
            return None
        return SpotRaster.of(self.centres_px, self.diameter_px, self.pitch_px)

    @property
    def subtypes(self) -> tuple[list[str], NDArray[np.intp]] | None:
        """Names of the subtypes and each spot's place among them, -1 where unlabelled.

        Those of the annotations, once they are open.
        """
        return self._shown_labels or self._stored_subtypes

    def show_labels(self, names: list[str], codes: NDArray[np.intp]) -> None:
        """Take the labels of annotations in the place of those that the store holds."""
        self._shown_labels = names, codes

    @cached_property
    def _stored_subtypes(self) -> tuple[list[str], NDArray[np.intp]] | None:
        labels = self.section.labels
        if labels is None or not len(labels.categories):
            return None
        return [str(name) for name in labels.categories], np.asarray(labels.codes, np.intp)

    def spot_at(self, place_px: tuple[float, float]) -> int | None:
        """Return the spot that lies over a place (row, col), or None."""
        if not self.n_spots:
            return None
        reach = max(self.diameter_px / 2, 0.25 * self.pitch_px)
        distance, spot = self._tree.query(place_px, distance_upper_bound=reach)
        return int(spot) if np.isfinite(distance) else None

    def expression(self) -> csc_matrix:
        """Return (n, G) log1p CP10k of all genes, in the order that the section has them."""
        return self._expression

    def spots_near(self, places_px: NDArray[np.float64], radius_px: float) -> NDArray[np.intp]:
        """Return the spots whose centre lies within a radius of any of (n, 2) places."""
        if not self.n_spots:
            return np.empty(0, np.intp)
        found = self._tree.query_ball_point(places_px, radius_px)
        return np.unique(np.concatenate([np.asarray(one, np.intp) for one in found]))

    def prepare(self) -> OpenSection:
        """Work out all that is slow, so that a background thread can; returns itself."""
        if self.section.has_spots:
            _ = (self._expression, self._place_of, self.genes, self.raster, self.subtypes)
        for run in self.runs:
            if run.grid is not None:
                self.outline(run.grid)
        return self

    def outline(self, grid: Grid) -> Outline:
        """Return how maps on a grid are drawn, the same for all genes and runs on it."""
        key = (grid.origin_px, grid.stride_px, grid.shape, hash(grid.mask.tobytes()))
        found = self._outlines.get(key)
        if found is None:
            found = self._outlines[key] = Outline.of(self.section.slide, grid)
        return found

    def read_runs(self) -> None:
        """Read which predictions the store holds."""
        from spotscope.data.runs import list_runs

        self.runs = list_runs(self.section)

    def read_subtype_runs(self) -> None:
        """Read which predicted subtypes the store holds."""
        from spotscope.data.subtype_runs import list_subtype_runs

        self.subtype_runs = list_subtype_runs(self.section)

    def run(self, run_id: str | None) -> Run | None:
        """Return the run of that id."""
        return next((run for run in self.runs if run.id == run_id), None)

    def measures(self, gene: str) -> bool:
        """Whether the gene was measured here."""
        return self.section.has_spots and gene in self._place_of

    def measured(self, gene: str) -> NDArray[np.float32]:
        """Return (n,) log1p CP10k of a gene that was measured."""

        def take() -> NDArray[np.float32]:
            column = self._expression[:, self._place_of[gene]]
            values = np.zeros(self.n_spots, np.float32)
            values[column.indices] = column.data
            return values

        return self._keep(("measured", gene), take)

    def predicted(self, run: Run, gene: str) -> NDArray[np.float32]:
        """Return (n,) log1p CP10k that a run predicts at the spots."""
        return self._read(run, gene, "spots")

    def predicted_map(self, run: Run, gene: str) -> NDArray[np.float32]:
        """Return the (rows, cols) map that a run predicts, NaN off tissue."""
        return self._read(run, gene, "grid")

    def error(self, run: Run, gene: str) -> NDArray[np.float32]:
        """Return (n,) predicted minus measured."""
        return self.predicted(run, gene) - self.measured(gene)

    def limits(
        self, gene: str, run: Run | None, percentiles: tuple[float, float]
    ) -> tuple[float, float]:
        """Return the colour range of a gene, the same for measured and predicted.

        It is that of the measured values, so that two maps can be compared by eye; of the
        predicted ones where nothing was measured.
        """
        if self.measures(gene):
            return expression_limits(self.measured(gene), percentiles)
        if run is not None and gene in run.genes:
            where = self.predicted_map if run.has_grid else self.predicted
            return expression_limits(where(run, gene), percentiles)
        return 0.0, 1.0

    def error_limits(
        self, gene: str, run: Run, percentiles: tuple[float, float]
    ) -> tuple[float, float]:
        """Return the symmetric range of a gene's error."""
        return error_limits(self.error(run, gene), percentiles[1])

    def correlation(self, run: Run, gene: str) -> float:
        """Return Pearson's r of measured and predicted over the spots, NaN where undefined."""
        from spotscope.evaluate.metrics import pearson

        return float(pearson(self.predicted(run, gene)[:, None], self.measured(gene)[:, None])[0])

    @cached_property
    def _tree(self) -> cKDTree:
        from scipy.spatial import cKDTree

        return cKDTree(self.centres_px)

    @cached_property
    def _expression(self) -> csc_matrix:
        from spotscope.data.normalise import log_normalise_sparse

        return log_normalise_sparse(self.section.counts).tocsc()

    @cached_property
    def _place_of(self) -> dict[str, int]:
        return {str(gene): place for place, gene in enumerate(self.section.genes)}

    def _read(self, run: Run, gene: str, where: Where) -> NDArray[np.float32]:
        from spotscope.data.runs import read_gene

        return self._keep(
            (where, run.id, gene), lambda: read_gene(self.section, run.id, gene, where)
        )

    def _keep(
        self, key: tuple[str, ...], work: Callable[[], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Return what was worked out before, or work it out and keep it for a while.

        Scoring in the background and drawing in the window ask at the same time.
        """
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        values = work()
        with self._lock:
            self._kept[key] = values
            while len(self._kept) > _GENES_KEPT:
                self._kept.popitem(last=False)
        return values
