"""Features of places: read, encoded, averaged over their surroundings, and kept for next time."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from spotscope.encoders.precomputed import PrecomputedEncoder
from spotscope.errors import SpotScopeError
from spotscope.files import cache_folder, written_beside
from spotscope.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from spotscope.data.places import Places
    from spotscope.data.section import Section
    from spotscope.encoders.base import Encoder

READ_AT_ONCE = 128
"""Patches that are read together: neighbours share chunks of the slide, which are decoded once."""
SECONDS_A_BATCH = 0.4
"""Batches grow until they take this long, so that cancel works within a second."""


def features(
    places: Places, encoder: Encoder, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Return the encoder's features of each place, (n, width) float32.

    They are kept in the cache folder, by the encoder's weights, the patch, the slide's content
    and the places, and read from there the next time.

    Raises
    ------
    SpotScopeError
        When the slide states no micrometres per pixel, or the encoder cannot serve the places.
    Cancelled
        When the user asked to stop.
    """
    return _features_at(places.section, places.centres_px, encoder, progress or Progress())


def pooled_features(
    places: Places,
    encoder: Encoder,
    radii_um: Sequence[float],
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Return each place's own features and their means over its surroundings.

    The surroundings are sampled on a lattice of touching patches that is laid over the slide,
    whatever the places: a spot, a cell of a fine grid and a single point at the same position get
    the same features, so that what was learnt on spots holds on every grid. For features that
    were computed elsewhere the file's own coordinates stand in for the lattice.

    Parameters
    ----------
    places
        Where.
    encoder
        Its `patch_um` is the lattice's step.
    radii_um
        Each adds one mean over all patches whose centre lies within it.
    progress
        Told after every batch.

    Returns
    -------
    (n, width * (1 + len(radii_um))) float32, own features first.
    """
    progress = progress or Progress()
    section, centres = places.section, places.centres_px
    if not len(radii_um) or not len(centres):
        own = _features_at(section, centres, encoder, progress)
        return np.tile(own, (1, 1 + len(radii_um)))
    mpp = _mpp(section)
    reach = [radius / mpp for radius in radii_um]
    if isinstance(encoder, PrecomputedEncoder):
        table = encoder.table(section)
        around_px, around = table.centres_px, table.values
    else:
        around_px = lattice(section.slide.shape_px, encoder.patch_um / mpp, centres, max(reach))
        share = len(centres) / (len(centres) + len(around_px))
        around = _features_at(section, around_px, encoder, progress.part(share, 0.98))
        progress = progress.part(0.0, share)
    own = _features_at(section, centres, encoder, progress)
    means = [disc_means(centres, around_px, around, radius, progress) for radius in reach]
    return np.concatenate([own, *means], axis=1)


def lattice(
    shape_px: tuple[int, int], step_px: float, centres_px: NDArray[np.float64], reach_px: float
) -> NDArray[np.float64]:
    """Return the centres (m, 2) of touching patches that lie on the slide and within reach.

    The lattice starts at the slide's corner, so that all places share it.
    """
    from scipy.spatial import cKDTree

    counts = [max(1, int(size // step_px)) for size in shape_px]
    sizes = np.array(shape_px, dtype=np.float64)
    first = (sizes - 1 - (np.array(counts) - 1) * step_px) / 2
    low = np.clip(np.floor((centres_px.min(0) - reach_px - first) / step_px), 0, counts)
    high = np.clip(np.ceil((centres_px.max(0) + reach_px - first) / step_px) + 1, 0, counts)
    ranges = [np.arange(int(a), int(b)) for a, b in zip(low, high, strict=True)]
    cells = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 2)
    points = first + cells * step_px
    if not len(points):
        return points
    near = cKDTree(centres_px).query(points, distance_upper_bound=reach_px)[0] <= reach_px
    return points[near]


def disc_means(
    centres_px: NDArray[np.float64],
    around_px: NDArray[np.float64],
    around: NDArray[np.float32],
    radius_px: float,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Return the mean of `around` over the points within a radius of each centre, (n, width).

    A centre without any takes the nearest.
    """
    from scipy.sparse import csr_matrix
    from scipy.spatial import cKDTree

    tree = cKDTree(around_px)
    means = np.empty((len(centres_px), around.shape[1]), np.float32)
    for start in range(0, len(centres_px), 1000):
        if progress is not None:
            progress.check()
        part = centres_px[start : start + 1000]
        found = tree.query_ball_point(part, radius_px, return_sorted=True)
        nearest = tree.query(part)[1]
        lists = [hits or [one] for hits, one in zip(found, nearest, strict=True)]
        sizes = np.array([len(hits) for hits in lists])
        weights = np.repeat(1.0 / sizes, sizes).astype(np.float32)
        pointers = np.concatenate([[0], np.cumsum(sizes)])
        shape = (len(part), len(around_px))
        means[start : start + 1000] = (
            csr_matrix((weights, np.concatenate(lists), pointers), shape) @ around
        )
    return means


def _features_at(
    section: Section, centres_px: NDArray[np.float64], encoder: Encoder, progress: Progress
) -> NDArray[np.float32]:
    centres_px = np.ascontiguousarray(centres_px, dtype=np.float64)
    if isinstance(encoder, PrecomputedEncoder):
        return encoder.at(section, centres_px)
    file = _cache_file(section, centres_px, encoder)
    kept = _kept(file, (len(centres_px), encoder.width))
    if kept is not None:
        progress.report(1.0, f"Features of {section.name} are at hand")
        return kept
    made = _encode(section, centres_px, encoder, progress)
    with written_beside(file) as beside, open(beside, "wb") as handle:
        np.save(handle, made)
    return made


def _cache_file(section: Section, centres_px: NDArray[np.float64], encoder: Encoder) -> Path:
    text = (
        f"{encoder.fingerprint} {encoder.patch_um} {encoder.patch_px}"
        f" {section.slide.fingerprint} {_mpp(section)!r}"
    )
    digest = hashlib.sha256(text.encode())
    digest.update(centres_px.tobytes())
    return cache_folder() / "features" / f"{digest.hexdigest()[:32]}.npy"


def _kept(file: Path, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    try:
        kept = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # absent, or damaged: it is made again
        return None
    return kept if kept.shape == shape and kept.dtype == np.float32 else None


def _mpp(section: Section) -> float:
    if section.mpp_um is None:
        raise SpotScopeError(
            f"The slide of section '{section.name}' states no micrometres per pixel; import it"
            " again with --mpp."
        )
    return float(section.mpp_um)


def _encode(
    section: Section, centres_px: NDArray[np.float64], encoder: Encoder, progress: Progress
) -> NDArray[np.float32]:
    """Read patches in the order they lie on the slide, one group ahead of the encoder."""
    from spotscope.slide.patches import read_patches

    made = np.empty((len(centres_px), encoder.width), np.float32)
    order = _slide_order(centres_px, encoder.patch_um / _mpp(section))
    groups = [order[at : at + READ_AT_ONCE] for at in range(0, len(order), READ_AT_ONCE)]
    message = f"Encoding {section.name}"
    progress.report(0.0, message)
    done, size = 0, 4

    def read(group: NDArray[np.intp]) -> NDArray[np.uint8]:
        return read_patches(section.slide, centres_px[group], encoder.patch_um, encoder.patch_px)

    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(read, groups[0]) if groups else None
        for number, group in enumerate(groups):
            assert ahead is not None
            patches = ahead.result()
            if number + 1 < len(groups):
                ahead = reader.submit(read, groups[number + 1])
            at = 0
            while at < len(group):
                began = time.monotonic()
                batch = group[at : at + size]
                made[batch] = encoder.encode(patches[at : at + size])
                at += len(batch)
                done += len(batch)
                size = _next_size(size, time.monotonic() - began)
                progress.report(done / len(order), message)
    return made


def _slide_order(centres_px: NDArray[np.float64], patch_px: float) -> NDArray[np.intp]:
    """Order places by square blocks of the slide, so that a group of them shares its chunks."""
    block = max(1024.0, 4 * patch_px)
    rows, cols = np.floor(centres_px / block).T
    return np.lexsort((centres_px[:, 1], centres_px[:, 0], cols, rows))


def _next_size(size: int, seconds: float) -> int:
    if seconds < SECONDS_A_BATCH / 2:
        return min(2 * size, READ_AT_ONCE)
    return max(1, size // 2) if seconds > SECONDS_A_BATCH else size
