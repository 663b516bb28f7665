"""The one unit of expression: log1p of counts per 10,000."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from scipy.sparse import csr_matrix

TARGET_SUM = 1e4


def library_sizes(counts: csr_matrix) -> NDArray[np.float64]:
    """Return (n,) counts of each spot over all genes."""
    return np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()


def log_normalise_sparse(counts: csr_matrix) -> csr_matrix:
    """Return (n, G) log1p of counts per 10,000, zeros still left out; float32."""
    from scipy.sparse import csr_matrix

    counts = csr_matrix(counts)
    per_spot = _factors(counts)
    data = counts.data * np.repeat(per_spot, np.diff(counts.indptr))
    return csr_matrix(
        (np.log1p(data, dtype=np.float32), counts.indices, counts.indptr), shape=counts.shape
    )


def log_normalise(counts: csr_matrix, columns: ArrayLike | None = None) -> NDArray[np.float32]:
    """Return log1p(counts / library size × 10,000) of the chosen genes.

    The library size is taken over **all** genes before genes are chosen: taken over the panel
    alone, one gene's value would depend on which others are in the panel. A spot without counts
    is zero throughout.

    Parameters
    ----------
    counts
        (n, G) raw counts.
    columns
        The k genes; None takes all.

    Returns
    -------
    (n, k) float32.
    """
    from scipy.sparse import csr_matrix

    counts = csr_matrix(counts)
    per_spot = _factors(counts)
    if columns is not None:
        counts = counts[:, np.asarray(columns, dtype=np.intp)]
    dense = counts.toarray().astype(np.float32, copy=False)
    dense *= per_spot.astype(np.float32)[:, None]
    return np.log1p(dense, out=dense)


def _factors(counts: csr_matrix) -> NDArray[np.float64]:
    sizes = library_sizes(counts)
    return np.divide(TARGET_SUM, sizes, out=np.zeros_like(sizes), where=sizes > 0)
