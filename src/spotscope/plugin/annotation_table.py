"""The classes as a table: colour, key, name, spots and area; one row is what the tools give."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

if TYPE_CHECKING:
    from spotscope.annotate.vocabulary import SubtypeClass
    from spotscope.plugin.annotating import Annotating
    from spotscope.plugin.opened import OpenSection

COLOUR, KEY, NAME, SPOTS, AREA = range(5)
_TITLES = ("", "Key", "Class", "Spots", "mm²")
NO_CLASS = "no class: lasso selects"
UNLABELLED = "unlabelled"
_SWATCH = 14
_MOST_ROWS_SEEN = 9


@dataclass(frozen=True)
class Tally:
    """How much of a section has each class.

    Attributes
    ----------
    spots
        Spots of each class, under None those of none; empty for a slide alone.
    mm2
        Area of each; None where the slide has no scale.
    """

    spots: dict[str | None, int]
    mm2: dict[str | None, float] | None

    @classmethod
    def of_section(cls, opened: OpenSection, annotating: Annotating) -> Tally:
        """Count the labels that are shown, or measure the outlines where there are no spots."""
        scale = opened.mpp_um**2 / 1e6 if opened.section.mpp_um else None
        if not opened.n_spots:
            return cls({}, _areas(annotating, scale) if scale else None)
        names, codes = opened.subtypes or ([], np.full(opened.n_spots, -1))
        counts = np.bincount(np.where(codes < 0, len(names), codes), minlength=len(names) + 1)
        spots = dict(zip([*names, None], counts.tolist(), strict=True))
        if scale is None:
            return cls(spots, None)
        share = opened.spot_share_px * scale
        return cls(spots, {name: count * share for name, count in spots.items()})

    def of(self, name: str | None) -> tuple[str, str]:
        """Return spots and area of a class as they are written."""
        spots = f"{self.spots.get(name, 0):,}" if self.spots else ""
        return spots, "" if self.mm2 is None else f"{self.mm2.get(name, 0.0):.2f}"


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

    def show_classes(self, classes: list[SubtypeClass], tally: Tally) -> None:
        """Show the classes, and how much of the section has each."""
        self._showing = True
        chosen = self._names[self.currentRow()] if self.currentRow() >= 0 else None
        self._names = [None, *(one.name for one in classes)]
        last = len(self._names)
        self.setRowCount(last + 1)
        self._row(0, None, ("", "0", NO_CLASS, "", ""))
        self.item(0, NAME).setToolTip(
            "A lasso only selects spots; the number key that you press next gives them its class"
        )
        for row, one in enumerate(classes, 1):
            texts = ("", str(one.key or ""), one.name, *tally.of(one.name))
            self._row(row, one, texts)
        self._row(last, None, ("", "", UNLABELLED, *tally.of(None)))
        # Without spots there are none to select, to count, or to leave unlabelled.
        self.setColumnHidden(SPOTS, not tally.spots)
        for row in range(last + 1):
            self.setRowHidden(row, row in (0, last) and not tally.spots)
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

    def _row(self, row: int, one: SubtypeClass | None, texts: tuple[str, ...]) -> None:
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
        self.item(row, AREA).setToolTip(
            "Of the outlines, where they overlap once"
            if self.isColumnHidden(SPOTS)
            else "Each spot stands for its share of the grid of spots"
        )

    def _fit_rows(self) -> None:
        """Be as high as the classes need, and scroll when they are many."""
        seen = [row for row in range(self.rowCount()) if not self.isRowHidden(row)]
        height = self.horizontalHeader().sizeHint().height() + 4
        height += sum(self.rowHeight(row) for row in seen[:_MOST_ROWS_SEEN])
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


def _areas(annotating: Annotating, scale: float) -> dict[str | None, float]:
    """Return the mm² that the outlines of each class cover."""
    import shapely

    document, whose = annotating.document, annotating.whose
    regions = document.regions if document is not None else []
    drawn: dict[str | None, list[Any]] = {}
    for region in regions:
        if whose in (None, region.annotator):
            drawn.setdefault(region.subtype, []).append(region.geometry)
    return {name: shapely.union_all(own).area * scale for name, own in drawn.items()}


def _swatch(colour: str) -> QIcon:
    made = QPixmap(_SWATCH, _SWATCH)
    made.fill(QColor(colour))
    icon = QIcon(made)
    icon.addPixmap(made, QIcon.Mode.Selected)  # or a chosen row tints it
    return icon
