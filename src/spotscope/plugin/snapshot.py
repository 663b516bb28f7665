"""A picture of the whole napari window, once its layers are drawn."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from napari import Viewer

_SETTLED_S = 0.4
_PATIENCE_S = 30.0


def capture_window(viewer: Viewer, path: str | Path, size: tuple[int, int] | None = None) -> Path:
    """Write a PNG of the whole window: canvas, layer list and docks.

    Slices that load and figures that are worked out in the background are waited for, and the
    picture is taken when two in a row are the same, so that nothing half-drawn is kept.

    Parameters
    ----------
    viewer
        A viewer whose window is shown, on a display or a virtual one.
    path
        Where the picture goes.
    size
        Width and height of the window; None leaves it as it is.

    Returns
    -------
    The path.

    Raises
    ------
    SpotScopeError
        When the viewer has no window.
    """
    import numpy as np
    from PIL import Image
    from qtpy.QtWidgets import QApplication

    from spotscope.files import written_beside
    from spotscope.plugin.running import JobBar

    if getattr(viewer, "window", None) is None:
        raise SpotScopeError("This viewer has no window to take a picture of.")
    if size is not None:
        viewer.window.resize(*size)
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    deadline = time.monotonic() + _PATIENCE_S
    before = None
    while True:
        _let_settle(app)
        picture = viewer.window.screenshot(canvas_only=False, flash=False)
        busy = not all(layer.loaded for layer in viewer.layers) or any(
            isinstance(widget, JobBar) and widget.running for widget in app.allWidgets()
        )
        same = before is not None and np.array_equal(before, picture)
        if time.monotonic() > deadline or (same and not busy):
            break
        before = picture
    with written_beside(Path(path)) as beside:
        Image.fromarray(picture[..., :3]).save(beside, format="PNG")
    return Path(path)


def _let_settle(app: Any) -> None:
    until = time.monotonic() + _SETTLED_S
    while time.monotonic() < until:
        app.processEvents()
        time.sleep(0.01)
