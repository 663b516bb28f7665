"""Single keys for what is done all the time; none that napari's viewer has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Layer

    from spotscope.plugin.drawing import Drawing
    from spotscope.plugin.workspace import View

VIEW_KEYS: dict[str, View] = {"M": "measured", "P": "predicted", "E": "error"}
SEARCH_KEY = "G"
SPOTS_KEY = "S"


def bind_keys(viewer: ViewerModel, drawing: Drawing) -> None:
    """Bind the keys to a viewer."""
    for key, action in _actions(drawing).items():
        viewer.bind_key(key, action, overwrite=True)


def bind_layer_keys(layer: Layer, drawing: Drawing) -> None:
    """Bind the keys to a layer of ours whose own tools, switched off, would swallow them."""
    for key, action in _actions(drawing).items():
        layer.bind_key(key, action, overwrite=True)


def _actions(drawing: Drawing) -> dict[str, Callable[[object], None]]:
    actions = {key: _show(drawing, view) for key, view in VIEW_KEYS.items()}
    actions[SPOTS_KEY] = lambda _: drawing.toggle_spots()
    actions[SEARCH_KEY] = lambda _: drawing.workspace.search_asked.emit()
    return actions


def _show(drawing: Drawing, view: View) -> Callable[[object], None]:
    def show(_: object) -> None:
        try:
            drawing.workspace.show(view)
        except SpotScopeError as error:
            from napari.utils.notifications import show_info

            show_info(str(error))

    return show
