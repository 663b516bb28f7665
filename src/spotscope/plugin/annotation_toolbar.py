"""The tools of Annotate as buttons, with what can be chosen for each, and what it does."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QGridLayout,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from spotscope.plugin.widgets import wrapped

if TYPE_CHECKING:
    from spotscope.plugin.annotating import Tool
    from spotscope.plugin.workspace import Workspace

_NAMES: dict[Tool | None, str] = {
    None: "Move",
    "lasso": "Lasso",
    "polygon": "Polygon",
    "brush": "Brush",
    "click": "Spot",
    "grow": "Grow",
    "erase": "Erase",
}
_MOVES = "The wheel zooms; drag with the right button, or hold Space, to move the slide."
_DOES: dict[Tool | None, str] = {
    None: "Drag to move the slide. Choose a tool to mark tissue.",
    "lasso": "Draw around tissue: the spots inside get the class. Shift erases instead.",
    "polygon": "Click corner by corner; Enter, a double click or the first corner closes it.",
    "brush": "Paint over spots. Shift erases instead.",
    "click": "Click on a spot. Shift erases instead.",
    "grow": "Click on a spot: all that hang together with it and look alike get the class.",
    "erase": "Wipe over spots and outlines to take their class off.",
}
_DOES_ALONE: dict[Tool | None, str] = {
    "lasso": "Draw around tissue: the outline gets the class. Shift erases instead.",
    "brush": "Paint over tissue: its outline gets the class. Shift erases instead.",
    "erase": "Wipe over outlines to take them off.",
}
_SELECTS = "No class is chosen: spots are only selected, and the next number key labels them."
_COLUMNS = 4


class ToolBar(QWidget):
    """Chooses the tool.

    Parameters
    ----------
    workspace
        Whose tool.
    """

    tool_chosen = Signal(object)
    growing_changed = Signal()

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self._workspace = workspace
        self._annotating = workspace.annotating
        self._group = QButtonGroup(self)
        self.buttons: dict[Tool | None, QPushButton] = {}
        grid = QGridLayout()
        grid.setSpacing(2)
        for place, (tool, name) in enumerate(_NAMES.items()):
            button = QPushButton(name)
            button.setCheckable(True)
            button.setToolTip(_DOES[tool])
            policy = QSizePolicy.Policy
            button.setSizePolicy(policy.Expanding, policy.Fixed)
            button.clicked.connect(lambda _, tool=tool: self._on_tool(tool))
            self._group.addButton(button)
            self.buttons[tool] = button
            grid.addWidget(button, *divmod(place, _COLUMNS))
        self._build_options()
        self.hint = wrapped("")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(grid)
        layout.addLayout(self._form)
        layout.addWidget(self.hint)

    def _build_options(self) -> None:
        self.width_um = QDoubleSpinBox()
        self.width_um.setDecimals(0)
        self.width_um.setRange(1, 20_000)
        self.width_um.setKeyboardTracking(False)
        self.width_um.setToolTip("Width of brush and eraser: [ smaller, ] larger")
        self.width_um.valueChanged.connect(self._annotating.size_brush)
        self.border = QComboBox()
        for name, border in (
            ("its centre is inside", "centre"),
            ("half of it is inside", "half"),
            ("any of it is inside", "touch"),
        ):
            self.border.addItem(name, border)
        self.border.activated.connect(self._on_border)
        self.by = QComboBox()
        self.by.addItem("similar expression", "expression")
        self.by.addItem("the same predicted subtype", "predicted subtype")
        self.by.activated.connect(self._on_growing)
        self.clusters = QSpinBox()
        self.clusters.setRange(2, 40)
        self.clusters.setKeyboardTracking(False)
        self.clusters.setToolTip(
            "How many kinds of tissue to tell apart; more give smaller fields"
        )
        self.clusters.valueChanged.connect(self._on_growing)
        self._form = QFormLayout()
        self._form.addRow("Width, [ and ]", self.width_um)
        self._form.addRow("Takes a spot if", self.border)
        self._form.addRow("Grow over", self.by)
        self._form.addRow("Clusters", self.clusters)

    def update_from(self, what: frozenset[str]) -> None:
        """Show the tool and what can be chosen for it."""
        annotating, section = self._annotating, self._workspace.section
        tool, chosen = annotating.tool, annotating.classes.chosen
        self.buttons[tool].setChecked(True)
        spots = section is not None and section.n_spots > 0
        for name in ("click", "grow"):
            self.buttons[name].setEnabled(spots)
            does = _DOES[name] if spots else "This section is a slide alone; it has no spots."
            self.buttons[name].setToolTip(does)
        shown = {
            self.width_um: tool in ("brush", "erase"),
            self.border: tool in ("lasso", "polygon") and spots,
            self.by: tool == "grow",
            self.clusters: tool == "grow" and annotating.growing.by == "expression",
        }
        for widget, seen in shown.items():
            self._form.setRowVisible(widget, seen)
            before = widget.blockSignals(True)
            if widget is self.width_um:
                self.width_um.setSuffix(" µm" if section and section.unit == "um" else " px")
                self.width_um.setValue(annotating.brush_um)
            elif widget is self.clusters:
                self.clusters.setValue(annotating.growing.n_clusters)
            widget.blockSignals(before)
        self.border.setCurrentIndex(self.border.findData(annotating.border))
        self.by.setCurrentIndex(self.by.findData(annotating.growing.by))
        self.hint.setText(self._hint(tool, chosen))

    def _hint(self, tool: Tool | None, chosen: str | None) -> str:
        selected = len(self._annotating.selected)
        if selected:
            spots = "1 spot is" if selected == 1 else f"{selected:,} spots are"
            return f"{spots} selected: press the number of a class, or click on it."
        if tool is None:
            return _DOES[None]
        section = self._workspace.section
        alone = section is not None and not section.n_spots
        if chosen is None and tool in ("lasso", "polygon", "click", "grow") and not alone:
            return f"{_SELECTS} {_MOVES}"
        if chosen is None and tool != "erase":
            return "Choose a class below first, or add one."
        does = (_DOES_ALONE if alone else _DOES).get(tool, _DOES[tool])
        return f"{does} {_MOVES}"

    def _on_tool(self, tool: Tool | None) -> None:
        self.tool_chosen.emit(tool)
        self.buttons[self._annotating.tool].setChecked(True)

    def _on_border(self, row: int) -> None:
        self._annotating.border = self.border.itemData(row)

    def _on_growing(self, _: int) -> None:
        growing = self._annotating.growing
        growing.by = self.by.currentData()
        growing.n_clusters = self.clusters.value()
        self.update_from(frozenset({"tool"}))
        self.growing_changed.emit()
