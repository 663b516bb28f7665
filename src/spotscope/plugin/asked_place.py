"""The square that shows which tissue a question was about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari.layers import Shapes

    from spotscope.plugin.opened import OpenSection

NAME = "Asked place"
_SCREEN_PX = 2.0  # of the white line, whatever the zoom


class AskedPlace:
    """Draws one square in true size on a viewer; there is never more than one.

    Parameters
    ----------
    viewer
        Where.
    """

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self.layer: Shapes | None = None
        viewer.camera.events.zoom.connect(self._on_zoom)

    def show(self, opened: OpenSection, centre_px: tuple[float, float], side_um: float) -> None:
        """Draw the square on a section, instead of where it was."""
        from napari.layers import Shapes

        self.clear()
        half = side_um / opened.mpp_um / 2
        corner = np.array([[-half, -half], [-half, half], [half, half], [half, -half]])
        square = corner + np.asarray(centre_px)
        layers = self.viewer.layers
        chosen = layers.selection.active
        self.layer = Shapes(
            [square, square],
            shape_type="rectangle",
            face_color="transparent",
            edge_color=["black", "white"],
            opacity=1.0,
            name=NAME,
            scale=(opened.mpp_um, opened.mpp_um),
            units=(opened.unit, opened.unit),
            axis_labels=("y", "x"),
        )
        self._on_zoom()
        self.viewer.add_layer(self.layer)
        self.layer.editable = False
        if chosen is not None:
            layers.selection.active = chosen

    def clear(self) -> None:
        """Take the square away."""
        if self.layer is not None and self.layer in self.viewer.layers:
            self.viewer.layers.remove(self.layer)
        self.layer = None

    def _on_zoom(self, event: Any = None) -> None:
        """Keep the line as thick on the screen: white within black is seen on any tissue."""
        if self.layer is None:
            return
        thin = _SCREEN_PX / (self.viewer.camera.zoom * self.layer.scale[0])
        self.layer.edge_width = [2.2 * thin, thin]
        self.layer.refresh()  # or the canvas does not hear of it
