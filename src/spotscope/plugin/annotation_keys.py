"""The keys of Annotate in the whole window, wherever the keyboard is."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QShortcut

from spotscope.plugin.drawing import drawing_of
from spotscope.plugin.keys import annotation_keys
from spotscope.plugin.layers import described

if TYPE_CHECKING:
    from spotscope.plugin.widgets import Dock

_EDITED_BY_KEYS = ("labels", "shapes", "points")


class WindowKeys:
    """Shortcuts of the window that a dock lies in.

    A text field that has the keyboard keeps its own undo and its digits: Qt asks it first. A
    layer that is not ours and that napari edits by the same keys keeps them too.

    Parameters
    ----------
    dock
        They end with it.
    """

    def __init__(self, dock: Dock) -> None:
        self._dock = dock
        self._shortcuts: list[QShortcut] = []

    def listen(self) -> None:
        """Bind the keys, once."""
        if self._shortcuts:
            return
        viewer, window = self._dock.viewer, self._dock.window()
        for key, act in annotation_keys(drawing_of(viewer)).items():
            shortcut = QShortcut(QKeySequence(_as_qt(key)), window)
            shortcut.activated.connect(lambda act=act: act(viewer))
            self._shortcuts.append(shortcut)
        made = tuple(self._shortcuts)
        self._dock.destroyed.connect(lambda _=None: _unbind(made))
        viewer.layers.selection.events.active.connect(self._on_layer)
        self._on_layer()

    def _on_layer(self, event: Any = None) -> None:
        active = self._dock.viewer.layers.selection.active
        theirs = active is not None and not described(active)
        theirs = theirs and getattr(active, "_type_string", "") in _EDITED_BY_KEYS
        for shortcut in self._shortcuts:
            if isalive(shortcut):
                shortcut.setEnabled(not theirs)


def _as_qt(key: str) -> str:
    """Write napari's name of a key as Qt does."""
    return key.replace("Control-", "Ctrl+").replace("Shift-", "Shift+")


def _unbind(shortcuts: tuple[QShortcut, ...]) -> None:
    for shortcut in shortcuts:
        if isalive(shortcut):
            shortcut.setEnabled(False)
            shortcut.deleteLater()
