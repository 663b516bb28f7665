"""Keeps a viewer's layers as its workspace says; one workspace per viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from spotscope.plugin import colours
from spotscope.plugin.annotation_layers import AnnotationLayers
from spotscope.plugin.annotation_tools import Tools
from spotscope.plugin.layers import (
    ORDER,
    VALUES,
    Role,
    described,
    find,
    neutral_faces,
    prediction_layer,
    recolour_spots,
    recolour_subtypes,
    section_layers,
    show_prediction,
    spots_layer,
)
from spotscope.plugin.review_drawing import ReviewDrawing
from spotscope.plugin.subtype_layers import colour_told_spots, show_subtypes, subtype_layer
from spotscope.plugin.workspace import Workspace

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from napari.types import LayerDataTuple

    from spotscope.plugin.opened import OpenSection

# What is new without anything of the values being drawn anew.
_APART = {"annotations", "annotator", "annotation class", "tool", "selection"}

_TOLD = "predicted subtype"
_FADED = 0.4  # of a map's opacity while a place of it is looked at: the tissue tells

_drawings: WeakKeyDictionary[Any, Drawing] = WeakKeyDictionary()


def workspace_of(viewer: ViewerModel) -> Workspace:
    """Return the viewer's workspace, made at the first call."""
    return drawing_of(viewer).workspace


def drawing_of(viewer: ViewerModel) -> Drawing:
    """Return what keeps the viewer's layers, made at the first call."""
    # napari hands docks a proxy of the viewer; the viewer itself is what is shared.
    viewer = getattr(viewer, "__wrapped__", viewer)
    drawing = _drawings.get(viewer)
    if drawing is None:
        drawing = _drawings[viewer] = Drawing(viewer)
    return drawing


class Drawing:
    """Draws a workspace in a viewer, and takes in sections that the viewer opened by itself.

    Parameters
    ----------
    viewer
        A viewer or a viewer model without a window.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        from spotscope.plugin.keys import bind_keys

        self.workspace = Workspace()
        self._viewer = ref(viewer)
        self.annotations = AnnotationLayers(self)
        self.tools = Tools(self)
        self.review = ReviewDrawing(viewer, self.workspace)
        self._busy = False
        self._pointed: int | None = None
        self._fitted: tuple[Any, ...] = ()
        self.workspace.changed.connect(self._on_changed)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.canvas.events.size.connect(self._on_resized)
        viewer.mouse_move_callbacks.append(self._on_mouse)
        bind_keys(viewer, self)
        for layer in list(viewer.layers):
            self._adopt(layer)

    @property
    def viewer(self) -> ViewerModel:
        """The viewer."""
        viewer = self._viewer()
        assert viewer is not None, "the viewer is gone"
        return viewer

    def layer(self, role: Role) -> Layer | None:
        """Return the active section's layer of a role."""
        section = self.workspace.section
        return None if section is None else find(self.viewer.layers, section, role)

    def toggle_spots(self) -> None:
        """Hide or show the spots or the map of subtypes, for a look at the tissue beneath."""
        role: Role = "error" if self.workspace.view == "error" else "spots"
        told = self.workspace.subtypes.told() if self.workspace.view == _TOLD else None
        if told is not None and told.on_grid is not None:
            role = "subtypes"
        layer = self.layer(role)
        if layer is not None:
            layer.visible = not layer.visible

    # -- following the workspace ------------------------------------------------------------

    def _on_changed(self, what: frozenset[str]) -> None:
        self._busy = True
        try:
            if what & {"section", "sections"}:
                self._remove_closed()
                self._show_only_active()
            if self.workspace.section is not None:
                if what - _APART or ("annotations" in what and "subtype" in self.workspace.view):
                    self._draw(arrange=bool(what & {"section", "view", "run", "subtype runs"}))
                if "annotations" in what:
                    self.annotations.show_regions()
        finally:
            self._busy = False

    def _remove_closed(self) -> None:
        open_keys = {one.key for one in self.workspace.sections}
        for layer in list(self.viewer.layers):
            key = described(layer).get("section")
            if key is not None and key not in open_keys:
                self.viewer.layers.remove(layer)

    def _show_only_active(self) -> None:
        """Add what the active section lacks, hide the other sections, and fit the slide."""
        active = self.workspace.section
        if active is None:
            return
        for data in section_layers(active) if self.layer("slide") is None else []:
            self.add(data)
        for layer in self.viewer.layers:
            key = described(layer).get("section")
            if key is not None:
                layer.visible = key == active.key
        from spotscope.plugin.keys import bind_slide_keys

        slide = self.layer("slide")
        assert slide is not None
        bind_slide_keys(slide, self)
        # With the slide chosen, single keys mean ours and not those of napari's point tools.
        self.viewer.layers.selection.active = slide
        self.viewer.canvas.overlays["scale_bar"].visible = True
        self._fit(slide)

    def _fit(self, slide: Layer) -> None:
        self.viewer.reset_view(layers=[slide])
        self._fitted = self._camera()

    def _camera(self) -> tuple[Any, ...]:
        camera = self.viewer.scene.camera
        return (*camera.center, camera.zoom)

    def _draw(self, arrange: bool) -> None:
        active, run = self.workspace.section, self.workspace.run
        gene, view = self.workspace.gene, self.workspace.view
        assert active is not None
        limits = self.workspace.limits()
        shown: Role | None = "spots"
        on_map = view == "predicted" and run is not None and run.has_grid
        if view == "subtype":
            self._recolour_subtypes(active)
        elif view == _TOLD:
            shown = self._draw_told(active)
        elif gene is None or limits is None:
            self._clear_spots(active)
        elif view == "error":
            shown = "error"
            assert run is not None
            self._recolour("error", active.error(run, gene), limits, f"{gene} error")
        elif on_map:
            shown = "prediction"
            assert run is not None
            self._draw_map(gene, limits)
            if active.measures(gene):
                self._recolour("spots", active.measured(gene), limits, f"{gene} measured")
        else:
            values = active.predicted(run, gene) if view == "predicted" and run else None
            values = active.measured(gene) if values is None else values
            self._recolour("spots", values, limits, f"{gene} {view}")
        if arrange:
            for role in VALUES:
                layer = self.layer(role)
                if layer is not None:
                    layer.visible = role == shown

    def _recolour(self, role: Role, values: Any, limits: tuple[float, float], name: str) -> None:
        active = self.workspace.section
        assert active is not None
        layer = self.layer(role) or self.add(spots_layer(active, role))
        colour_map = colours.error_map() if role == "error" else colours.expression_map()
        recolour_spots(layer, active, values, limits, colour_map)
        self._describe(layer, f"{active.name} {name}")

    def _clear_spots(self, active: OpenSection) -> None:
        layer = self.layer("spots")
        if layer is not None and described(layer).get("gene") and active.raster is None:
            layer.face_color = neutral_faces(active)
            self._describe(layer, f"{active.name} spots")

    def _recolour_subtypes(self, active: OpenSection) -> None:
        layer = self.layer("spots") or self.add(spots_layer(active))
        assert active.subtypes is not None
        recolour_subtypes(layer, active, self.workspace.palette(active.subtypes[0]))
        self._describe(layer, f"{active.name} subtypes")

    def _draw_told(self, active: OpenSection) -> Role:
        """Draw the predicted subtypes, on a grid and on the spots; return what is to be seen."""
        told = self.workspace.subtypes.told()
        assert told is not None
        opacity = self.workspace.subtypes.settings.opacity
        if self.workspace.review.current is not None:
            opacity *= _FADED
        if told.on_spots is not None:
            spots = self.layer("spots") or self.add(spots_layer(active))
            colour_told_spots(spots, active, told)
            self._describe(spots, f"{active.name} predicted subtypes")
        if told.on_grid is None:
            return "spots"
        layer = self.layer("subtypes") or self.add(subtype_layer(active, told))
        show_subtypes(layer, active, told, opacity)
        trained = told.run.protocol == "trained on this section"
        self._describe(layer, f"{active.name} subtype map" + trained * " (trained on it)")
        return "subtypes"

    def _draw_map(self, gene: str, limits: tuple[float, float]) -> None:
        active, run = self.workspace.section, self.workspace.run
        assert active is not None
        assert run is not None
        layer = self.layer("prediction") or self.add(prediction_layer(active, run))
        show_prediction(layer, active, run, gene, limits)
        trained = run.protocol == "trained on this section"
        self._describe(layer, f"{active.name} {gene} predicted" + trained * " (trained on it)")

    def _describe(self, layer: Layer, name: str) -> None:
        if layer.name != name:
            layer.name = name
        about = described(layer)
        about["gene"] = self.workspace.gene
        about["run"] = self.workspace.run.id if self.workspace.run else None

    def add(self, data: LayerDataTuple) -> Layer:
        """Add a layer in its place among the section's, and leave the choice of layer alone."""
        from napari.layers import Layer

        layers = self.viewer.layers
        chosen = layers.selection.active
        layer = self.viewer.add_layer(Layer.create(*data))
        self._guard(layer)
        about = described(layer)
        above = [
            place
            for place, other in enumerate(layers)
            if described(other).get("section") == about["section"]
            and ORDER.index(described(other)["role"]) > ORDER.index(about["role"])
        ]
        if above:
            layers.move(layers.index(layer), min(above))
        if chosen is not None:
            layers.selection.active = chosen
        return layer

    def remove(self, layer: Layer) -> None:
        """Take a layer of ours away, and leave the choice of layer alone."""
        chosen = self.viewer.layers.selection.active
        self.viewer.layers.remove(layer)
        if chosen is not None and chosen is not layer:
            self.viewer.layers.selection.active = chosen

    def _guard(self, layer: Layer) -> None:
        """Keep spots where they were measured: napari's point tools would move them."""
        from spotscope.plugin.keys import bind_layer_keys

        if hasattr(layer, "face_color"):
            layer.editable = False
            bind_layer_keys(layer, self)

    # -- following the viewer ---------------------------------------------------------------

    def _on_inserted(self, event: Any) -> None:
        if not self._busy:
            self._adopt(event.value)

    def _on_resized(self, event: Any = None) -> None:
        """Fit the slide again when docks take or give room, until the user has moved it."""
        slide = self.layer("slide")
        if slide is not None and self._camera() == self._fitted:
            self._fit(slide)

    def _on_mouse(self, viewer: Any, event: Any) -> None:
        """Tell over which spot the mouse is, when that is another one."""
        section = self.workspace.section
        if section is None or len(event.position) < 2:
            return
        row, col = (value / section.mpp_um for value in event.position[-2:])
        spot = section.spot_at((row, col))
        if spot != self._pointed:
            self._pointed = spot
            self.workspace.pointed.emit(spot)

    def _on_removed(self, event: Any) -> None:
        """Close a section whose slide was taken away by hand."""
        about = described(event.value)
        if self._busy or about.get("role") != "slide":
            return
        closed = self.workspace.find(about["section"])
        if closed is not None:
            self.workspace.remove(closed)

    def _adopt(self, layer: Layer) -> None:
        """Take in a section that napari opened with our reader, once all its layers are there."""
        from spotscope.plugin.reader import taken_from_reader

        about = described(layer)
        last = about.get("role") == "spots" or (about.get("role") == "slide" and about["alone"])
        if not last or self.workspace.find(about["section"]):
            return
        opened = taken_from_reader(about["section"])
        self._guard(layer)
        self.workspace.add(opened)
