"""The classes as a table: colour, key, name, spots and area; one row is what the tools give."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

if TYPE_CHECKING:
    from spotscope.annotate.vocabulary import SubtypeClass

COLOUR, KEY, NAME, SPOTS, AREA = range(5)
_TITLES = ("", "Key", "Class", "Spots", "mm²")
NO_CLASS = "no class: lasso selects"
UNLABELLED = "unlabelled"
_SWATCH = 14
_MOST_ROWS_SEEN = 9


class ClassTable(QTableWidget):
    """Lists the classes of a section.

    A click on a row chooses the class, one on its colour asks for another colour, a double click
    on its name or its key edits it.
    """

    chosen = Signal(object)
    renamed = Signal(str, str)
    keyed = Signal(str, object)
    colour_asked = Signal(str)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(0, len(_TITLES), parent)
        self._names: list[str | None] = []
        self._showing = False
        self.setHorizontalHeaderLabels(_TITLES)
        self.verticalHeader().hide()
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(
            QAbstractItemView.EditTrigger.DoubleClicked
            | QAbstractItemView.EditTrigger.EditKeyPressed
        )
        self.setShowGrid(False)
        self.setIconSize(QSize(_SWATCH, _SWATCH))
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        header = self.horizontalHeader()
        for column in range(len(_TITLES)):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        header.setMinimumSectionSize(24)
        header.setHighlightSections(False)
        self.cellClicked.connect(self._on_clicked)
        self.itemChanged.connect(self._on_edited)

    def show_classes(
        self,
        classes: list[SubtypeClass],
        counts: dict[str, int],
        unlabelled: int,
        share_mm2: float | None,
    ) -> None:
        """Show the classes.

        Parameters
        ----------
        counts
            Spots of each class.
        unlabelled
            Spots of none.
        share_mm2
            Area that one spot stands for; None where the slide has no scale.
        """
        self._showing = True
        chosen = self._names[self.currentRow()] if self.currentRow() >= 0 else None
        self._names = [None, *(one.name for one in classes)]
        self.setRowCount(len(self._names) + 1)
        self._row(0, None, "0", NO_CLASS, None, None)
        self.item(0, NAME).setToolTip(
            "A lasso only selects spots; the number key that you press next gives them its class"
        )
        for row, one in enumerate(classes, 1):
            count = counts.get(one.name, 0)
            self._row(row, one, str(one.key or ""), one.name, count, share_mm2)
        self._row(len(self._names), None, "", UNLABELLED, unlabelled, share_mm2)
        self._showing = False
        self.mark(chosen)
        self._fit_rows()

    def mark(self, name: str | None) -> None:
        """Mark the class that the tools give."""
        before = self.blockSignals(True)
        self.setCurrentCell(self._names.index(name) if name in self._names else 0, NAME)
        self.blockSignals(before)

    @property
    def marked(self) -> str | None:
        """The class whose row is marked; None for the row without class."""
        row = self.currentRow()
        return self._names[row] if 0 <= row < len(self._names) else None

    def _row(
        self,
        row: int,
        one: SubtypeClass | None,
        key: str,
        name: str,
        count: int | None,
        share_mm2: float | None,
    ) -> None:
        area = "" if count is None or share_mm2 is None else f"{count * share_mm2:.2f}"
        texts = ("", key, name, "" if count is None else f"{count:,}", area)
        listed = one is not None
        for column, text in enumerate(texts):
            item = self.item(row, column)
            if item is None:
                item = QTableWidgetItem()
                self.setItem(row, column, item)
            if item.text() != text:
                item.setText(text)
            flags = Qt.ItemFlag.ItemIsEnabled
            if row < len(self._names):
                flags |= Qt.ItemFlag.ItemIsSelectable
            if listed and column in (KEY, NAME):
                flags |= Qt.ItemFlag.ItemIsEditable
            item.setFlags(flags)
            right = column in (SPOTS, AREA)
            side = Qt.AlignmentFlag.AlignRight if right else Qt.AlignmentFlag.AlignLeft
            side = Qt.AlignmentFlag.AlignHCenter if column == KEY else side
            item.setTextAlignment(side | Qt.AlignmentFlag.AlignVCenter)
            item.setToolTip("")
        self.item(row, COLOUR).setIcon(QIcon() if one is None else _swatch(one.colour))
        if one is not None:
            self.item(row, COLOUR).setToolTip(f"Another colour for {one.name}")
            left_out = " · left out of learning" if one.exclude else ""
            self.item(row, NAME).setToolTip(f"{one.name}{left_out} · double-click to rename")
            self.item(row, KEY).setToolTip("Double-click to give it another key, 1 to 9")
        self.item(row, AREA).setToolTip("Each spot stands for its share of the grid of spots")

    def _fit_rows(self) -> None:
        """Be as high as the classes need, and scroll when they are many."""
        rows = min(self.rowCount(), _MOST_ROWS_SEEN)
        height = self.horizontalHeader().sizeHint().height() + 4
        height += sum(self.rowHeight(row) for row in range(rows))
        self.setFixedHeight(height)

    def _on_clicked(self, row: int, column: int) -> None:
        if row >= len(self._names):
            return
        name = self._names[row]
        if column == COLOUR and name is not None:
            self.colour_asked.emit(name)
        self.chosen.emit(name)

    def _on_edited(self, item: QTableWidgetItem) -> None:
        if self._showing or not 0 < item.row() < len(self._names):
            return
        name = self._names[item.row()]
        assert name is not None
        if item.column() == NAME:
            self.renamed.emit(name, item.text())
        elif item.column() == KEY:
            self.keyed.emit(name, item.text().strip())


def _swatch(colour: str) -> QIcon:
    made = QPixmap(_SWATCH, _SWATCH)
    made.fill(QColor(colour))
    icon = QIcon(made)
    icon.addPixmap(made, QIcon.Mode.Selected)  # or a chosen row tints it
    return icon
