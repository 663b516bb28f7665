"""Opening a slide of any format that can be read."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from spotscope.errors import SpotScopeError
from spotscope.files import cache_folder, written_beside
from spotscope.progress import Progress
from spotscope.slide.formats import Opened, flat, ome_zarr, tiff, vendor
from spotscope.slide.levels import downsample_of
from spotscope.slide.mpp import choose_mpp
from spotscope.slide.slide import Slide

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

_BROWSABLE_PX = 4096
"""A coarsest level whose longer side is above this is halved further, in the cache folder."""


_NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM)
_TIFF_STARTS = (b"II", b"MM")


def open_slide(
    path: str | PathLike[str],
    *,
    mpp_um: float | None = None,
    pyramid: bool = True,
    progress: Progress | None = None,
) -> Slide:
    """Open a slide lazily.

    What can be read in pieces is read in place. Pictures that can only be decoded whole (JPEG,
    PNG, untiled TIFF) get a pyramid in the cache folder, once for their content; and a tiled file
    that lacks coarse levels gets these there.

    Parameters
    ----------
    path
        A file of one of `readable_formats`, an OME-Zarr or SpatialData folder, or a folder of
        DICOM files.
    mpp_um
        Micrometres per pixel, when the user knows better than the file.
    pyramid
        Whether to build what is missing of the pyramid. Without, a flat picture is one level that
        is decoded when it is first read: for an import, which writes its own pyramid.
    progress
        Of building a pyramid.

    Raises
    ------
    SpotScopeError
        When there is no such file, or it is not a slide, or damaged.
    """
    path = Path(path)
    opened = _open(path)
    try:
        if pyramid and (opened.flat or max(opened.levels[-1].shape[:2]) > _BROWSABLE_PX):
            opened = _completed(path, opened, progress or Progress())
        mpp, warnings = choose_mpp(opened.sources)
        shape = opened.levels[0].shape
        slide = Slide(
            path=path,
            name=slide_name(path),
            levels=opened.levels,
            downsamples=opened.downsamples
            or tuple(downsample_of(shape, level.shape) for level in opened.levels),
            mpp_sources=opened.sources,
            mpp_um=mpp,
            fingerprint=opened.fingerprint,
            notes=(*opened.notes, *warnings),
            closers=opened.closers,
        )
        return slide if mpp_um is None else slide.stated_by(user=mpp_um)
    except BaseException:
        for closer in opened.closers:
            closer()
        raise


def readable_formats() -> dict[str, tuple[str, ...]]:
    """Return the file endings of each family of formats, for file dialogs and `doctor`."""
    return {
        "Scanner slides": vendor.EXTENSIONS,
        "TIFF and OME-TIFF": tiff.EXTENSIONS,
        "OME-Zarr and SpatialData": (".zarr",),
        "Pictures": flat.EXTENSIONS,
    }


def slide_name(path: Path) -> str:
    """Return the file's name without its format's ending."""
    endings = {ending for family in readable_formats().values() for ending in family}
    name = path
    if name.suffix.lower() in endings:
        name = name.with_suffix("")
        if name.suffix.lower() == ".ome":
            name = name.with_suffix("")
    return name.name


def _open(path: Path) -> Opened:
    if not path.exists():
        raise SpotScopeError(f"There is no slide '{path}'; check the path.")
    if path.is_dir():
        return _open_folder(path)
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise SpotScopeError(
            f"'{path.name}' cannot be read ({error.strerror}); check that you may read it."
        ) from error
    if not start:
        raise SpotScopeError(f"'{path.name}' is empty; copy or export it again.")
    ending = path.suffix.lower()
    if ending in flat.EXTENSIONS:
        return flat.open_flat(path)
    if vendor.is_vendor_slide(path):
        return vendor.open_vendor_slide(path)
    if ending in tiff.EXTENSIONS or (ending in vendor.EXTENSIONS and start[:2] in _TIFF_STARTS):
        return tiff.open_tiff(path)
    if ending in vendor.EXTENSIONS:
        raise SpotScopeError(
            f"'{path.name}' is not what its ending says, or lacks the files that belong beside it;"
            " copy or export the slide again, with all of its files."
        )
    raise SpotScopeError(
        f"'{path.name}' is not a slide that SpotScope reads; it reads {_all_endings()}."
    )


def _open_folder(path: Path) -> Opened:
    if ome_zarr.is_zarr(path):
        return ome_zarr.open_ome_zarr(path)
    for file in sorted(path.glob("*.dcm")):
        if vendor.is_vendor_slide(file):
            return vendor.open_vendor_slide(file)
    raise SpotScopeError(
        f"The folder '{path.name}' is neither an OME-Zarr image nor a SpatialData store nor a"
        " DICOM slide; choose the slide's file, or the folder that ends in .zarr."
    )


def _all_endings() -> str:
    return ", ".join(ending for family in readable_formats().values() for ending in family)


def _completed(path: Path, opened: Opened, progress: Progress) -> Opened:
    """Return the slide with the levels that it lacks, from the cache folder."""
    from spotscope.slide.pyramid import write_pyramid

    source = opened.levels[0 if opened.flat else -1]
    kind = "whole" if opened.flat else f"below-{len(opened.levels)}"
    # The time too: of a large file the fingerprint samples, and a small edit could pass it by.
    key = f"{opened.fingerprint}-{path.stat().st_mtime_ns:x}-{kind}"
    with _cache_said_plainly(path):
        cached = cache_folder() / "pyramids" / f"{key}.zarr"
        if not (cached / "zarr.json").is_file():
            with written_beside(cached) as beside:
                write_pyramid(source, beside, with_source=opened.flat, progress=progress)
    built = ome_zarr.open_ome_zarr(cached)
    if not opened.flat:
        return replace(opened, levels=[*opened.levels, *built.levels], downsamples=None)
    for closer in opened.closers:
        closer()
    return replace(opened, levels=built.levels, downsamples=None, closers=())


@contextmanager
def _cache_said_plainly(path: Path) -> Iterator[None]:
    """Say what to do when the cache folder cannot take the pyramid of a slide."""
    try:
        yield
    except (OSError, SpotScopeError) as error:
        cause = error.__cause__ if isinstance(error, SpotScopeError) else error
        if not isinstance(cause, OSError) or cause.errno not in _NOT_WRITABLE:
            raise
        raise SpotScopeError(
            f"The image pyramid of '{path.name}' cannot be written to the cache folder"
            f" ({os.strerror(cause.errno).lower()}); make room or give rights there, or set"
            " SPOTSCOPE_CACHE to another folder."
        ) from error
