"""The layers of a section: slide, prediction, spots, error; found again by their metadata.

The world is in micrometres. Data stay in level-0 pixels (row, col) and are scaled, so that every
layer of a section lies in the same frame whatever its own grain is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spotscope import __version__
from spotscope.plugin import colours

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.layers import Image, Layer, Points
    from napari.types import LayerDataTuple
    from numpy.typing import NDArray

    from spotscope.data.runs import Run
    from spotscope.plugin.opened import OpenSection

KEY = "spotscope"
"""Under which a layer's metadata say whose layer it is."""

Role = Literal["slide", "prediction", "subtypes", "spots", "error", "annotations", "sketch"]
ORDER: tuple[Role, ...] = (
    "slide",
    "prediction",
    "subtypes",
    "spots",
    "error",
    "annotations",
    "sketch",
)
"""From below."""

VALUES: tuple[Role, ...] = ("prediction", "subtypes", "spots", "error")
"""Of which one is seen, as the view has it."""

SPOT_OPACITY = 0.75
MAP_OPACITY = 0.75
_OUTLINE = "#1f2a6b"


def metadata(opened: OpenSection, role: Role, **more: Any) -> dict[str, Any]:
    """Return what a layer of ours says of itself."""
    return {KEY: {"section": opened.key, "role": role, "version": __version__, **more}}


def described(layer: Layer) -> dict[str, Any]:
    """Return what a layer says of itself; empty when it is not ours."""
    return layer.metadata.get(KEY) or {}


def find(layers: Iterable[Layer], opened: OpenSection, role: Role) -> Layer | None:
    """Return the layer of a section that plays a role."""
    for layer in layers:
        about = described(layer)
        if about.get("section") == opened.key and about.get("role") == role:
            return layer
    return None


def section_layers(opened: OpenSection) -> list[LayerDataTuple]:
    """Return the slide and the spots, as a reader hands them to napari."""
    found = [slide_layer(opened)]
    if opened.section.has_spots:
        found.append(spots_layer(opened))
    return found


def slide_layer(opened: OpenSection) -> LayerDataTuple:
    """Return the slide as a multiscale picture of dask levels."""
    return (
        opened.section.slide.dask_levels,
        {
            **frame(opened),
            "name": f"{opened.name} slide",
            "metadata": metadata(opened, "slide", alone=not opened.section.has_spots),
            "rgb": True,
            "multiscale": True,
        },
        "image",
    )


def spots_layer(opened: OpenSection, role: Role = "spots") -> LayerDataTuple:
    """Return the spots without a gene yet: points, or a picture when they are very many."""
    name = f"{opened.name} spots" if role == "spots" else f"{opened.name} error"
    about = {"name": name, "metadata": metadata(opened, role), "opacity": SPOT_OPACITY}
    raster = opened.raster
    if raster is None:
        spots = {
            "size": opened.diameter_px,
            "face_color": neutral_faces(opened),
            "border_color": _OUTLINE,
            "border_width": 0.06,
            "features": {"barcode": opened.section.barcodes},
            "blending": "translucent_no_depth",
        }
        return opened.centres_px, {**frame(opened), **about, **spots}, "points"
    picture = picture_frame(opened, raster.origin_px, raster.step_px)
    blank = raster.image(np.zeros(opened.n_spots, np.float32))
    return blank, {**picture, **about, "contrast_limits": (0.0, 1.0)}, "image"


def prediction_layer(opened: OpenSection, run: Run) -> LayerDataTuple:
    """Return the map of a run's first gene, to be recoloured."""
    assert run.grid is not None
    outline = opened.outline(run.grid)
    return (
        outline.image(opened.predicted_map(run, run.genes[0])),
        {
            **picture_frame(opened, outline.origin_px, outline.step_px),
            "name": f"{opened.name} prediction",
            "metadata": metadata(opened, "prediction"),
            "opacity": MAP_OPACITY,
            "colormap": colours.EXPRESSION_MAP,
        },
        "image",
    )


def neutral_faces(opened: OpenSection) -> NDArray[np.float32]:
    """Return (n, 4) colours that let the tissue through: no gene is chosen yet."""
    return np.tile(np.array([1.0, 1.0, 1.0, 0.1], np.float32), (opened.n_spots, 1))


def recolour_spots(
    layer: Points | Image,
    opened: OpenSection,
    values: NDArray[np.float32],
    limits: tuple[float, float],
    colour_map: Any,
) -> None:
    """Show (n,) values on the spots, in place."""
    if opened.raster is None:
        _colour_points(layer, colours.rgba(values, limits, colour_map), np.round(values, 3))
        return
    _show_picture(layer, opened.raster.image(values), limits, colour_map)


def recolour_subtypes(layer: Points | Image, opened: OpenSection, palette: dict[str, str]) -> None:
    """Show the subtypes on the spots in the colours of `palette`, in place."""
    assert opened.subtypes is not None
    names, codes = opened.subtypes
    colour_classes(layer, opened, names, codes, palette, "none", colours.UNLABELLED)


def colour_classes(
    layer: Points | Image,
    opened: OpenSection,
    names: list[str],
    codes: NDArray[np.intp],
    palette: dict[str, str],
    without: str,
    without_rgba: tuple[float, float, float, float] | None = None,
) -> None:
    """Show classes on the spots, in place.

    Parameters
    ----------
    codes
        (n,) each spot's place among `names`, -1 for none.
    palette
        `#rrggbb` by name.
    without
        What spots of no class are called.
    without_rgba
        Their colour; None takes the grey of what is unsure.
    """
    from napari.utils import Colormap

    table = np.array(
        [colours.hex_to_rgba(palette[name]) for name in names]
        + [without_rgba or colours.hex_to_rgba(colours.UNKNOWN_COLOUR)]
    )
    if opened.raster is None:
        # -1, unlabelled, takes the last one.
        _colour_points(layer, table[codes].astype(np.float32), np.array([*names, without])[codes])
        return
    steps = Colormap(table, interpolation="zero", name="SpotScope subtypes")
    shown = np.where(codes < 0, len(names), codes).astype(np.float32)
    _show_picture(layer, opened.raster.image(shown), (-0.5, len(names) + 0.5), steps)


def show_prediction(
    layer: Image, opened: OpenSection, run: Run, gene: str, limits: tuple[float, float]
) -> None:
    """Show a run's map of a gene, in place."""
    assert run.grid is not None
    outline = opened.outline(run.grid)
    picture = outline.image(opened.predicted_map(run, gene))
    scale = (outline.step_px * opened.mpp_um,) * 2
    translate = tuple(value * opened.mpp_um for value in outline.origin_px)
    if not np.allclose(layer.scale, scale) or not np.allclose(layer.translate, translate):
        layer.scale, layer.translate = scale, translate
    _show_picture(layer, picture, limits, layer.colormap)


def _colour_points(layer: Points, rgba: NDArray[np.float32], values: NDArray) -> None:
    """Colour spots, and keep what napari tells of the one that the mouse points at."""
    if np.any(layer.border_width):
        layer.border_width = 0.0
    # Both the colours and the face colour tell the canvas to send all spots to the graphics card
    # again; once is enough, and it is most of the cost. A brush has coloured its spots already.
    if not np.array_equal(layer.face_color, rgba):
        with layer.events.face_color.blocker():
            layer.face_color = rgba
    layer.refresh(data_displayed=False, highlight=False, extent=False)  # the thumbnail alone
    layer.features["value"] = values


def _show_picture(
    layer: Image, picture: NDArray[np.float32], limits: tuple[float, float], colour_map: Any
) -> None:
    if layer.colormap.name != colour_map.name:
        layer.colormap = colour_map
    layer.data = picture
    low, high = layer.contrast_limits_range
    if limits[0] < low or limits[1] > high:
        layer.contrast_limits_range = (min(low, limits[0]), max(high, limits[1]))
    if tuple(layer.contrast_limits) != limits:
        layer.contrast_limits = limits


def frame(opened: OpenSection) -> dict[str, Any]:
    """Return the place of what is in level-0 pixels."""
    return {
        "scale": (opened.mpp_um, opened.mpp_um),
        "units": (opened.unit, opened.unit),
        "axis_labels": ("y", "x"),
    }


def picture_frame(
    opened: OpenSection, origin_px: tuple[float, float], step_px: float
) -> dict[str, Any]:
    """Return the place of a picture of our own, whose pixels are `step_px` wide."""
    return {
        **frame(opened),
        "scale": (step_px * opened.mpp_um,) * 2,
        "translate": tuple(value * opened.mpp_um for value in origin_px),
        "blending": "translucent",
        "interpolation2d": "nearest",
    }
