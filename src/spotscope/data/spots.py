"""Spots as readers find them, checked and laid out as a section keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.data.section import SUBTYPE, some, x_y
from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

OUTSIDE_ALLOWED = 0.05
"""Up to this share of spots outside the image is left out with a note; more is refused."""


@dataclass
class SpotTable:
    """Spots as a reader finds them, before they are checked.

    Attributes
    ----------
    counts
        Reads the (n, G) raw counts, dense or sparse; names and positions alone are cheap, and a
        preview needs no more.
    genes
        (G,) names; a name may come twice.
    barcodes
        (n,) names of the spots.
    centres_px
        (n, 2) row, col in pixels of the image that is imported.
    labels
        (n,) subtype, None or empty where unlabelled.
    """

    counts: Callable[[], Any]
    genes: Sequence[str]
    barcodes: Sequence[str]
    centres_px: NDArray[np.float64]
    labels: Sequence[str | None] | None = None


def make_spots(
    table: SpotTable, shape_px: tuple[int, int], source: str
) -> tuple[AnnData, list[str]]:
    """Check spots and lay them out as the section keeps them.

    Raw counts are whole numbers, none missing, none negative: anything else is refused. Features
    that share a gene name are summed into one gene, since the name is all that a panel or a
    search knows. Spots without one count carry no expression and are left out; so are spots
    outside the image, unless they are more than 5 %, which means that the image or its scale is
    the wrong one and is refused. All that is left out is told in the notes.

    Parameters
    ----------
    table
        What the reader found.
    shape_px
        Rows and columns of the image.
    source
        Name of the file, for sentences.

    Returns
    -------
    The spots and the notes.

    Raises
    ------
    SpotScopeError
        When the counts are not raw counts, a barcode comes twice, or the spots do not lie on the
        image.
    """
    import pandas as pd
    from anndata import AnnData

    counts = check_counts(table.counts(), source)
    barcodes = np.asarray(table.barcodes, dtype=str)
    _check_unique(barcodes, source)
    centres = np.asarray(table.centres_px, np.float64)
    if counts.shape != (len(barcodes), len(table.genes)) or centres.shape != (len(barcodes), 2):
        raise SpotScopeError(
            f"The spots, genes and positions of '{source}' do not fit together"
            f" ({counts.shape[0]} × {counts.shape[1]} counts, {len(barcodes)} spots,"
            f" {len(table.genes)} genes, {len(centres)} positions); check the files."
        )
    notes: list[str] = []
    counts, genes = _sum_duplicates(counts, np.asarray(table.genes, dtype=str), notes)
    inside = inside_image(centres, shape_px, source, notes)
    seen = np.asarray(counts.sum(axis=1)).ravel() > 0
    if empty := int((inside & ~seen).sum()):
        notes.append(f"{empty} spots without a single count were left out.")
    keep = inside & seen
    if not keep.any():
        raise SpotScopeError(f"No spot of '{source}' has a count; check the counts.")

    obs = pd.DataFrame(index=pd.Index(barcodes[keep]))
    if table.labels is not None:
        labels = pd.Series(list(table.labels), dtype=object).replace({"": None})
        obs[SUBTYPE] = pd.Categorical(labels[keep])
    kept = counts if keep.all() else counts[keep]  # of millions of bins, a copy counts
    spots = AnnData(kept, obs=obs, var=pd.DataFrame(index=pd.Index(genes)))
    spots.obsm["spatial"] = x_y(centres[keep])
    return spots, notes


def check_counts(counts: Any, source: str) -> csr_matrix:
    """Return counts as CSR float32 when they are raw counts.

    Raises
    ------
    SpotScopeError
        When a count is missing, negative or not a whole number.
    """
    from scipy.sparse import csr_matrix

    matrix = csr_matrix(counts)
    matrix.sum_duplicates()
    values = matrix.data
    if values.dtype.kind == "f":
        if missing := int((~np.isfinite(values)).sum()):
            raise SpotScopeError(
                f"{missing} counts of '{source}' are missing (NaN or infinite); give raw counts,"
                " with 0 where a gene was not seen."
            )
        if fractions := int((values != np.floor(values)).sum()):
            raise SpotScopeError(
                f"{fractions} counts of '{source}' are not whole numbers, so the table was"
                " normalised before; give the raw counts."
            )
    elif values.dtype.kind not in "iub":
        raise SpotScopeError(f"The counts of '{source}' are not numbers; give raw counts.")
    if negative := int((values < 0).sum()):
        raise SpotScopeError(
            f"{negative} counts of '{source}' are negative, so the table was scaled before; give"
            " the raw counts."
        )
    matrix = matrix.astype(np.float32)
    matrix.eliminate_zeros()
    return matrix


def inside_image(
    centres_px: NDArray[np.float64], shape_px: tuple[int, int], source: str, notes: list[str]
) -> NDArray[np.bool_]:
    """Return (n,) which spots lie on the image, and note those that do not.

    Raises
    ------
    SpotScopeError
        When more than 5 % lie outside, or a position is missing.
    """
    if missing := int((~np.isfinite(centres_px)).any(axis=1).sum()):
        raise SpotScopeError(
            f"{missing} spots of '{source}' have no position; check the file of positions."
        )
    low, high = -0.5, np.asarray(shape_px) - 0.5
    within = (centres_px >= low) & (centres_px <= high)
    inside = within[:, 0] & within[:, 1]
    outside = int((~inside).sum())
    if outside > OUTSIDE_ALLOWED * len(inside):
        reach = centres_px.max(axis=0)
        raise SpotScopeError(
            f"{outside} of the {len(inside)} spots of '{source}' lie outside the image, which is"
            f" {shape_px[1]} × {shape_px[0]} px while the spots reach {reach[1]:.0f} ×"
            f" {reach[0]:.0f}; give the image that the positions were measured on."
        )
    if outside:
        notes.append(f"{outside} spots outside the image were left out.")
    return inside


def _check_unique(barcodes: NDArray[np.str_], source: str) -> None:
    names, times = np.unique(barcodes, return_counts=True)
    if len(names) < len(barcodes):
        raise SpotScopeError(
            f"{int((times > 1).sum())} spots of '{source}' have the same name as another"
            f" ({some(names[times > 1])}); each spot needs a name of its own."
        )


def _sum_duplicates(
    counts: csr_matrix, genes: NDArray[np.str_], notes: list[str]
) -> tuple[csr_matrix, NDArray[np.str_]]:
    from scipy.sparse import csr_matrix

    first: dict[str, int] = {}
    target = np.array([first.setdefault(gene, len(first)) for gene in genes], dtype=np.intp)
    if len(first) == len(genes):
        return counts, genes
    names = np.array(list(first), dtype=str)
    twice = names[np.bincount(target, minlength=len(names)) > 1]
    notes.append(
        f"{len(twice)} gene names come more than once ({some(twice)}); their counts were summed."
    )
    onto = csr_matrix(
        (np.ones(len(genes), np.float32), (np.arange(len(genes)), target)),
        shape=(len(genes), len(names)),
    )
    return (counts @ onto).tocsr(), names
