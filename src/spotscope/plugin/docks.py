"""Which docks there are, where they go, and how one opens another."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QMainWindow, QTabBar, QTabWidget

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from spotscope.plugin.widgets import Dock

HOMES = {
    "Workspace": "spotscope.plugin.workspace_dock:WorkspaceDock",
    "Open": "spotscope.plugin.open_dock:OpenDock",
    "Genes": "spotscope.plugin.genes_dock:GenesDock",
    "Annotate": "spotscope.plugin.annotate_dock:AnnotateDock",
    "Review": "spotscope.plugin.review_dock:ReviewDock",
    "Train": "spotscope.plugin.train_dock:TrainDock",
    "Predict": "spotscope.plugin.predict_dock:PredictDock",
    "Retrieve": "spotscope.plugin.retrieve_dock:RetrieveDock",
    "Quality": "spotscope.plugin.quality_dock:QualityDock",
}
BELOW = ("Quality",)

_WIDTH, _HEIGHT_BELOW = 400, 250
_TAB_STYLE = "QTabBar::tab { font-size: 8pt; padding: 3px 2px; margin: 0; min-width: 8px; }"


def full_name(name: str) -> str:
    """Return what napari's Plugins menu calls a dock, so that the menu and we mean the same."""
    return f"{name} (SpotScope)"


def find_dock(viewer: Any, name: str) -> Dock | None:
    """Return a dock that is open; a viewer without a window has none."""
    window = getattr(viewer, "window", None)
    return None if window is None else window.dock_widgets.get(full_name(name))


def open_dock(viewer: Any, name: str) -> Dock:
    """Open a dock, or bring it to the front."""
    widget = find_dock(viewer, name)
    if widget is None:
        module, _, cls = HOMES[name].partition(":")
        widget = getattr(import_module(module), cls)(viewer)
        area = "bottom" if name in BELOW else "right"
        viewer.window.add_dock_widget(widget, name=full_name(name), area=area)
        widget.settle()
    frame = widget.parent()
    if isinstance(frame, QDockWidget):
        frame.show()
        frame.raise_()
    return widget


def settle(widget: QWidget) -> bool:
    """Put a dock among the others of ours, tabs on the right and tables below; say if it went."""
    frame = widget.parent()
    if not isinstance(frame, QDockWidget):
        return False
    window = frame.window()
    if not isinstance(window, QMainWindow):
        return False
    name = frame.objectName().removesuffix(" (SpotScope)")
    frame.setWindowTitle(name)  # the tab's text; the title bar keeps the full name
    right = Qt.DockWidgetArea.RightDockWidgetArea
    window.setTabPosition(right, QTabWidget.TabPosition.North)
    if name in BELOW:
        below = Qt.DockWidgetArea.BottomDockWidgetArea
        if window.dockWidgetArea(frame) != below:
            window.addDockWidget(below, frame)
        give_height(widget)
        return True
    others = [
        dock
        for dock in window.findChildren(QDockWidget)
        if dock is not frame
        and dock.objectName().endswith(" (SpotScope)")
        and window.dockWidgetArea(dock) == right
        and not dock.isFloating()
    ]
    if others and window.dockWidgetArea(frame) == right:
        window.tabifyDockWidget(others[-1], frame)
        frame.raise_()
        _fit_tabs(window)
    window.resizeDocks([frame], [_WIDTH], Qt.Orientation.Horizontal)
    return True


def _fit_tabs(window: QMainWindow) -> None:
    """Write the names of all tabs out: eight of them have to stand side by side."""
    for bar in window.findChildren(QTabBar, options=Qt.FindChildOption.FindDirectChildrenOnly):
        bar.setDrawBase(False)
        bar.setElideMode(Qt.TextElideMode.ElideNone)
        if bar.styleSheet() != _TAB_STYLE:
            bar.setStyleSheet(_TAB_STYLE)


def give_height(widget: QWidget) -> None:
    """Give a dock below the height that its plots need."""
    frame = widget.parent()
    if isinstance(frame, QDockWidget) and isinstance(window := frame.window(), QMainWindow):
        window.resizeDocks([frame], [_HEIGHT_BELOW], Qt.Orientation.Vertical)
