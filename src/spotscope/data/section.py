"""A section: one slide, its spots, its patient; and the only place where (x, y) is swapped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray
    from scipy.sparse import csr_matrix

    from spotscope.slide.slide import Slide

SUBTYPE = "subtype"
"""Column of `obs` that holds the pathologist's label of a spot; missing where unlabelled."""


class Section:
    """A slide with the spots measured on it; or a slide alone.

    Parameters
    ----------
    name
        Unique within a cohort; names the section in tables and files.
    patient
        Whom the tissue is of; sections of one patient are never split between training and test
        unless asked.
    slide
        The image.
    spots
        Raw counts as AnnData (`X` CSR, `var_names` genes, `obs_names` barcodes,
        `obsm["spatial"]` (x, y) in level-0 pixels, `obs["subtype"]` labels), or a function that
        reads it when it is first needed, or None for a slide alone.
    spot_diameter_um
        True diameter of a spot, for drawing.
    store
        The .zarr that the section lives in.
    notes
        Sentences that the user should see, such as a contradiction about the scale.
    """

    def __init__(
        self,
        name: str,
        patient: str,
        slide: Slide,
        spots: AnnData | Callable[[], AnnData] | None = None,
        spot_diameter_um: float | None = None,
        store: Path | None = None,
        notes: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.patient = patient
        self.slide = slide
        self.spot_diameter_um = spot_diameter_um
        self.store = store
        self.notes = list(notes)
        self._spots = spots

    def __repr__(self) -> str:
        return f"Section({self.name!r}, patient={self.patient!r}, slide={self.slide.name!r})"

    @property
    def spots(self) -> AnnData | None:
        """The spots as AnnData; None when the section is a slide alone."""
        if callable(self._spots):
            self._spots = self._spots()
        return self._spots

    @property
    def has_spots(self) -> bool:
        """Whether there are spots, without reading them."""
        return self._spots is not None

    def measured(self) -> AnnData:
        """Return the spots.

        Raises
        ------
        SpotScopeError
            When the section is a slide alone.
        """
        spots = self.spots
        if spots is None:
            raise SpotScopeError(
                f"Section '{self.name}' is a slide without spots; import it together with its"
                " counts to train or evaluate on it."
            )
        return spots

    @property
    def n_spots(self) -> int:
        """Number of spots; 0 for a slide alone."""
        return 0 if self.spots is None else int(self.spots.n_obs)

    @property
    def genes(self) -> NDArray[np.str_]:
        """(G,) names of the measured genes; empty for a slide alone."""
        return np.asarray([] if self.spots is None else self.spots.var_names, dtype=str)

    @property
    def barcodes(self) -> NDArray[np.str_]:
        """(n,) names of the spots; empty for a slide alone."""
        return np.asarray([] if self.spots is None else self.spots.obs_names, dtype=str)

    @property
    def counts(self) -> csr_matrix:
        """(n, G) raw counts.

        Raises
        ------
        SpotScopeError
            When the section is a slide alone.
        """
        return self.measured().X

    @property
    def centres_px(self) -> NDArray[np.float64]:
        """(n, 2) row, col of the spots in level-0 pixels; empty for a slide alone."""
        if self.spots is None:
            return np.empty((0, 2))
        return row_col(self.spots.obsm["spatial"])

    @property
    def labels(self) -> pd.Categorical | None:
        """(n,) subtype of each spot, missing where unlabelled; None when nothing is labelled."""
        import pandas as pd

        if self.spots is None or SUBTYPE not in self.spots.obs:
            return None
        return pd.Categorical(self.spots.obs[SUBTYPE])

    @property
    def mpp_um(self) -> float | None:
        """Micrometres per level-0 pixel; None when nothing states it."""
        return self.slide.mpp_um

    def columns(self, genes: Sequence[str]) -> NDArray[np.intp]:
        """Return the columns of `counts` that hold the genes, in the order asked.

        Raises
        ------
        SpotScopeError
            When the section does not measure one of them.
        """
        place = {gene: column for column, gene in enumerate(self.genes)}
        absent = [gene for gene in genes if gene not in place]
        if absent:
            raise SpotScopeError(
                f"Section '{self.name}' does not measure {len(absent)} of the {len(genes)} genes"
                f" asked for ({some(absent)}); choose genes that all sections measure."
            )
        return np.array([place[gene] for gene in genes], dtype=np.intp)

    def expression(self, genes: Sequence[str]) -> NDArray[np.float32]:
        """Return (n, k) log1p of counts per 10,000 of the genes, in the order asked.

        Raises
        ------
        SpotScopeError
            When the section does not measure one of them, or has no spots.
        """
        from spotscope.data.normalise import log_normalise

        return log_normalise(self.counts, self.columns(genes))

    def subset(self, keep: ArrayLike) -> Section:
        """Return the section with the spots that `keep` (a mask or indices) chooses."""
        return Section(
            self.name,
            self.patient,
            self.slide,
            self.measured()[np.asarray(keep)].copy(),
            self.spot_diameter_um,
            self.store,
            self.notes,
        )


def row_col(xy: ArrayLike) -> NDArray[np.float64]:
    """Turn (n, 2) x, y of files and AnnData into row, col."""
    return np.ascontiguousarray(np.asarray(xy, np.float64)[:, :2][:, ::-1])


def x_y(centres_px: ArrayLike) -> NDArray[np.float64]:
    """Turn (n, 2) row, col into x, y, for files and AnnData."""
    return row_col(centres_px)


def some(names: Iterable[object], shown: int = 3) -> str:
    """Name the first few, and say that there are more."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:shown]) + (", …" if len(listed) > shown else "")
