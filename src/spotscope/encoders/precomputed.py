"""Features that the user computed elsewhere, found again by their coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.encoders.base import Encoder, Images
from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.data.section import Section

_FEATURES = ("features", "embeddings", "feats")
_COORDINATES = ("coords", "coordinates")
_CORNER_SIZE = ("patch_size_level0", "patch_level0_size")
_SUFFIXES = (".h5", ".hdf5", ".zarr")


@dataclass(frozen=True)
class FeatureTable:
    """Features at known places of one slide.

    Attributes
    ----------
    centres_px
        (n, 2) row, col in level-0 pixels.
    values
        (n, width) float32.
    reach_px
        How far a place may lie from the nearest of the centres: three quarters of their spacing,
        which is just over half a diagonal of a square of them.
    """

    centres_px: NDArray[np.float64]
    values: NDArray[np.float32]
    reach_px: float


class PrecomputedEncoder(Encoder):
    """Features from a file, matched to places by the nearest coordinate.

    The file is h5 or zarr with `features` (n, width) and `coords` (n, 2), the (x, y) of patch
    centres in level-0 pixels; where `coords` has the attribute `patch_size_level0`, as the files
    of common slide pipelines have, they are the upper left corners of patches of that size. For
    several sections name a folder that holds `SECTION.h5` or `SECTION.zarr` for each.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser()
        self.name = f"features:{path}"
        files = [self.path] if self.path.suffix in _SUFFIXES else self._files_within()
        if not files or not files[0].exists():
            raise SpotScopeError(
                f"There are no features at '{self.path}'; name an h5 or zarr file, or a folder"
                " with one for each section, named like the section."
            )
        self._tables: dict[Path, FeatureTable] = {}
        self.width = self._read(files[0]).values.shape[1]
        # Whoever made the features knows with what; the width is all that can be compared.
        self.fingerprint = f"features-{self.width}"

    def encode(self, patches: Images) -> NDArray[np.float32]:
        """Refuse: these features were computed elsewhere."""
        raise SpotScopeError(
            f"'{self.name}' holds features that were computed elsewhere and cannot encode new"
            " patches; choose another encoder for it, such as 'stain'."
        )

    def table(self, section: Section) -> FeatureTable:
        """Return the features of a section.

        Raises
        ------
        SpotScopeError
            When there is no file for it, or its width differs.
        """
        if self.path.suffix in _SUFFIXES:
            file = self.path
        else:
            named = [self.path / f"{section.name}{suffix}" for suffix in _SUFFIXES]
            found = next((each for each in named if each.exists()), None)
            if found is None:
                raise SpotScopeError(
                    f"The folder '{self.path}' has no features of section '{section.name}'; put"
                    f" them there as '{section.name}.h5'."
                )
            file = found
        table = self._read(file)
        if table.values.shape[1] != self.width:
            raise SpotScopeError(
                f"'{file.name}' has {table.values.shape[1]} features a patch where the first file"
                f" has {self.width}; compute them with the same network."
            )
        return table

    def at(self, section: Section, centres_px: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the features nearest to `centres_px` (n, 2) row, col, as (n, width).

        Raises
        ------
        SpotScopeError
            When some places lie too far from all coordinates of the file.
        """
        from scipy.spatial import cKDTree

        table = self.table(section)
        distance, nearest = cKDTree(table.centres_px).query(centres_px)
        far = int((distance > table.reach_px).sum())
        if far:
            raise SpotScopeError(
                f"{far} of {len(centres_px)} places of section '{section.name}' have no features"
                f" within {table.reach_px:.0f} pixels in '{self.path.name}'; check that its coords"
                " are (x, y) in full-resolution pixels of this slide, or compute features there."
            )
        return table.values[nearest]

    def _files_within(self) -> list[Path]:
        if not self.path.is_dir():
            return []
        return sorted(each for each in self.path.iterdir() if each.suffix in _SUFFIXES)

    def _read(self, file: Path) -> FeatureTable:
        if file not in self._tables:
            self._tables[file] = _read_table(file)
        return self._tables[file]


def _read_table(file: Path) -> FeatureTable:
    try:
        if file.suffix == ".zarr":
            import zarr

            return _table(file, zarr.open_group(file, mode="r"))
        import h5py

        with h5py.File(file, "r") as group:
            return _table(file, group)
    except (OSError, KeyError, ValueError) as error:
        raise SpotScopeError(
            f"The features in '{file.name}' cannot be read; give an h5 or zarr file with"
            " `features` (n, width) and `coords` (n, 2)."
        ) from error


def _table(file: Path, group: Any) -> FeatureTable:
    feature_key = next((key for key in _FEATURES if key in group), None)
    place_key = next((key for key in _COORDINATES if key in group), None)
    if feature_key is None or place_key is None:
        raise SpotScopeError(
            f"'{file.name}' holds {', '.join(sorted(group))[:80] or 'nothing'}; it needs"
            " `features` (n, width) and `coords` (n, 2), the (x, y) of patch centres in"
            " level-0 pixels."
        )
    values = np.asarray(group[feature_key], dtype=np.float32)
    places = np.asarray(group[place_key], dtype=np.float64)
    values = values.reshape(-1, values.shape[-1]) if values.ndim == 3 else values
    places = places.reshape(-1, places.shape[-1]) if places.ndim == 3 else places
    if values.ndim != 2 or places.shape != (len(values), 2) or not len(values):
        raise SpotScopeError(
            f"'{file.name}' has features of shape {values.shape} and coords of shape"
            f" {places.shape}; they must be (n, width) and (n, 2)."
        )
    if not np.isfinite(values).all() or not np.isfinite(places).all():
        raise SpotScopeError(
            f"'{file.name}' holds features or coords that are not finite numbers."
        )
    attributes = dict(group[place_key].attrs)
    size = next((float(attributes[key]) for key in _CORNER_SIZE if key in attributes), None)
    centres = places[:, ::-1] + (0.0 if size is None else (size - 1) / 2)
    return FeatureTable(np.ascontiguousarray(centres), values, 0.75 * _spacing(centres, size))


def _spacing(centres: NDArray[np.float64], size: float | None) -> float:
    from scipy.spatial import cKDTree

    distances = cKDTree(centres).query(centres, k=2)[0][:, 1] if len(centres) > 1 else np.array([])
    distances = distances[np.isfinite(distances) & (distances > 0)]
    if len(distances):
        return float(np.median(distances))
    return size or 224.0
