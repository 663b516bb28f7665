"""Predicted subtypes on the slide: a picture of labels over the tissue, and the spots' colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.annotate.learnt import UNSURE
from spotscope.plugin import colours
from spotscope.plugin.layers import colour_classes, metadata, picture_frame

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Points
    from napari.types import LayerDataTuple

    from spotscope.plugin.opened import OpenSection
    from spotscope.plugin.subtype_state import Told


def subtype_layer(opened: OpenSection, told: Told) -> LayerDataTuple:
    """Return the map of a run on a grid, as labels; 0 is off tissue."""
    assert told.on_grid is not None
    outline = opened.outline(told.on_grid.grid)
    about = picture_frame(opened, outline.origin_px, outline.step_px)
    about.pop("interpolation2d")  # labels are never blended
    return (
        outline.labels(told.on_grid.labels()),
        {
            **about,
            "name": f"{opened.name} subtype map",
            "metadata": metadata(opened, "subtypes"),
            "colormap": _label_colours(told),
            "features": _names(told),
        },
        "labels",
    )


def show_subtypes(layer: Labels, opened: OpenSection, told: Told, opacity: float) -> None:
    """Show a run's map on its layer, in place."""
    assert told.on_grid is not None
    outline = opened.outline(told.on_grid.grid)
    scale = (outline.step_px * opened.mpp_um,) * 2
    translate = tuple(value * opened.mpp_um for value in outline.origin_px)
    if not np.allclose(layer.scale, scale) or not np.allclose(layer.translate, translate):
        layer.scale, layer.translate = scale, translate
    wanted = _label_colours(told)
    if not _same_colours(layer.colormap, wanted):
        layer.colormap = wanted
    if list(layer.features.get("subtype", ())) != list(_names(told)["subtype"]):
        layer.features = _names(told)
    picture = outline.labels(told.on_grid.labels())
    if layer.data.shape != picture.shape or not np.array_equal(layer.data, picture):
        layer.data = picture
    layer.opacity = opacity


def colour_told_spots(layer: Points | Image, opened: OpenSection, told: Told) -> None:
    """Show on the spots what is told there, in place."""
    assert told.on_spots is not None
    colour_classes(layer, opened, told.classes, told.on_spots.codes, told.palette, without=UNSURE)


def _label_colours(told: Told) -> Any:
    from napari.utils.colormaps import DirectLabelColormap

    table: dict[int | None, Any] = {None: (0.0, 0.0, 0.0, 0.0), 0: (0.0, 0.0, 0.0, 0.0)}
    for place, name in enumerate(told.classes):
        table[place + 1] = colours.hex_to_rgba(told.palette[name])
    table[len(told.classes) + 1] = colours.hex_to_rgba(colours.UNKNOWN_COLOUR)
    return DirectLabelColormap(color_dict=table)


def _same_colours(one: Any, other: Any) -> bool:
    had, wanted = getattr(one, "color_dict", {}), other.color_dict
    return had.keys() == wanted.keys() and all(
        np.allclose(had[key], wanted[key]) for key in wanted
    )


def _names(told: Told) -> dict[str, list[Any]]:
    """Return what napari says of each label when the layer is chosen."""
    names = ["off tissue", *told.classes, UNSURE]
    return {"index": list(range(len(names))), "subtype": names}
