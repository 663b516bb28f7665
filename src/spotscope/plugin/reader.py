"""napari's door to section stores and slides; light, and quick to say that a file is not ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.types import LayerDataTuple

    from spotscope.plugin.opened import OpenSection

SCANNER_ENDINGS = (
    ".svs",
    ".ndpi",
    ".mrxs",
    ".scn",
    ".bif",
    ".vms",
    ".vmu",
    ".svslide",
)
PICTURE_ENDINGS = (".tif", ".tiff", ".jpg", ".jpeg", ".png")

SLIDE_FROM_PX = 4_000
"""Flat pictures with a shorter longest side are left to napari's own reader."""

_read: dict[str, OpenSection] = {}


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerDataTuple]] | None:
    """Return a reader for a section store or a slide, or None when the file is not ours."""
    if not isinstance(path, str):
        return None
    place = Path(path)
    ending = place.suffix.lower()
    ours = (
        (ending == ".zarr" and _is_section_store(place))
        or (ending in SCANNER_ENDINGS and place.is_file())
        or (ending in PICTURE_ENDINGS and _is_large_rgb(place))
    )
    return _read_section if ours else None


def taken_from_reader(key: str) -> OpenSection:
    """Return the section behind a layer that our reader made, opened again when need be."""
    opened = _read.pop(key, None)
    return opened if opened is not None else load(key)


def load(path: str | Path) -> OpenSection:
    """Open a section store or a slide, with all that is slow about drawing it done."""
    from spotscope.data.store import open_section
    from spotscope.plugin.opened import OpenSection

    return OpenSection(open_section(path)).prepare()


def _read_section(path: Any) -> list[LayerDataTuple]:
    from spotscope.plugin.layers import section_layers

    opened = load(path)
    _read[opened.key] = opened
    return section_layers(opened)


def _is_section_store(folder: Path) -> bool:
    """Whether a zarr is a section or a SpatialData store, by its root's attributes alone."""
    for name, key in (("zarr.json", "attributes"), (".zattrs", None)):
        try:
            said = json.loads((folder / name).read_bytes())
        except (OSError, ValueError):
            continue
        attributes = said.get(key, {}) if key and isinstance(said, dict) else said
        if isinstance(attributes, dict) and {"spotscope", "spatialdata_attrs"} & set(attributes):
            return True
    return False


def _is_large_rgb(path: Path) -> bool:
    """Whether a picture is a colour image as large as a slide, by its header alone."""
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as picture:
            return max(picture.size) >= SLIDE_FROM_PX and picture.mode in ("RGB", "YCbCr", "CMYK")
    except OSError:
        return False
    finally:
        Image.MAX_IMAGE_PIXELS = limit
