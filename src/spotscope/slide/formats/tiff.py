"""TIFF through tifffile: pyramidal, tiled, OME-TIFF, and plain ones by strips."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from spotscope.errors import SpotScopeError
from spotscope.slide.colour import Colour
from spotscope.slide.fingerprint import of_file
from spotscope.slide.formats import Opened
from spotscope.slide.levels import BLOCK_PX, LevelArray, ZarrLevel
from spotscope.slide.mpp import MppSource, from_resolution, mpp_source, um_per

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

EXTENSIONS = (".tif", ".tiff", ".btf", ".tf8", ".qptiff", ".gtiff")

_UM_PER_RESOLUTION_UNIT = {2: 25400.0, 3: 1e4}
_AXES = {"Y": "y", "X": "x", "S": "c", "C": "c"}
_LARGE_STRIP_BYTES = 64 << 20


def open_tiff(path: Path) -> Opened:
    """Open a TIFF; nothing of its pixels is decoded but a coarse level of 12 or 16 bit images.

    Raises
    ------
    SpotScopeError
        When it is damaged, cut short, compressed in a way that cannot be read, or not RGB.
    """
    import tifffile

    with quiet_tifffile():
        try:
            tif = tifffile.TiffFile(path)
        except (tifffile.TiffFileError, ValueError, KeyError, IndexError, OSError) as error:
            raise _unreadable(path, str(error)) from error
        try:
            return _opened(path, tif)
        except BaseException:
            tif.close()
            raise


@contextmanager
def quiet_tifffile() -> Iterator[None]:
    """Keep tifffile from logging what is wrong with a file: we say it in one sentence."""
    log = logging.getLogger("tifffile")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)


def _opened(path: Path, tif: TiffFile) -> Opened:
    series = _picture(path, tif)
    levels = [level for level in series.levels if min(level.keyframe.shape[:2]) >= 1]
    for level in levels:
        refuse_cut_short(path, level.pages)
    arrays = [_zarr_array(path, level) for level in levels]
    axes, fixed, notes = _axes(path, series)
    colour = _colour(path, tif, series, arrays[-1], axes, fixed)
    made: list[LevelArray] = [TiffLevel(path, array, axes, colour, fixed) for array in arrays]
    coarse = made[-1]
    # A compression or a tile that cannot be decoded shows here, not while someone browses.
    coarse.read(coarse.shape[0] // 2, coarse.shape[0] // 2 + 1, 0, 1)
    page = series.keyframe
    orientation = page.tags.get("Orientation")
    if orientation is not None and int(orientation.value) > 1:
        notes.append(
            f"'{path.name}' asks to be shown turned or flipped; SpotScope shows its pixels as"
            " they are stored, which is what spot positions refer to."
        )
    return Opened(
        made,
        of_file(path),
        sources=_sources(tif, series),
        notes=(*notes, *colour.notes),
        closers=(tif.close,),
        flat=not page.is_tiled,
    )


class TiffLevel(ZarrLevel):
    """A level of a TIFF; what cannot be decoded is said in one sentence."""

    def __init__(
        self,
        path: Path,
        array: Any,
        axes: str,
        to_rgb: Callable[[NDArray], NDArray[np.uint8]],
        fixed: dict[str, int],
    ) -> None:
        super().__init__(array, axes, to_rgb, fixed)
        self._path = path

    def read_raw(self, top: int, bottom: int, left: int, right: int) -> NDArray:
        """Return the stored values there, as (rows, cols, channels)."""
        try:
            return super().read_raw(top, bottom, left, right)
        except Exception as error:
            raise _unreadable(self._path, str(error)) from error


def _picture(path: Path, tif: TiffFile) -> TiffPageSeries:
    """Return the largest picture: labels, macros and thumbnails are smaller."""
    try:
        found = [s for s in tif.series if {"Y", "X"} <= set(s.axes) and s.size]
    except Exception as error:
        raise _unreadable(path, str(error)) from error
    if not found:
        raise _unreadable(path, "it holds no picture")
    return max(found, key=lambda s: s.keyframe.imagelength * s.keyframe.imagewidth)


def refuse_cut_short(path: Path, pages: Iterable[TiffPage | TiffFrame | None]) -> None:
    """Refuse a file that ends before the last tile of its pages does."""
    size = path.stat().st_size
    for page in pages:
        if page is None:
            continue
        ends = np.asarray(page.dataoffsets, np.int64) + np.asarray(page.databytecounts, np.int64)
        if not ends.size or int(ends.max()) > size:
            raise SpotScopeError(
                f"'{path.name}' is cut short: its pixels reach beyond its end at {size:,} bytes;"
                " copy or download it again."
            )


def _zarr_array(path: Path, level: TiffPageSeries) -> Any:
    """Return the level as a zarr array whose tiles are decoded in threads."""
    import zarr

    if int(np.prod(level.keyframe.chunks)) * level.dtype.itemsize > _LARGE_STRIP_BYTES:
        return _Held(level)
    try:
        return zarr.open_array(level.aszarr(level=0, maxworkers=2), mode="r")
    except Exception as error:
        raise _unreadable(path, str(error)) from error


class _Held:
    """A picture in one strip, or a few huge ones: mapped, or decoded once when it is first read.

    Through zarr each piece that is read would decode such a strip again.
    """

    def __init__(self, level: TiffPageSeries) -> None:
        self.shape = level.shape
        self.chunks = (BLOCK_PX,) * len(level.shape)
        self.dtype = level.dtype
        self._level = level
        self._decoding = threading.Lock()

    @cached_property
    def _pixels(self) -> NDArray:
        return self._level.asarray(out="memmap" if self._level.keyframe.is_memmappable else None)

    def __getitem__(self, key: Any) -> NDArray:
        with self._decoding:
            pixels = self._pixels
        return pixels[key]


def _axes(path: Path, series: TiffPageSeries) -> tuple[str, dict[str, int], list[str]]:
    """Return the axes in our letters, what to take along the others, and what to say of it."""
    kept = ""
    fixed: dict[str, int] = {}
    notes = []
    # Planar and interleaved channels both count; of two such axes, the longer one is meant.
    colours = {a: n for a, n in zip(series.axes, series.shape, strict=True) if a in "SC"}
    channel = max(colours, key=lambda axis: colours[axis]) if colours else ""
    for axis, size in zip(series.axes, series.shape, strict=True):
        if axis in "YX" or axis == channel:
            kept += _AXES[axis]
            continue
        letter = axis.lower() if axis.lower() not in "yxc" else "o"
        kept += letter
        fixed[letter] = size // 2 if axis == "Z" else 0
        if size > 1:
            notes.append(
                f"'{path.name}' holds {size} planes along {axis}; plane {fixed[letter] + 1} is"
                " shown."
            )
    return kept, fixed, notes


def _colour(
    path: Path,
    tif: TiffFile,
    series: TiffPageSeries,
    coarse: Any,
    axes: str,
    fixed: dict[str, int],
) -> Colour:
    import tifffile

    page = series.keyframe
    kind = tifffile.PHOTOMETRIC(page.photometric)
    if kind in (tifffile.PHOTOMETRIC.PALETTE, tifffile.PHOTOMETRIC.SEPARATED):
        raise SpotScopeError(
            f"'{path.name}' stores its colours as {kind.name.lower()}; export it as an RGB TIFF."
        )
    channels = series.shape[axes.index("c")] if "c" in axes else 1
    sampler = ZarrLevel(coarse, axes, lambda raw: raw, fixed)

    def sample() -> NDArray:
        rows, cols = sampler.shape[:2]
        top, left = max((rows - 2048) // 2, 0), max((cols - 2048) // 2, 0)
        return sampler.read_raw(top, min(top + 2048, rows), left, min(left + 2048, cols))

    return Colour(
        path.name,
        channels,
        series.dtype,
        sample,
        bits=_significant_bits(tif, page),
        alpha=bool(page.extrasamples),
        inverted=kind == tifffile.PHOTOMETRIC.MINISWHITE,
        channel_names=_channel_names(tif),
    )


def _significant_bits(tif: TiffFile, page: TiffPage) -> int | None:
    pixels = _ome_pixels(tif, 0)
    if pixels is not None and pixels.get("SignificantBits"):
        return int(pixels.get("SignificantBits", 0))
    return page.bitspersample if isinstance(page.bitspersample, int) else None


def _channel_names(tif: TiffFile) -> tuple[str, ...]:
    pixels = _ome_pixels(tif, 0)
    if pixels is None:
        return ()
    return tuple(c.get("Name", "") for c in pixels.iterfind("{*}Channel") if c.get("Name"))


def _ome_pixels(tif: TiffFile, index: int) -> ElementTree.Element | None:
    """Return the `Pixels` element of the image of that index in the OME-XML."""
    if not tif.ome_metadata:
        return None
    try:
        found = list(ElementTree.fromstring(tif.ome_metadata).iterfind("{*}Image/{*}Pixels"))
    except ElementTree.ParseError:
        return None
    return found[min(index, len(found) - 1)] if found else None


def _sources(tif: TiffFile, series: TiffPageSeries) -> tuple[MppSource, ...]:
    """Return what OME-XML, an Aperio description, ImageJ and the resolution tags state."""
    page = series.keyframe
    found = [_ome_source(tif, series), _aperio_source(page.description)]
    try:
        across, down = page.resolution
    except (ValueError, ZeroDivisionError, TypeError):
        across = down = 0.0
    unit = _UM_PER_RESOLUTION_UNIT.get(int(page.resolutionunit))
    if tif.is_imagej and tif.imagej_metadata:
        named = um_per(str(tif.imagej_metadata.get("unit", "")))
        found.append(from_resolution("ImageJ description", down, across, named))
    else:
        found.append(from_resolution("TIFF resolution tags", down, across, unit))
    return tuple(source for source in found if source is not None)


def _ome_source(tif: TiffFile, series: TiffPageSeries) -> MppSource | None:
    pixels = _ome_pixels(tif, tif.series.index(series))
    if pixels is None:
        return None
    sizes = []
    for axis in "YX":
        unit = um_per(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        size = pixels.get(f"PhysicalSize{axis}")
        if unit is None or size is None:
            return None
        sizes.append(float(size) * unit)
    return mpp_source("OME-XML", *sizes)


def _aperio_source(description: str) -> MppSource | None:
    for part in (description or "").split("|"):
        name, _, value = part.partition("=")
        if name.strip() == "MPP":
            try:
                return mpp_source("Aperio description", float(value))
            except ValueError:
                return None
    return None


def _unreadable(path: Path, why: str) -> SpotScopeError:
    said = " ".join(why.split()).rstrip(".")[:160]
    return SpotScopeError(
        f"'{path.name}' cannot be read as a TIFF ({said}); the file may be damaged or cut short:"
        " copy or export it again."
    )
