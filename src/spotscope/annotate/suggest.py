"""Which spots to annotate next, so that few labels teach much."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

COMPONENTS = 20
NEIGHBOURS = 20
FEATURED = 20_000
"""Spots that are chosen among, at most; more are thinned out evenly first."""


def suggest_spots(
    features: NDArray[np.floating],
    probabilities: NDArray[np.floating] | None,
    labelled: ArrayLike,
    n: int,
    seed: int = 0,
) -> NDArray[np.intp]:
    """Return up to `n` spots without a label whose labels would teach most, the best first.

    Without a classifier what is typical is asked for: the spots are clustered, and of each of the
    largest clusters without a label the spot in its densest part is taken (TypiClust; Hacohen,
    Dekel and Weinshall 2022, section 3). With one, spots are drawn one after the other with odds
    of doubt² × distance² × rarity: doubt is how little the most probable class leads the second,
    distance is to the nearest spot that has a label or was drawn before, in the space of the
    features, and rarity is how few labels the classes have that the spot may be of. The first
    asks where the classifier is unsure, the second covers the tissue, the third every class; that
    they are drawn, and not simply the greatest taken, keeps odd single spots from being all that
    is asked (the sampling of k-means++; Arthur and Vassilvitskii 2007, as BADGE does with
    gradients; Ash and others 2020).

    Parameters
    ----------
    features
        (N, d) of the spots.
    probabilities
        (N, K) of a classifier; None without one.
    labelled
        (N,) mask of the spots that have a label.
    n
        Spots to suggest.
    seed
        The same seed, the same spots.
    """
    labelled = np.asarray(labelled, bool)
    if len(labelled) > FEATURED:
        return _thinned(features, probabilities, labelled, n, seed)
    n = min(n, int((~labelled).sum()))
    if n < 1:
        return np.empty(0, np.intp)
    space = _space(features, seed)
    if probabilities is None or not labelled.any():
        return _typical(space, labelled, n, seed)
    return _doubted(space, np.asarray(probabilities, np.float64), labelled, n, seed)


def doubt(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (n,) 0 where the most probable class leads by all, 1 where two are level."""
    found = np.asarray(probabilities, np.float64)
    if found.shape[1] < 2:
        return np.zeros(len(found))
    second, first = np.partition(found, -2, axis=1)[:, -2:].T
    return 1.0 - (first - second)


def _thinned(
    features: NDArray[np.floating],
    probabilities: NDArray[np.floating] | None,
    labelled: NDArray[np.bool_],
    n: int,
    seed: int,
) -> NDArray[np.intp]:
    """Suggest among all labelled spots and an even draw of the others."""
    draw = np.random.default_rng(seed)
    known, free = np.flatnonzero(labelled), np.flatnonzero(~labelled)
    known = draw.permutation(known)[: FEATURED // 2]
    rows = np.sort(np.concatenate([known, draw.permutation(free)[: FEATURED - len(known)]]))
    told = None if probabilities is None else probabilities[rows]
    return rows[suggest_spots(features[rows], told, labelled[rows], n, seed)]


def _typical(
    space: NDArray[np.float64], labelled: NDArray[np.bool_], n: int, seed: int
) -> NDArray[np.intp]:
    """Return the densest spot of each of the largest clusters that have no label."""
    groups = _clusters(space, int(labelled.sum()) + n, seed)
    taken = np.bincount(groups, labelled, minlength=groups.max() + 1)
    sizes = np.bincount(groups)
    order = np.lexsort((-sizes, taken))
    dense = np.empty(len(space))
    found: list[int] = []
    for group in order:
        every = np.flatnonzero(groups == group)
        dense[every] = _density(space[every])
        if len(members := every[~labelled[every]]):
            found.append(int(members[dense[members].argmax()]))
    rest = np.setdiff1d(np.flatnonzero(~labelled), found)
    rest = rest[np.argsort(-dense[rest], kind="stable")]
    return np.array([*found, *rest][:n], np.intp)


def _doubted(
    space: NDArray[np.float64],
    told: NDArray[np.float64],
    labelled: NDArray[np.bool_],
    n: int,
    seed: int,
) -> NDArray[np.intp]:
    """Draw spots that are doubtful and far from what is known or drawn."""
    from scipy.spatial import cKDTree

    draw = np.random.default_rng([seed, int(labelled.sum())])
    free = np.flatnonzero(~labelled)
    squares = cKDTree(space[labelled]).query(space[free])[0] ** 2
    rarity = (told[free] / (1.0 + told[labelled].sum(axis=0))).sum(axis=1)
    odds = np.maximum(doubt(told[free]), 1e-9) ** 2 * rarity
    found: list[int] = []
    for _ in range(n):
        weights = odds * np.maximum(squares, 1e-12)
        chosen = int(draw.choice(len(free), p=weights / weights.sum()))
        found.append(chosen)
        squares = np.minimum(squares, ((space[free] - space[free[chosen]]) ** 2).sum(axis=1))
        odds[chosen] = 0.0
    return free[found]


def _space(features: NDArray[np.floating], seed: int) -> NDArray[np.float64]:
    """Return the features standardised, in the directions in which they vary most."""
    from sklearn.decomposition import PCA

    found = np.asarray(features, np.float64)
    spread = found.std(axis=0)
    found = (found - found.mean(axis=0)) / np.where(spread > 1e-7, spread, 1.0)
    k = min(COMPONENTS, *found.shape)
    with np.errstate(invalid="ignore"):  # spots that are all the same vary in no direction
        return PCA(k, svd_solver="randomized", random_state=seed).fit_transform(found)


def _clusters(space: NDArray[np.float64], k: int, seed: int) -> NDArray[np.intp]:
    from sklearn.cluster import KMeans

    k = min(k, len(np.unique(space, axis=0)))
    return KMeans(k, n_init=1, random_state=seed).fit(space).labels_


def _density(space: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial import cKDTree

    k = min(NEIGHBOURS + 1, len(space))
    if k < 2:
        return np.ones(len(space))
    return 1.0 / (cKDTree(space).query(space, k)[0][:, 1:].mean(axis=1) + 1e-9)
