"""Features of places: read, encoded, averaged over their surroundings, and kept for next time."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from zipfile import BadZipFile

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
TISSUE_CELLS = 500
"""Patches that a slide's mean is taken over, at most."""


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
    *,
    centred: bool = False,
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
    centred
        Subtract the mean over the slide's tissue from each feature. Slides are stained and
        scanned differently, and with few of them what differs between slides cannot be told from
        what differs between tissues.

    Returns
    -------
    (n, width * (1 + len(radii_um))) float32, own features first.
    """
    progress = progress or Progress()
    section, centres = places.section, places.centres_px
    mpp = _mpp(section)
    reach = [radius / mpp for radius in radii_um]
    if isinstance(encoder, PrecomputedEncoder):
        table = encoder.table(section)
        around_px, around = table.centres_px, table.values
        usual = around
    else:
        lattice = _Lattice(section, encoder, encoder.patch_um / mpp)
        near = lattice.near(centres, max(reach, default=0.0)) if reach else lattice.nothing
        tissue = lattice.tissue() if centred else lattice.nothing
        both = len(near) + len(tissue)
        share = both / max(1, both + len(centres))
        values = lattice.features(np.concatenate([near, tissue]), progress.part(0.0, share))
        around_px, around = lattice.centres_px(near), values[: len(near)]
        usual = values[len(near) :]
        progress = progress.part(share, 1.0)
    own = _features_at(section, centres, encoder, progress)
    means = [disc_means(centres, around_px, around, radius, progress) for radius in reach]
    pooled = np.concatenate([own, *means], axis=1)
    if centred and len(usual):
        pooled -= np.tile(usual.mean(axis=0, dtype=np.float64).astype(np.float32), 1 + len(reach))
    return pooled


class _Lattice:
    """Touching patches over a whole slide, encoded where they are asked for and kept.

    A cell is named by its row and column, (m, 2) integers. All jobs on the slide share what was
    encoded: other places, other radii, and the slide's mean.
    """

    nothing = np.zeros((0, 2), np.int64)

    def __init__(self, section: Section, encoder: Encoder, step_px: float) -> None:
        self.section, self.encoder, self.step_px = section, encoder, step_px
        first = (step_px - 1) / 2
        self.counts = [
            max(1, int((size - 1 - first) // step_px) + 1) for size in section.slide.shape_px
        ]

    def centres_px(self, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return where the cells lie, (m, 2) row, col."""
        return np.asarray((self.step_px - 1) / 2 + cells * self.step_px, dtype=np.float64)

    def near(self, centres_px: NDArray[np.float64], reach_px: float) -> NDArray[np.int64]:
        """Return the cells within reach of any of the places."""
        from scipy.spatial import cKDTree

        if not len(centres_px):
            return self.nothing
        low = (centres_px.min(axis=0) - reach_px) // self.step_px
        high = (centres_px.max(axis=0) + reach_px) // self.step_px + 2
        low, high = np.clip(low, 0, self.counts), np.clip(high, 1, self.counts)
        ranges = [np.arange(int(a), int(b)) for a, b in zip(low, high, strict=True)]
        cells = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 2)
        # The nearest cell of each place is kept whatever the reach, so that none is left alone.
        reach_px = max(reach_px, 0.75 * self.step_px)
        if not len(cells):
            return self.nothing
        apart = cKDTree(centres_px).query(self.centres_px(cells))[0]
        return cells[apart <= reach_px]

    def tissue(self) -> NDArray[np.int64]:
        """Return cells on tissue, evenly drawn from all; none where no tissue is found."""
        from spotscope.data.places import Places

        try:
            grid = Places.on_grid(self.section, self.encoder.patch_um).grid
        except SpotScopeError:  # such as a blank picture: then there is nothing to even out
            return self.nothing
        assert grid is not None
        cells = np.argwhere(grid.mask)
        cells = cells[(cells < self.counts).all(axis=1)]
        return cells[:: max(1, -(-len(cells) // TISSUE_CELLS))]

    def features(self, cells: NDArray[np.int64], progress: Progress) -> NDArray[np.float32]:
        """Return the features of cells, (m, width)."""
        file = _cache_file(self.section, self.encoder, b"lattice").with_suffix(".npz")
        known = self._known(file)
        wanted = [(int(row), int(col)) for row, col in cells]
        missing = sorted(set(wanted) - set(known))
        if missing:
            centres = self.centres_px(np.array(missing))
            made = _encode(self.section, centres, self.encoder, progress)
            known |= dict(zip(missing, made, strict=True))
            with written_beside(file) as beside, open(beside, "wb") as handle:
                np.savez(
                    handle, cells=np.array(list(known)), values=np.stack(list(known.values()))
                )
        if not wanted:
            return np.zeros((0, self.encoder.width), np.float32)
        return np.stack([known[cell] for cell in wanted])

    def _known(self, file: Path) -> dict[tuple[int, int], NDArray[np.float32]]:
        try:
            with np.load(file, allow_pickle=False) as kept:
                cells, values = kept["cells"], kept["values"]
        except (OSError, ValueError, EOFError, KeyError, BadZipFile):
            return {}  # absent, or damaged: it is made again
        if values.shape != (len(cells), self.encoder.width):
            return {}
        return {(int(row), int(col)): each for (row, col), each in zip(cells, values, strict=True)}


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
    file = _cache_file(section, encoder, centres_px.tobytes())
    kept = _kept(file, (len(centres_px), encoder.width))
    if kept is not None:
        progress.report(1.0, f"Features of {section.name} are at hand")
        return kept
    made = _encode(section, centres_px, encoder, progress)
    with written_beside(file) as beside, open(beside, "wb") as handle:
        np.save(handle, made)
    return made


def _cache_file(section: Section, encoder: Encoder, which: bytes) -> Path:
    text = (
        f"{encoder.fingerprint} {encoder.patch_um} {encoder.patch_px}"
        f" {section.slide.fingerprint} {_mpp(section)!r}"
    )
    digest = hashlib.sha256(text.encode())
    digest.update(which)
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
