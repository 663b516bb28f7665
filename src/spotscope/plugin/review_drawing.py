"""Shows on the slide which place is looked at, and what is told under the mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from spotscope.plugin.layers import frame

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Shapes
    from numpy.typing import NDArray

    from spotscope.plugin.opened import OpenSection
    from spotscope.plugin.review_state import Target
    from spotscope.plugin.workspace import Workspace

NAME = "Place to review"
_SCREEN_PX = 2.0  # of the white line, whatever the zoom
_AROUND = 4.0  # times the place's own width across the view
_LEAST_PITCHES = 8.0  # across the view: a spot is seen with its neighbours
_HEIGHT = 600


class ReviewDrawing:
    """Draws the outline of the place that is looked at, and brings it to the middle.

    Parameters
    ----------
    viewer
        Where.
    workspace
        Whose review.
    """

    def __init__(self, viewer: ViewerModel, workspace: Workspace) -> None:
        self._viewer = ref(viewer)
        self._workspace = workspace
        self._shown: tuple[Any, ...] = ()
        self._pointed: str | None = None
        self.layer: Shapes | None = None
        workspace.changed.connect(self._on_changed)
        viewer.camera.events.zoom.connect(self._on_zoom)
        viewer.mouse_move_callbacks.append(self._on_mouse)
        viewer.events.status.connect(self._on_status)

    @property
    def viewer(self) -> Any:
        """The viewer."""
        return self._viewer()

    def _on_changed(self, what: frozenset[str]) -> None:
        if not what & {"review", "section"}:
            return
        section, review = self._workspace.section, self._workspace.review
        target = review.current
        wanted = (section, target)
        if wanted == self._shown:
            return
        elsewhere = bool(self._shown) and self._shown[0] is not section
        self._shown = wanted
        if section is None or target is None or elsewhere:
            self._clear()
        if section is None or target is None:
            return
        others = review.queue.targets if review.queue and target.kind == "suggested" else []
        self._draw(section, target, [one for one in others if one is not target])
        self._go(section, target)
        self._point(None)  # another place came under the mouse

    def _draw(self, section: OpenSection, target: Target, others: list[Target]) -> None:
        """Outline the place, white within black; other suggested spots get a thin ring."""
        rings = [ring for one in others for ring in one.outline]
        count = len(target.outline)
        data = [*rings, *target.outline, *target.outline]
        layer = self.layer
        if layer is None or layer not in self.viewer.layers:
            layer = self._add(section, data)
        else:  # taking a layer away takes napari a second
            layer.data = (data, ["polygon"] * len(data))
        layer.edge_color = ["#ffe08a"] * len(rings) + ["black"] * count + ["white"] * count
        self._widths = np.array([1.0] * len(rings) + [2.2] * count + [1.0] * count)
        self._on_zoom()

    def _add(self, section: OpenSection, data: list[NDArray[np.float64]]) -> Shapes:
        """Add the layer, and leave the choice of layer alone."""
        from napari.layers import Shapes

        layers = self.viewer.layers
        chosen = layers.selection.active
        self.layer = Shapes(
            data,
            shape_type="polygon",
            face_color="transparent",
            opacity=1.0,
            name=NAME,
            **frame(section),
        )
        self._widths = np.ones(len(data))
        self.viewer.add_layer(self.layer)
        self.layer.editable = False
        if chosen is not None:
            layers.selection.active = chosen
        return self.layer

    def _clear(self) -> None:
        if self.layer is not None and self.layer in self.viewer.layers:
            self.viewer.layers.remove(self.layer)
        self.layer = None

    def _go(self, section: OpenSection, target: Target) -> None:
        """Bring the place to the middle; the zoom changes only where it would not be seen well."""
        camera = self.viewer.camera
        camera.center = tuple(value * section.mpp_um for value in target.centre_px)
        height = self.viewer.canvas.size[0] if hasattr(self.viewer, "canvas") else _HEIGHT
        pitch = section.pitch_px if section.n_spots else 0.0
        across = max(_AROUND * target.extent_px, _LEAST_PITCHES * pitch) * section.mpp_um
        seen = height / camera.zoom
        if not across / 1.6 <= seen <= across * 2:
            camera.zoom = height / across

    def _on_zoom(self, event: Any = None) -> None:
        """Keep the lines as thick on the screen."""
        if self.layer is None:
            return
        thin = _SCREEN_PX / (self.viewer.camera.zoom * self.layer.scale[0])
        self.layer.edge_width = list(self._widths * thin)
        self.layer.refresh()  # or the canvas does not hear of it

    # -- what is told under the mouse

    def _on_mouse(self, viewer: Any, event: Any) -> None:
        if len(event.position) >= 2:
            row, col = event.position[-2:]
            self.point_at((row, col))

    def point_at(self, place: tuple[float, float]) -> None:
        """Tell what is told at a place (row, col) of the world, when that is something else."""
        section, said = self._workspace.section, None
        if section is not None and self._workspace.view == "predicted subtype":
            row, col = (value / section.mpp_um for value in place)
            told = self._workspace.subtypes.told()
            if told is not None:
                on_grid = told.on_grid
                cell = section.outline(on_grid.grid).cell_at((row, col)) if on_grid else None
                said = told.say_at(cell, section.spot_at((row, col)))
        self._point(said)

    def _point(self, said: str | None) -> None:
        if said != self._pointed:
            self._pointed = said
            self._workspace.subtypes.pointed.emit(said)

    def _on_status(self, event: Any) -> None:
        """Add class and probability to what napari says of the place in the status bar."""
        status = event.value
        if self._pointed is None or not isinstance(status, dict):
            return
        where = status.get("coordinates", "")
        if not where.startswith(self._pointed):
            self.viewer.status = {**status, "coordinates": f"{self._pointed} {where}"}
