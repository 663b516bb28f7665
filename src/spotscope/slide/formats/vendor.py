"""Scanner formats through OpenSlide: SVS, NDPI, MRXS, SCN, VMS, BIF, DICOM and others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.errors import SpotScopeError
from spotscope.slide.colour import on_white
from spotscope.slide.fingerprint import of_file
from spotscope.slide.formats import Opened
from spotscope.slide.formats.tiff import quiet_tifffile, refuse_cut_short
from spotscope.slide.levels import LevelArray, downsample_of
from spotscope.slide.mpp import MppSource, from_resolution, mpp_source

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from openslide import OpenSlide

EXTENSIONS = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi", ".dcm")

_CACHE_BYTES = 64 << 20
_GENERIC = "generic-tiff"  # tifffile knows more of those: axes, bits, OME-XML


def is_vendor_slide(path: Path) -> bool:
    """Whether OpenSlide knows the file as a scanner's."""
    import openslide

    vendor = openslide.OpenSlide.detect_format(path)
    return vendor is not None and vendor != _GENERIC


def open_vendor_slide(path: Path) -> Opened:
    """Open a scanner's file.

    Raises
    ------
    SpotScopeError
        When its header or its first pixels cannot be read.
    """
    import openslide

    _refuse_cut_short(path)
    try:
        slide = openslide.OpenSlide(path)
    except openslide.OpenSlideError as error:
        raise _unreadable(path, error) from error
    slide.set_cache(openslide.OpenSlideCache(_CACHE_BYTES))
    area = _Area(slide)
    levels: list[LevelArray] = [OpenSlideLevel(path, slide, area, k) for k in area.levels]
    shape = levels[0].shape
    rows, cols, _ = levels[-1].shape
    try:  # a damaged file shows it here, not while someone browses
        levels[-1].read(rows // 2, rows // 2 + 1, cols // 2, cols // 2 + 1)
        levels[0].read(shape[0] - 1, shape[0], shape[1] - 1, shape[1])
    except SpotScopeError:
        slide.close()
        raise
    quickhash = slide.properties.get(openslide.PROPERTY_NAME_QUICKHASH1, "")
    return Opened(
        levels,
        of_file(path, quickhash),
        sources=_sources(slide.properties),
        closers=(slide.close,),
        downsamples=tuple(downsample_of(shape, level.shape) for level in levels),
    )


def _refuse_cut_short(path: Path) -> None:
    """Refuse a TIFF of a scanner that ends too soon, which OpenSlide meets only while browsing."""
    import tifffile

    with quiet_tifffile():
        try:
            tif = tifffile.TiffFile(path)
        except (tifffile.TiffFileError, ValueError, KeyError, IndexError, OSError):
            return  # no TIFF, or none that tifffile knows: OpenSlide judges it
        with tif:
            refuse_cut_short(path, tif.pages)


class _Area:
    """The part of OpenSlide's canvas that holds the slide.

    Some scanners state a canvas far larger than what they scanned. Level 0 of ours begins at
    those bounds, and this is the one place that knows of the offset.
    """

    def __init__(self, slide: OpenSlide) -> None:
        import openslide

        properties = slide.properties
        width, height = slide.dimensions
        self.left = int(properties.get(openslide.PROPERTY_NAME_BOUNDS_X, 0))
        self.top = int(properties.get(openslide.PROPERTY_NAME_BOUNDS_Y, 0))
        cols = int(properties.get(openslide.PROPERTY_NAME_BOUNDS_WIDTH, width - self.left))
        rows = int(properties.get(openslide.PROPERTY_NAME_BOUNDS_HEIGHT, height - self.top))
        self.cols, self.rows = min(cols, width - self.left), min(rows, height - self.top)
        whole = (self.cols, self.rows) == slide.dimensions
        self.sizes = [
            (rows, cols)
            if whole
            else (int(self.rows / downsample + 1e-6), int(self.cols / downsample + 1e-6))
            for (cols, rows), downsample in zip(
                slide.level_dimensions, slide.level_downsamples, strict=True
            )
        ]
        # Coarse levels that round to nothing are left out.
        self.levels = [index for index, size in enumerate(self.sizes) if min(size) >= 1]

    def location(self, row: int, col: int, downsample: float) -> tuple[int, int]:
        """Return the (x, y) of OpenSlide, which counts level-0 pixels, of a level's pixel."""
        return self.left + round(col * downsample), self.top + round(row * downsample)


class OpenSlideLevel(LevelArray):
    """A level that OpenSlide decodes; transparent pixels, which were not scanned, are white."""

    def __init__(self, path: Path, slide: OpenSlide, area: _Area, index: int) -> None:
        self._downsample = slide.level_downsamples[index]
        stated = [f"openslide.level[{index}].tile-{side}" for side in ("height", "width")]
        tile = [int(slide.properties.get(name, 512)) for name in stated]
        super().__init__(*area.sizes[index], (tile[0], tile[1]))
        self._path = path
        self._slide = slide
        self._area = area
        self._index = index

    def read(self, top: int, bottom: int, left: int, right: int) -> NDArray[np.uint8]:
        """Return those pixels."""
        import openslide

        location = self._area.location(top, left, self._downsample)
        try:
            region = self._slide.read_region(location, self._index, (right - left, bottom - top))
        except openslide.OpenSlideError as error:
            raise _unreadable(self._path, error) from error
        return on_white(np.asarray(region))  # OpenSlide gives straight alpha


def _sources(properties: Any) -> tuple[MppSource, ...]:
    """Return what the slide's properties state."""
    vendor = properties.get("openslide.vendor", "slide")
    vendor = "DICOM" if vendor == "dicom" else vendor.capitalize()
    found: list[MppSource | None] = []
    across, down = (_number(properties.get(f"openslide.mpp-{axis}")) for axis in "xy")
    if across or down:
        found.append(mpp_source(f"{vendor} properties", down or across, across or down))
    written = _number(properties.get("aperio.MPP"))
    if written and written not in (across, down):
        found.append(mpp_source("Aperio description", written))
    unit = {"centimeter": 1e4, "inch": 25400.0}.get(properties.get("tiff.ResolutionUnit", ""))
    dense_down, dense_across = (_number(properties.get(f"tiff.{a}Resolution")) for a in "YX")
    found.append(from_resolution("TIFF resolution tags", dense_down, dense_across, unit))
    return tuple(source for source in found if source is not None)


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def _unreadable(path: Path, error: Exception) -> SpotScopeError:
    return SpotScopeError(
        f"'{path.name}' cannot be read as a slide ({str(error).rstrip('.')}); the file may be"
        " damaged or cut short: copy or export it again."
    )
