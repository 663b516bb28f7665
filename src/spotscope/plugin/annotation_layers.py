"""Annotations on the slide: outlines in the classes' colours, and the sketch beneath the mouse.

Both are layers of line segments, which draw holes right and change without being triangulated:
a thousand regions or a moving brush cost a few milliseconds.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.plugin import colours
from spotscope.plugin.layers import Role, described, frame, metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from napari.layers import Layer, Vectors
    from napari.types import LayerDataTuple
    from numpy.typing import NDArray

    from spotscope.annotate.regions import Region
    from spotscope.plugin.drawing import Drawing
    from spotscope.plugin.opened import OpenSection

DARK, LIGHT = "#1a1a1a", "#ffffff"
"""Of what is drawn without a class: side by side, they are seen on tissue and on glass."""

Strokes = list[tuple[list["NDArray[np.float64]"], str]]
"""Lines of (n, 2) row, col, and their colour."""

_OUTLINE_SCREEN_PX = 2.6
_SKETCH_SCREEN_PX = 2.0
_CIRCLE = np.stack([f(np.linspace(0, 2 * np.pi, 49)) for f in (np.sin, np.cos)], 1)
_RING = _CIRCLE[::4]
_MOST_RINGS = 6_000


def segments(lines: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return (n, 2, 2) starts and steps of lines of (m, 2) points."""
    found = [np.stack([line[:-1], np.diff(line, axis=0)], 1) for line in lines if len(line) > 1]
    return np.concatenate(found) if found else np.empty((0, 2, 2))


def circles(centres_px: NDArray[np.float64], radius_px: float) -> list[NDArray[np.float64]]:
    """Return rings around spots; of very many spots none."""
    if len(centres_px) > _MOST_RINGS:
        return []
    return [centre + radius_px * _RING for centre in centres_px]


def circle(radius_px: float, centre_px: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.float64]:
    """Return a ring."""
    return np.asarray(centre_px) + radius_px * _CIRCLE


def lines_layer(opened: OpenSection, role: Role, name: str) -> LayerDataTuple:
    """Return an empty layer of lines."""
    return (
        np.zeros((0, 2, 2)),
        {
            **frame(opened),
            "name": name,
            "metadata": metadata(opened, role),
            "vector_style": "line",
            "edge_color": DARK,
            "opacity": 1.0,
            "blending": "translucent_no_depth",
        },
        "vectors",
    )


class AnnotationLayers:
    """Draws the annotations of the active section, and what a tool is about to do.

    Parameters
    ----------
    drawing
        Where.
    """

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._outlined: dict[str, tuple[Region, NDArray[np.float64]]] = {}
        drawing.viewer.scene.camera.events.zoom.connect(self._on_zoom)

    # -- regions ----------------------------------------------------------------------------

    def show_regions(self) -> None:
        """Draw the outlines as the annotations have them now."""
        workspace = self._drawing.workspace
        opened, annotating = workspace.section, workspace.annotating
        if opened is None or not annotating.is_open:
            return
        regions = workspace.annotations.regions if workspace.annotations is not None else []
        layer = self._drawing.layer("annotations")
        if layer is None and not regions:
            return
        layer = layer or self._add("annotations", f"{opened.name} regions")
        palette = workspace.palette(list(dict.fromkeys(r.subtype for r in regions if r.subtype)))
        self._outlined = {
            region.id: known
            if (known := self._outlined.get(region.id)) is not None and known[0] is region
            else (region, segments(region.rings()))
            for region in regions
        }
        parts = [lines for _, lines in self._outlined.values()]
        rgba = np.repeat(
            [
                colours.hex_to_rgba(palette.get(region.subtype or "", colours.UNKNOWN_COLOUR))
                for region in regions
            ]
            or np.zeros((0, 4)),
            [len(part) for part in parts],
            axis=0,
        )
        _set_lines(layer, np.concatenate(parts) if parts else np.empty((0, 2, 2)), rgba)

    # -- sketch -----------------------------------------------------------------------------

    def sketch(self, strokes: Strokes) -> None:
        """Draw lines that follow the mouse, instead of the last ones."""
        opened = self._drawing.workspace.section
        layer = self._drawing.layer("sketch")
        if opened is None or (layer is None and not strokes):
            return
        layer = layer or self._add("sketch", f"{opened.name} tool")
        parts = [segments(lines) for lines, _ in strokes]
        rgba = [colours.hex_to_rgba(colour) for _, colour in strokes]
        _set_lines(
            layer,
            np.concatenate(parts) if parts else np.empty((0, 2, 2)),
            np.repeat(np.reshape(rgba, (-1, 4)), [len(part) for part in parts], axis=0),
        )

    def remove_sketch(self) -> None:
        """Take the sketch's layer away, on whichever section it is."""
        for layer in list(self._drawing.viewer.layers):
            if described(layer).get("role") == "sketch":
                self._drawing.remove(layer)

    # -- spots ------------------------------------------------------------------------------

    def paint(self, spots: NDArray[np.intp], colour: str | None) -> None:
        """Show a class on some spots before it is written, and leave the others alone."""
        workspace, layer = self._drawing.workspace, self._drawing.layer("spots")
        opened = workspace.section
        if opened is None or layer is None or workspace.view != "subtype" or not len(spots):
            return
        rgba = colours.hex_to_rgba(colour) if colour else colours.UNLABELLED
        if opened.raster is None:
            shown = layer.face_color
            shown[spots] = rgba
            layer.events.face_color()
            return
        assert opened.subtypes is not None
        names, codes = opened.subtypes
        palette = workspace.palette(names)
        code = next((i for i, name in enumerate(names) if palette[name] == colour), len(names))
        codes = np.where(codes < 0, len(names), codes).astype(np.float32)
        codes[spots] = code
        opened.raster.repaint(layer.data, codes, opened.centres_px[spots])
        layer.refresh(thumbnail=False, highlight=False, extent=False)

    @contextmanager
    def quick(self) -> Iterator[None]:
        """Draw the spots with plain edges for a while: smooth ones are half of a frame's cost."""
        layer = self._drawing.layer("spots")
        smooth = getattr(layer, "antialiasing", None)
        if layer is None or smooth is None:
            yield
            return
        layer.antialiasing = 0
        try:
            yield
        finally:
            layer.antialiasing = smooth

    # -- inside -----------------------------------------------------------------------------

    def _add(self, role: Role, name: str) -> Layer:
        opened = self._drawing.workspace.section
        assert opened is not None
        layer = self._drawing.add(lines_layer(opened, role, name))
        layer.editable = False
        self._thin(layer, role)
        return layer

    def _on_zoom(self, event: Any = None) -> None:
        for role in ("annotations", "sketch"):
            layer = self._drawing.layer(role)
            if layer is not None:
                self._thin(layer, role)

    def _thin(self, layer: Vectors, role: str) -> None:
        """Keep lines as thick on the screen, whatever the zoom."""
        wide = _SKETCH_SCREEN_PX if role == "sketch" else _OUTLINE_SCREEN_PX
        width = wide / (self._drawing.viewer.scene.camera.zoom * layer.scale[-1])
        if not np.isclose(width, layer.edge_width, rtol=0.02):
            layer.edge_width = width


def _set_lines(layer: Vectors, lines: NDArray[np.float64], rgba: NDArray[Any]) -> None:
    """Change lines and colours at once; the canvas hears of it once."""
    if not len(lines) and not len(layer.data):
        return
    with layer.events.blocker_all():
        layer.data = lines
        if len(lines):
            layer.edge_color = rgba
    layer.refresh(thumbnail=False, highlight=False)
