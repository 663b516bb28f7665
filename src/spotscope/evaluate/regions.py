"""A prediction by regions: averages of clusters, and the genes that tell regions apart.

The last analysis of Anand, Cooper and Avagyan: Leiden clusters of the measured expression (Traag
et al. 2019) and the genes' averages over them, and the genes that differ between regions that a
pathologist annotated, both on measured and on predicted values. Averages over a region have less
noise than spots, so they correlate higher; and clusters were found in the very values that are
averaged. Neither figure replaces the correlation over spots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.data.normalise import library_sizes, log_normalise_sparse
from spotscope.errors import SpotScopeError
from spotscope.evaluate.metrics import pearson
from spotscope.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    Values = NDArray[np.floating]

REST = "the rest"
UNASSIGNED = -1
LEAST_SPOTS = 3
"""Of a region: a mean of fewer is a spot's noise, and no test can tell it from another."""
_LEAST_REGIONS = 3  # two always lie on a line
_VARIABLE, _COMPONENTS, _NEIGHBOURS = 2000, 30, 15
_AT_ONCE = 100  # genes tested between two looks at whether to stop


@dataclass(frozen=True)
class RegionMeans:
    """Averages of R regions and G genes.

    Attributes
    ----------
    regions
        R names.
    sizes
        (R,) spots.
    genes
        G names.
    measured, predicted
        (R, G) mean log1p CP10k.
    spots
        (G,) Pearson correlation of measured and predicted over the spots of these regions.
    correlation
        (G,) over the regions' averages, each counting the same; NaN for fewer than three regions
        or where either side is the same in all.
    error
        (G,) mean over the regions of the absolute difference.
    pattern
        (R,) correlation over the genes of how far the region lies from the mean of all spots:
        whether what sets this region apart is predicted. NaN where it does not exist.
    """

    regions: list[str]
    sizes: NDArray[np.intp]
    genes: list[str]
    measured: NDArray[np.float64]
    predicted: NDArray[np.float64]
    spots: NDArray[np.float64]
    correlation: NDArray[np.float64]
    error: NDArray[np.float64]
    pattern: NDArray[np.float64]


@dataclass(frozen=True)
class Ranked:
    """Which genes differ between two regions, on one kind of values.

    Attributes
    ----------
    fold
        (G,) difference of the mean log1p CP10k, in powers of two.
    score
        (G,) Welch's t; above zero where the first has more. Ranks would not do: a prediction
        parts regions cleanly by many genes, which are then all alike to a test of ranks.
    p
        (G,) two-sided, adjusted for the number of genes (Benjamini and Hochberg 1995). Spots of
        one section resemble their neighbours, so it is too small; of predicted values, which are
        smooth, it means nothing.
    """

    fold: NDArray[np.float64]
    score: NDArray[np.float64]
    p: NDArray[np.float64]

    def leading(self, count: int, sign: int) -> NDArray[np.intp]:
        """Return at most `count` genes that differ most, upwards (1) or downwards (-1)."""
        signed = sign * self.score
        order = np.argsort(-signed, kind="stable")[:count]
        return order[signed[order] > 0]


@dataclass(frozen=True)
class Contrast:
    """Genes that differ between two regions, measured beside predicted.

    Attributes
    ----------
    group, reference
        Names of the regions; the reference may be `REST`.
    sizes
        Their spots.
    genes
        G names.
    measured, predicted
        Of each gene.
    top
        How many genes at each end are compared.
    correlation
        Of the log fold changes over the genes; NaN where it does not exist.
    same_sign
        Share of the genes whose fold change has the same sign in both.
    """

    group: str
    reference: str
    sizes: tuple[int, int]
    genes: list[str]
    measured: Ranked
    predicted: Ranked
    top: int
    correlation: float
    same_sign: float

    def leading(self, sign: int = 1) -> tuple[list[str], list[str]]:
        """Return the names at one end, by the measured and by the predicted values."""
        measured, predicted = (
            [self.genes[gene] for gene in ranked.leading(self.top, sign)]
            for ranked in (self.measured, self.predicted)
        )
        return measured, predicted

    def shared(self, sign: int = 1) -> list[str]:
        """Return the genes at one end of both, in the measured order."""
        measured, predicted = self.leading(sign)
        return [gene for gene in measured if gene in set(predicted)]

    def by_chance(self, sign: int = 1) -> tuple[float, float]:
        """Return how many would be shared by chance, and the probability of as many or more.

        Chance draws as many genes without regard to the tissue: the hypergeometric distribution,
        as if genes were independent, which those of one cell type are not.
        """
        from scipy.stats import hypergeom

        measured, predicted = self.leading(sign)
        drawn = len(self.genes), len(measured), len(predicted)
        p = hypergeom.sf(len(self.shared(sign)) - 1, *drawn)
        return len(measured) * len(predicted) / len(self.genes), float(p)


def leiden_clusters(
    counts: csr_matrix,
    *,
    resolution: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> NDArray[np.intp]:
    """Return (n,) the Leiden cluster of each spot by its measured expression, the largest first.

    log1p CP10k, the 2,000 most variable genes, 30 principal components, the graph of the 15
    nearest spots, modularity with `resolution`: scanpy's usual steps. Spots without counts are
    `UNASSIGNED`.

    Parameters
    ----------
    counts
        (n, G) raw counts of one section.

    Raises
    ------
    SpotScopeError
        When there are too few spots or genes to have clusters.
    """
    import scanpy as sc
    from anndata import AnnData

    progress = progress or Progress()
    progress.report(0.0, "Clustering the spots")
    kept = library_sizes(counts) > 0
    table = AnnData(log_normalise_sparse(counts[kept]))
    sc.pp.filter_genes(table, min_cells=LEAST_SPOTS)
    limit = min(table.shape) - 1
    if table.n_obs < _NEIGHBOURS or limit < 2:
        raise SpotScopeError(
            f"{int(kept.sum())} spots with counts and {table.n_vars} genes that several of them"
            " show are too few to cluster; choose a larger section."
        )
    if table.n_vars > _VARIABLE:
        sc.pp.highly_variable_genes(table, n_top_genes=_VARIABLE)
    sc.pp.pca(table, n_comps=min(_COMPONENTS, limit), random_state=seed)
    progress.report(0.3, "Clustering the spots")
    sc.pp.neighbors(table, n_neighbors=_NEIGHBOURS, random_state=seed)
    progress.report(0.9, "Clustering the spots")
    sc.tl.leiden(
        table,
        resolution=resolution,
        random_state=seed,
        flavor="igraph",
        n_iterations=2,
        directed=False,
    )
    found = np.full(len(kept), UNASSIGNED, dtype=np.intp)
    found[kept] = table.obs["leiden"].astype(int).to_numpy()
    progress.report(1.0, "Clustered")
    return by_size(found)


def by_size(codes: NDArray[np.integer]) -> NDArray[np.intp]:
    """Return codes numbered from the largest region; what is below zero stays as it is."""
    used, counts = np.unique(codes[codes >= 0], return_counts=True)
    renumbered = np.full(len(codes), UNASSIGNED, dtype=np.intp)
    for new, old in enumerate(used[np.argsort(-counts, kind="stable")]):
        renumbered[codes == old] = new
    return renumbered


def region_means(
    measured: Values,
    predicted: Values,
    codes: NDArray[np.integer],
    names: Sequence[str],
    genes: Sequence[str],
) -> RegionMeans:
    """Average measured and predicted values over regions, gene by gene.

    Parameters
    ----------
    measured, predicted
        (n, G) log1p CP10k of the spots of one section.
    codes
        (n,) index into `names`; below zero for spots of no region.
    names
        Of the regions; those of fewer than `LEAST_SPOTS` spots are left out.
    genes
        G names.

    Raises
    ------
    SpotScopeError
        When fewer than two regions are left.
    """
    sizes = np.array([int((codes == code).sum()) for code in range(len(names))], dtype=np.intp)
    used = np.flatnonzero(sizes >= LEAST_SPOTS).tolist()
    if len(used) < 2:
        raise SpotScopeError(
            f"Only {len(used)} region has {LEAST_SPOTS} spots or more, so there is nothing to"
            " compare; choose another section or another division."
        )
    within = np.isin(codes, used)
    averages = [
        np.stack([values[codes == code].mean(axis=0, dtype=np.float64) for code in used])
        for values in (measured, predicted)
    ]
    one, two = averages
    apart = [
        _apart(average, values[within].mean(axis=0, dtype=np.float64))
        for average, values in ((one, measured), (two, predicted))
    ]
    undefined = np.full(len(genes), np.nan)
    return RegionMeans(
        regions=[str(names[code]) for code in used],
        sizes=sizes[used],
        genes=list(genes),
        measured=one,
        predicted=two,
        spots=pearson(predicted[within], measured[within]),
        correlation=pearson(two, one) if len(used) >= _LEAST_REGIONS else undefined,
        error=np.abs(one - two).mean(axis=0),
        pattern=pearson(apart[1].T, apart[0].T) if len(genes) > 2 else np.full(len(used), np.nan),
    )


def _apart(averages: Values, level: Values) -> Values:
    """Return how far averages lie from a level; a rounding error is no distance."""
    apart = averages - level
    return np.where(np.abs(apart) > 1e-6 * (1 + np.abs(level)), apart, 0.0)


def contrast(
    measured: Values,
    predicted: Values,
    codes: NDArray[np.integer],
    names: Sequence[str],
    genes: Sequence[str],
    group: str,
    reference: str = REST,
    *,
    top: int = 20,
    progress: Progress | None = None,
) -> Contrast:
    """Rank the genes by how they differ between two regions, on measured and predicted values.

    Parameters
    ----------
    measured, predicted, codes, names, genes
        See `region_means`.
    group, reference
        Of `names`; the reference may be `REST`, all other spots that have a region.
    top
        How many genes at each end are compared, at most a quarter of all.

    Raises
    ------
    SpotScopeError
        When a name is none of the regions, both are the same, or one has too few spots.
    """
    progress = progress or Progress()
    masks: list[NDArray[np.bool_]] = []
    for name in (group, reference):
        if name != REST and name not in names:
            raise SpotScopeError(f"There is no region '{name}'; choose {', '.join(names)}.")
        inside = codes == list(names).index(name) if name != REST else codes >= 0
        masks.append(inside & ~masks[0] if name == REST else inside)
    if group == reference:
        raise SpotScopeError(f"'{group}' was named twice; name two regions to compare.")
    for name, inside in zip((group, reference), masks, strict=True):
        if inside.sum() < LEAST_SPOTS:
            raise SpotScopeError(
                f"'{name}' has {int(inside.sum())} spots here and a comparison needs"
                f" {LEAST_SPOTS}; choose another region."
            )
    found = [
        _ranked(values, masks[0], masks[1], progress.part(half / 2, (half + 1) / 2))
        for half, values in enumerate((measured, predicted))
    ]
    one, two = (ranked.fold for ranked in found)
    return Contrast(
        group,
        reference,
        (int(masks[0].sum()), int(masks[1].sum())),
        list(genes),
        found[0],
        found[1],
        top=max(1, min(top, len(genes) // 4)),
        correlation=float(pearson(two[:, None], one[:, None])[0]),
        same_sign=float((np.sign(one) == np.sign(two)).mean()),
    )


def _ranked(
    values: Values, group: NDArray[np.bool_], reference: NDArray[np.bool_], progress: Progress
) -> Ranked:
    import pandas as pd
    import scanpy as sc
    from anndata import AnnData
    from scipy.stats import false_discovery_control

    within = group | reference
    kind = pd.Categorical(np.where(group[within], "group", "reference"))
    given = np.asarray(values[within], dtype=np.float32)
    difference = [given[kind == name].mean(axis=0, dtype=np.float64) for name in kind.categories]
    parts = []
    for start in progress.track(range(0, given.shape[1], _AT_ONCE), "Comparing genes"):
        part = given[:, start : start + _AT_ONCE]
        table: Any = AnnData(part, obs=pd.DataFrame({"kind": kind}, index=_names(len(part))))
        table.var_names = _names(part.shape[1])
        with np.errstate(invalid="ignore"):  # scanpy's own fold changes, which are not used
            sc.tl.rank_genes_groups(
                table, "kind", groups=["group"], reference="reference", method="t-test"
            )
        ranked = sc.get.rank_genes_groups_df(table, "group").set_index("names")
        parts.append(ranked.loc[table.var_names, ["scores", "pvals"]].to_numpy(np.float64))
    # A gene that is the same in all spots has no score; it differs nowhere.
    score, p = np.nan_to_num(np.concatenate(parts), nan=0.0).T.copy()
    p[score == 0] = 1.0
    return Ranked((difference[0] - difference[1]) / np.log(2), score, false_discovery_control(p))


def _names(count: int) -> list[str]:
    return [str(number) for number in range(count)]
