"""What the mouse does on the slide while a tool of Annotate is on.

The left button draws; the wheel zooms and the middle and right buttons, or the left one with the
space bar held, move the slide as ever. No Qt: a viewer model without a window does as well.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.errors import SpotScopeError
from spotscope.plugin.annotating import stroke
from spotscope.plugin.annotation_layers import DARK, LIGHT, circle, circles
from spotscope.plugin.annotation_strokes import between, draw_area, swept

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from numpy.typing import NDArray

    from spotscope.plugin.annotating import Annotating
    from spotscope.plugin.annotation_layers import Strokes
    from spotscope.plugin.drawing import Drawing
    from spotscope.plugin.opened import OpenSection

_STEP_SCREEN_PX = 2.0
_CLOSE_SCREEN_PX = 9.0
_CLICK_SCREEN_PX = 4.0
_PIECE_S = 0.7
"""How long a stroke waits at most before what it has painted is put on disk."""

ERASE_KEY = "Shift"
"""Held while a tool is used, it erases."""


class Tools:
    """Follows the mouse for the tool that the workspace has chosen.

    Parameters
    ----------
    drawing
        Of which viewer and workspace.
    """

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._corners: list[NDArray[np.float64]] = []
        self._armed = False
        self._held = False
        self._zooming: list[Any] = []
        self._keys_before: dict[str, Any] = {}
        viewer = drawing.viewer
        viewer.mouse_drag_callbacks.append(self._on_drag)
        viewer.mouse_move_callbacks.append(self._on_move)
        viewer.layers.selection.events.active.connect(self._hold_camera)
        drawing.workspace.changed.connect(self._on_changed)

    @property
    def _annotating(self) -> Annotating:
        return self._drawing.workspace.annotating

    @property
    def _section(self) -> OpenSection:
        section = self._drawing.workspace.section
        assert section is not None
        return section

    # -- on and off -------------------------------------------------------------------------

    def _on_changed(self, what: frozenset[str]) -> None:
        wanted = self._annotating.tool is not None and self._drawing.workspace.section is not None
        if what & {"tool", "section"}:
            self._corners = []
            if wanted != self._armed:
                self._arm(wanted)
            self._hold_camera()
            self._drawing.annotations.remove_sketch()
        if "selection" in what and self._drawing.workspace.section is not None:
            self._show_selected()

    def _arm(self, on: bool) -> None:
        from app_model.types import KeyBinding

        viewer = self._drawing.viewer
        self._armed, self._held = on, False
        if on:
            self._zooming = [
                one
                for one in viewer.mouse_double_click_callbacks
                if getattr(one, "__name__", "") == "double_click_to_zoom"
            ]
            for one in self._zooming:
                viewer.mouse_double_click_callbacks.remove(one)
            viewer.mouse_double_click_callbacks.append(self._on_double_click)
        else:
            viewer.mouse_double_click_callbacks.remove(self._on_double_click)
            viewer.mouse_double_click_callbacks.extend(self._zooming)
        actions: dict[str, Any] = {
            "Space": self._on_space,
            "Enter": lambda _: self._try(self._close_polygon),
            "Escape": lambda _: self.leave(),
            "Backspace": lambda _: self._drop_corner(),
        }
        for key, action in actions.items():
            if on:
                self._keys_before[key] = viewer.keymap.get(KeyBinding.from_str(key))
                viewer.bind_key(key, action, overwrite=True)
            else:
                viewer.bind_key(key, self._keys_before.get(key), overwrite=True)

    def leave(self) -> None:
        """Give up what is half drawn, or else the selection, or else the tool."""
        if self._corners:
            self._corners = []
            self._drawing.annotations.sketch([])
        elif len(self._annotating.selected):
            self._annotating.select(())
        else:
            self._annotating.choose_tool(None)

    def _hold_camera(self, event: Any = None) -> None:
        """Keep the left button from moving the slide, also when another layer is chosen."""
        viewer = self._drawing.viewer
        pans = not self._armed or self._held
        viewer.scene.camera.mouse_pan = pans
        brushes = not pans and self._annotating.tool in ("brush", "erase")
        if brushes:
            # The canvas draws the ring itself, which costs a frame nothing: lines of a layer
            # that move make a new shader each time.
            viewer.cursor.size = self._annotating.brush_um
            # The box behind an overlay's text: this one has none, and its square would stay.
            viewer.canvas.overlays["_brush_circle"].box = False
        viewer.cursor.style = "standard" if pans else "circle" if brushes else "cross"

    def _on_space(self, viewer: Any) -> Iterator[None]:
        self._held = True
        self._hold_camera()
        yield
        self._held = False
        self._hold_camera()

    # -- the mouse --------------------------------------------------------------------------

    def _on_drag(self, viewer: Any, event: Any) -> Iterator[None]:
        tool = self._annotating.tool
        if not self._armed or tool is None or self._held:
            return
        if event.button != 1:
            yield from self._pan(event)
            return
        erases = ERASE_KEY in event.modifiers or tool == "erase"
        try:
            if tool == "lasso":
                yield from self._lasso(event, erases)
            elif tool in ("brush", "erase"):
                with self._drawing.annotations.quick():
                    yield from self._brush(event, erases)
            else:
                place = self._place(event)
                if (yield from self._clicked(event)):
                    self._click(place, erases)
        except SpotScopeError as error:
            self._drawing.annotations.sketch([])
            self._annotating.complained.emit(str(error))

    def _on_move(self, viewer: Any, event: Any) -> None:
        """Show beneath the mouse what the tool would do."""
        tool = self._annotating.tool
        if not self._armed or len(event.position) < 2 or self._held:
            return
        place = self._place(event)
        erases = ERASE_KEY in event.modifiers or tool == "erase"
        if tool == "polygon" and self._corners:
            self._show_corners(place)
        elif tool == "click":
            spot = self._section.spot_at(place)
            self._ring([] if spot is None else [spot], erases)
        elif tool == "grow":
            spot = self._section.spot_at(place)
            known = None if spot is None else self._annotating.growing.known(spot)
            self._ring([] if known is None else known, erases)

    def _on_double_click(self, viewer: Any, event: Any) -> None:
        if self._annotating.tool == "polygon":
            self._try(self._close_polygon)

    def _pan(self, event: Any) -> Iterator[None]:
        camera = self._drawing.viewer.scene.camera
        before = np.array(event.pos, float)
        yield
        while event.type == "mouse_move":
            now = np.array(event.pos, float)
            step = (now - before)[::-1] / camera.zoom
            *rest, row, col = camera.center
            camera.center = (*rest, row - step[0], col - step[1])
            before = now
            yield

    def _clicked(self, event: Any) -> Generator[None, None, bool]:
        """Wait for the button to be let go; return whether the mouse stayed where it was."""
        start = np.array(event.pos, float)
        stayed = True
        yield
        while event.type == "mouse_move":
            stayed &= bool(np.abs(np.array(event.pos) - start).max() <= _CLICK_SCREEN_PX)
            yield
        return stayed

    # -- lasso ------------------------------------------------------------------------------

    def _lasso(self, event: Any, erases: bool) -> Iterator[None]:
        self._annotating.select(())
        path = [np.array(self._place(event))]
        least = _STEP_SCREEN_PX * self._px_per_screen_px
        colour = self._colour(erases)
        yield
        while event.type == "mouse_move":
            place = np.array(self._place(event))
            if np.abs(place - path[-1]).max() >= least:
                path.append(place)
                line = np.array([*path, path[0]])
                self._drawing.annotations.sketch([([line], colour or DARK)])
            yield
        self._drawing.annotations.sketch([])
        if len(path) >= 3:
            self._enclose(np.array(path), erases)

    def _enclose(self, ring_px: NDArray[np.float64], erases: bool) -> None:
        """Do what lasso and polygon are for, once they are closed."""
        import shapely

        annotating = self._annotating
        # Half a pixel of the screen is not seen, but it halves the corners of a quick hand.
        line = shapely.LineString(np.vstack([ring_px, ring_px[:1]]))
        simple = shapely.get_coordinates(line.simplify(0.5 * self._px_per_screen_px))[:-1]
        ring_px = simple if len(simple) >= 3 else ring_px
        if erases:
            annotating.erase_inside(ring_px)
        elif annotating.classes.chosen is None and self._section.n_spots:
            annotating.select(annotating.spots_in(ring_px))
        else:
            annotating.draw(ring_px)

    # -- polygon ----------------------------------------------------------------------------

    def _add_corner(self, place: tuple[float, float], erases: bool) -> None:
        corner = np.array(place)
        near = _CLOSE_SCREEN_PX * self._px_per_screen_px
        if len(self._corners) >= 3 and np.hypot(*(corner - self._corners[0])) <= near:
            self._close_polygon(erases)
            return
        self._corners.append(corner)
        self._show_corners(place)

    def _close_polygon(self, erases: bool = False) -> None:
        corners, self._corners = self._corners, []
        self._drawing.annotations.sketch([])
        if len(corners) >= 3:
            self._enclose(np.array(corners), erases)

    def _drop_corner(self) -> None:
        if self._corners:
            self._corners.pop()
            line = np.array(self._corners)
            self._drawing.annotations.sketch([([line], self._colour(False) or DARK)])

    def _show_corners(self, place: tuple[float, float]) -> None:
        start = tuple(self._corners[0])
        first = circle(0.5 * _CLOSE_SCREEN_PX * self._px_per_screen_px, start)
        lines = [np.array([*self._corners, place]), first]
        self._drawing.annotations.sketch([(lines, self._colour(False) or DARK)])

    # -- brush and eraser -------------------------------------------------------------------

    def _brush(self, event: Any, erases: bool) -> Iterator[None]:
        """Paint spots as the mouse passes; what is painted goes to disk piece by piece."""
        annotating, section = self._annotating, self._section
        if not erases:
            annotating.classes.name_for_edit(None)
        annotating.check_writable()
        group, colour = stroke(), self._colour(erases)
        radius = self._radius_px
        seen = np.zeros(section.n_spots, bool)
        paints = not section.n_spots and not erases  # an area, where there are no spots
        waiting: list[NDArray[np.intp]] = []
        path = [self._place(event)]
        written = time.monotonic()
        while True:
            place = self._place(event)
            found = section.spots_near(between(path[-1], place, radius), radius)
            found = found[~seen[found]]
            path.append(place)
            if paints:
                rings = [np.asarray(swept(path, radius).exterior.coords)[:, ::-1]]
                self._drawing.annotations.sketch([(rings, colour or DARK)])
            if len(found):
                seen[found] = True
                waiting.append(found)
                self._drawing.annotations.paint(found, None if erases else colour)
            if time.monotonic() - written > _PIECE_S:
                self._write(waiting, erases, group)
                if paints:
                    draw_area(annotating, swept(path, radius), group)
                written = time.monotonic()
            yield
            if event.type != "mouse_move":
                break
        self._write(waiting, erases, group)
        if erases:
            annotating.erase((), swept(path, radius), group=group)
        elif paints:
            self._drawing.annotations.sketch([])
            draw_area(annotating, swept(path, radius), group)

    def _write(self, waiting: list[NDArray[np.intp]], erases: bool, group: str) -> None:
        if not waiting:
            return
        spots = np.concatenate(waiting)
        waiting.clear()
        if erases:
            self._annotating.erase(spots, group=group)
        else:
            self._annotating.mark(spots, group=group)

    # -- single spots and clusters ----------------------------------------------------------

    def _click(self, place: tuple[float, float], erases: bool) -> None:
        annotating = self._annotating
        if annotating.tool == "polygon":
            self._add_corner(place, erases)
            return
        spot = self._section.spot_at(place)
        if spot is None:
            return
        spots = np.array([spot]) if annotating.tool == "click" else annotating.growing.spots(spot)
        if erases:
            annotating.erase(spots)
        elif annotating.classes.chosen is None:
            annotating.select(spots)
        else:
            annotating.mark(spots)

    # -- helpers ----------------------------------------------------------------------------

    def _ring(self, spots: Any, erases: bool) -> None:
        """Show which spots a click would take; else those that are selected."""
        self._drawing.annotations.sketch(
            self._rings(spots, self._colour(erases) or DARK) or self._rings_selected()
        )

    def _show_selected(self) -> None:
        self._drawing.annotations.sketch(self._rings_selected())

    def _rings_selected(self) -> Strokes:
        return self._rings(self._annotating.selected, DARK)

    def _rings(self, spots: Any, colour: str) -> Strokes:
        section = self._section
        centres = section.centres_px[np.asarray(spots, np.intp)]
        radius, beside = 0.5 * section.diameter_px, 2 * self._px_per_screen_px
        if not len(centres):
            return []
        return [(circles(centres, radius + beside), LIGHT), (circles(centres, radius), colour)]

    def _colour(self, erases: bool) -> str | None:
        """Return the colour of the class that is given; None when something else is done."""
        chosen = self._annotating.classes.chosen
        if erases or chosen is None:
            return None
        return self._drawing.workspace.palette(
            [one.name for one in self._annotating.classes.listed]
        ).get(chosen)

    @property
    def _radius_px(self) -> float:
        return self._annotating.brush_um / self._section.mpp_um / 2

    @property
    def _px_per_screen_px(self) -> float:
        return 1 / (self._drawing.viewer.scene.camera.zoom * self._section.mpp_um)

    def _place(self, event: Any) -> tuple[float, float]:
        row, col = event.position[-2:]
        return float(row) / self._section.mpp_um, float(col) / self._section.mpp_um

    def _try(self, act: Any) -> None:
        try:
            act()
        except SpotScopeError as error:
            self._annotating.complained.emit(str(error))
