"""Who annotates, whose labels are shown, and where annotators differ."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHeaderView,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from spotscope.annotate.state import IMPORTED
from spotscope.plugin.annotating import MINE, TOGETHER
from spotscope.plugin.widgets import two_decimals, wrapped

if TYPE_CHECKING:
    from spotscope.annotate.agreement import Agreement
    from spotscope.annotate.document import AnnotationDocument
    from spotscope.plugin.workspace import Workspace

_MOST_LISTED = 500
_ROWS_SEEN = 4


class Annotator(QWidget):
    """Names the annotator, and chooses whose labels are shown.

    Parameters
    ----------
    workspace
        Whose annotations.
    """

    named = Signal(str)
    whose = Signal(str)

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self._annotating = workspace.annotating
        self.name = QLineEdit()
        self.name.setToolTip("Your annotations are kept apart under this name")
        self.name.editingFinished.connect(lambda: self.named.emit(self.name.text()))
        self.shown = QComboBox()
        self.shown.activated.connect(lambda row: self.whose.emit(self.shown.itemData(row)))
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.addRow("Annotator", self.name)
        self._form.addRow("Show", self.shown)

    def update_from(self, document: AnnotationDocument) -> None:
        """Show the annotators of a document."""
        me = self._annotating.annotator
        if not self.name.hasFocus():
            self.name.setText(me)
        people = document.annotators
        choices = [("Everyone together", TOGETHER), (f"Only mine ({me})", MINE)]
        choices += [(f"Only {name}", name) for name in people if name != me]
        if [self.shown.itemText(i) for i in range(self.shown.count())] != [c[0] for c in choices]:
            self.shown.clear()
            for text, data in choices:
                self.shown.addItem(text, data)
            self.shown.setItemData(
                0,
                "Your label; else what all others say; else what the section was imported with",
                Qt.ItemDataRole.ToolTipRole,
            )
        self.shown.setCurrentIndex(max(self.shown.findData(self._annotating.shown), 0))
        self._form.setRowVisible(self.shown, len(people) > 1)


class Compare(QWidget):
    """Says how far annotators agree, and lists the spots where two differ.

    Parameters
    ----------
    workspace
        Whose annotations.
    """

    spot_chosen = Signal(int)

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self._workspace = workspace
        self._pairs: list[tuple[str, str, Agreement]] = []
        self._listed: tuple[str, str] | None = None
        self.table = QTableWidget(0, 4)
        self.table.setHorizontalHeaderLabels(["Annotators", "Shared", "Same", "κ"])
        self.table.verticalHeader().hide()
        self.table.setShowGrid(False)
        self.table.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QTableWidget.SelectionMode.SingleSelection)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        header = self.table.horizontalHeader()
        header.setHighlightSections(False)
        for column in range(1, 4):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column, tip in (
            (1, "Spots that both have labelled"),
            (2, "Share of these with the same class"),
            (3, "Cohen's kappa: 1 is full agreement, 0 what chance alone would give"),
        ):
            self.table.horizontalHeaderItem(column).setToolTip(tip)
        self.table.itemSelectionChanged.connect(self._list_spots)
        self.heading = wrapped("")
        self.differ = QListWidget()
        self.differ.itemClicked.connect(self._on_spot)
        self.differ.itemActivated.connect(self._on_spot)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.table, self.heading):
            layout.addWidget(widget)
        layout.addWidget(self.differ, 1)

    def showEvent(self, event: Any) -> None:
        """Compare when it is looked at."""
        super().showEvent(event)
        self.update_from()

    def update_from(self) -> None:
        """Compare anew, when it is looked at."""
        document = self._workspace.annotations
        if self.isVisible() and document is not None:
            self._compare(document, document.annotators)

    def _compare(self, document: AnnotationDocument, people: list[str]) -> None:
        from spotscope.annotate.agreement import agreement

        row = max(self.table.currentRow(), 0)
        # Whom nobody's hand gave, the labels of the import, are compared last.
        people = sorted(people, key=lambda name: name == IMPORTED)
        labels = {name: document.labels(name) for name in people}
        self._pairs = [
            (one, other, agreement(labels[one], labels[other]))
            for one, other in combinations(people, 2)
        ]
        before = self.table.blockSignals(True)
        self.table.setRowCount(len(self._pairs))
        for place, (one, other, found) in enumerate(self._pairs):
            share = "–" if np.isnan(found.share) else f"{100 * found.share:.0f} %"
            kappa = "–" if np.isnan(found.kappa) else two_decimals(found.kappa)
            for column, text in enumerate(
                (f"{one} · {other}", f"{found.n_shared:,}", share, kappa)
            ):
                item = QTableWidgetItem(text)
                if column:
                    item.setTextAlignment(
                        Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
                    )
                item.setToolTip(text)
                self.table.setItem(place, column, item)
        self.table.setCurrentCell(min(row, len(self._pairs) - 1), 0)
        self.table.blockSignals(before)
        height = self.table.horizontalHeader().sizeHint().height() + 4
        height += sum(self.table.rowHeight(r) for r in range(min(len(self._pairs), _ROWS_SEEN)))
        self.table.setFixedHeight(height)
        self._list_spots()

    def _list_spots(self) -> None:
        row, document = self.table.currentRow(), self._workspace.annotations
        if document is None or not 0 <= row < len(self._pairs):
            return
        one, other, found = self._pairs[row]
        same, self._listed = self._listed == (one, other), (one, other)
        differing = found.disagreeing
        count = "1 spot differs" if len(differing) == 1 else f"{len(differing):,} spots differ"
        go = ". Click on one to go there; a number key then labels it." if len(differing) else ""
        self.heading.setText(f"{one} and {other}: {count}{go}")
        first, second = document.labels(one), document.labels(other)
        place, scrolled = self.differ.currentRow(), self.differ.verticalScrollBar().value()
        self.differ.clear()
        for spot in differing[:_MOST_LISTED]:
            item = QListWidgetItem(f"{document.barcodes[spot]} · {first[spot]} / {second[spot]}")
            item.setData(Qt.ItemDataRole.UserRole, int(spot))
            item.setToolTip(f"{one}: {first[spot]}\n{other}: {second[spot]}")
            self.differ.addItem(item)
        if same:  # one was labelled: go on where the list was
            self.differ.setCurrentRow(min(place, self.differ.count() - 1))
            self.differ.verticalScrollBar().setValue(scrolled)
        self.differ.setVisible(len(differing) > 0)

    def _on_spot(self, item: QListWidgetItem) -> None:
        self.spot_chosen.emit(item.data(Qt.ItemDataRole.UserRole))
