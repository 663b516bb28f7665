"""Single keys for what is done all the time; none that napari's viewer has."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Layer

    from spotscope.plugin.annotating import Annotating
    from spotscope.plugin.drawing import Drawing
    from spotscope.plugin.workspace import View

VIEW_KEYS: dict[str, View] = {"M": "measured", "P": "predicted", "E": "error"}
SEARCH_KEY = "G"
SPOTS_KEY = "S"
UNCERTAIN_KEY, DISAGREEMENT_KEY, ACCEPT_KEY = "N", "D", "A"
BRUSH_STEP = 1.25
"""By how much [ and ] make the brush smaller and larger."""


def bind_keys(viewer: ViewerModel, drawing: Drawing) -> None:
    """Bind the keys to a viewer."""
    for key, action in _actions(drawing).items():
        viewer.bind_key(key, action, overwrite=True)


def bind_layer_keys(layer: Layer, drawing: Drawing) -> None:
    """Bind the keys to a layer of ours whose own tools, switched off, would swallow them."""
    for key, action in _actions(drawing).items():
        layer.bind_key(key, action, overwrite=True)


def bind_slide_keys(slide: Layer, drawing: Drawing) -> None:
    """Bind the number keys to a slide, where napari has tools under some of them."""
    for digit in range(1, 10):
        slide.bind_key(str(digit), _digit(drawing, digit), overwrite=True)


def _actions(drawing: Drawing) -> dict[str, Callable[[object], None]]:
    actions = {key: _show(drawing, view) for key, view in VIEW_KEYS.items()}
    actions[SPOTS_KEY] = lambda _: drawing.toggle_spots()
    actions |= annotation_keys(drawing)
    review = drawing.workspace.review
    for key, act in (
        (UNCERTAIN_KEY, partial(review.next, "uncertain")),
        (DISAGREEMENT_KEY, partial(review.next, "disagreement")),
        (ACCEPT_KEY, review.accept),
        ("Enter", review.accept),
        ("Escape", review.stop),
    ):
        actions[key] = _review(drawing, act)
    actions[SEARCH_KEY] = lambda _: drawing.workspace.search_asked.emit()
    return actions


def annotation_keys(drawing: Drawing) -> dict[str, Callable[[object], None]]:
    """Return what keys do to annotations, over the slide and, with Annotate open, anywhere."""
    annotating = drawing.workspace.annotating
    actions = {str(digit): _digit(drawing, digit) for digit in range(1, 10)}
    actions["0"] = _try(drawing, partial(annotating.classes.choose, None))
    for key, factor in (("[", 1 / BRUSH_STEP), ("]", BRUSH_STEP)):
        actions[key] = _try(drawing, partial(_size_brush, annotating, factor))
    actions["Control-Z"] = _try(drawing, annotating.undo)
    actions["Control-Shift-Z"] = _try(drawing, annotating.redo)
    return actions


def _size_brush(annotating: Annotating, factor: float) -> None:
    annotating.size_brush(round(annotating.brush_um * factor))


def _try(drawing: Drawing, act: Callable[[], object]) -> Callable[[object], None]:
    """Return what a key does to annotations, once they are open."""

    def on_key(_: object) -> None:
        annotating = drawing.workspace.annotating
        try:
            if annotating.is_open:
                act()
        except SpotScopeError as error:
            annotating.complained.emit(str(error))

    return on_key


def _digit(drawing: Drawing, digit: int) -> Callable[[object], None]:
    """Return what a number key does: correct the place that is looked at, or choose a class."""
    annotating, review = drawing.workspace.annotating, drawing.workspace.review
    annotate = _try(drawing, partial(annotating.classes.press_key, digit))
    correct = _review(drawing, partial(review.correct_by_key, digit))
    return lambda viewer: (annotate if review.current is None else correct)(viewer)


def _review(drawing: Drawing, act: Callable[[], object]) -> Callable[[object], None]:
    """Return what a key does to the review; what cannot be done is said where it is seen."""

    def on_key(_: object) -> None:
        try:
            act()
            drawing.workspace.review.said.emit("")
        except SpotScopeError as error:
            drawing.workspace.review.said.emit(str(error))

    return on_key


def _show(drawing: Drawing, view: View) -> Callable[[object], None]:
    def show(_: object) -> None:
        try:
            drawing.workspace.show(view)
        except SpotScopeError as error:
            from napari.utils.notifications import show_info

            show_info(str(error))

    return show
