"""OME-Zarr 0.4 and 0.5, and the images of SpatialData stores, which are OME-Zarr too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.errors import SpotScopeError
from spotscope.slide.colour import Colour
from spotscope.slide.fingerprint import of_levels
from spotscope.slide.formats import Opened
from spotscope.slide.levels import LevelArray, ZarrLevel
from spotscope.slide.mpp import MppSource, mpp_source, um_per

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr group or array."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs", ".zarray"))


def open_ome_zarr(path: Path) -> Opened:
    """Open an image pyramid: the group itself, or the largest picture inside it.

    Raises
    ------
    SpotScopeError
        When there is no image pyramid, or one that cannot be read.
    """
    import zarr

    try:
        group = zarr.open_group(path, mode="r")
    except Exception as error:
        raise _no_picture(path) from error
    found = _multiscales(group)
    if found is None:
        inside = [g for g in _pictures(group) if _multiscales(g) is not None]
        if not inside:
            raise _no_picture(path)
        group = max(inside, key=_extent)
        found = _multiscales(group)
    assert found is not None
    notes = [f"Of several pictures in '{path.name}', '{group.basename}' is shown."] * (
        group.path != "" and len(list(_pictures(zarr.open_group(path, mode="r")))) > 1
    )
    return _opened(path, group, found, notes)


def _opened(path: Path, group: Any, multiscale: dict[str, Any], notes: list[str]) -> Opened:
    try:
        arrays = [group[dataset["path"]] for dataset in multiscale["datasets"]]
    except KeyError as error:
        raise SpotScopeError(
            f"'{path.name}' lacks a level of its picture ({error.args[0]}); copy it again."
        ) from error
    axes = _axes(multiscale, arrays[0].ndim)
    size = dict(zip(axes, arrays[0].shape, strict=True))
    fixed = {"z": size.get("z", 1) // 2}
    notes += [
        f"'{path.name}' holds {size[axis]} planes along {axis}; plane {fixed.get(axis, 0) + 1} is"
        " shown."
        for axis in axes
        if axis not in "yxc" and size[axis] > 1
    ]
    sampler = ZarrLevel(arrays[-1], axes, lambda raw: raw, fixed)

    def sample() -> NDArray:
        rows, cols = sampler.shape[:2]
        return sampler.read_raw(0, min(rows, 2048), 0, min(cols, 2048))

    colour = Colour(
        path.name,
        size.get("c", 1),
        arrays[0].dtype,
        sample,
        alpha=_names_alpha(group),
        channel_names=_channel_names(group),
    )
    levels: list[LevelArray] = [ZarrLevel(array, axes, colour, fixed) for array in arrays]
    try:
        fingerprint = of_levels(levels)
    except (ValueError, RuntimeError, OSError) as error:
        raise SpotScopeError(
            f"'{path.name}' cannot be read ({error}); it may be damaged: copy it again."
        ) from error
    source = _source(multiscale, axes)
    return Opened(
        levels,
        fingerprint,
        sources=() if source is None else (source,),
        notes=(*notes, *colour.notes),
    )


def _ome(group: Any) -> dict[str, Any]:
    """Return the OME attributes, wherever the version keeps them."""
    attributes = dict(group.attrs)
    return attributes.get("ome", attributes)


def _multiscales(group: Any) -> dict[str, Any] | None:
    found = _ome(group).get("multiscales")
    if not found or not found[0].get("datasets"):
        return None
    # A label image is a pyramid as well, but no picture.
    return None if "image-label" in _ome(group) else found[0]


def _pictures(group: Any) -> list[Any]:
    """Return the groups in which pictures may lie: of SpatialData, or of a converted series."""
    import zarr

    place = group
    if "images" in group and isinstance(group["images"], zarr.Group):
        place = group["images"]
    return [child for _, child in sorted(place.groups()) if _multiscales(child) is not None]


def _extent(group: Any) -> tuple[int, int]:
    """Return how many pixels and levels a picture has, to choose the largest."""
    datasets = (_multiscales(group) or {})["datasets"]
    return int(np.prod(group[datasets[0]["path"]].shape)), len(datasets)


def _axes(multiscale: dict[str, Any], ndim: int) -> str:
    """Return one letter an axis; version 0.1 and 0.2 name none and mean t, c, z, y, x."""
    named = multiscale.get("axes")
    if not named:
        return "tczyx"[-ndim:]
    return "".join((axis if isinstance(axis, str) else axis["name"])[0] for axis in named)


def _channels(group: Any) -> list[dict[str, Any]]:
    return _ome(group).get("omero", {}).get("channels", [])


def _channel_names(group: Any) -> tuple[str, ...]:
    return tuple(str(channel.get("label", "")) for channel in _channels(group))


def _names_alpha(group: Any) -> bool:
    names = _channel_names(group)
    return bool(names) and names[-1].lower() in ("a", "alpha")


def _source(multiscale: dict[str, Any], axes: str) -> MppSource | None:
    """Return the scale of level 0 when its unit is a length."""
    named = multiscale.get("axes") or []
    scale = np.ones(len(axes))
    for holder in (multiscale["datasets"][0], multiscale):
        for transform in holder.get("coordinateTransformations", []):
            if transform.get("type") == "scale" and "scale" in transform:
                scale = scale * np.asarray(transform["scale"], float)
    lengths = []
    for axis in "yx":
        at = axes.index(axis)
        unit = um_per(named[at].get("unit")) if at < len(named) and named[at] != axis else None
        if unit is None:
            return None
        lengths.append(float(scale[at]) * unit)
    return mpp_source("OME-Zarr scale", *lengths)


def _no_picture(path: Path) -> SpotScopeError:
    return SpotScopeError(
        f"'{path.name}' holds no picture that can be read; SpotScope opens OME-Zarr images and"
        " SpatialData stores."
    )
