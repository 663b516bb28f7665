"""Genes: search one, choose measured, predicted or error, and the colour range."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.compat import isalive
from qtpy.QtCore import QAbstractListModel, QModelIndex, Qt, QTimer
from qtpy.QtGui import QBrush, QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QButtonGroup,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListView,
    QPushButton,
)
from superqt import QDoubleRangeSlider

from spotscope.errors import SpotScopeError
from spotscope.plugin import colours
from spotscope.plugin.gene_search import known_as, search_genes
from spotscope.plugin.keys import SEARCH_KEY, SPOTS_KEY, VIEW_KEYS
from spotscope.plugin.widgets import ColourBar, Dock, Legend, number, two_decimals, wrapped

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from spotscope.plugin.workspace import View

_KEY_OF = {view: key for key, view in VIEW_KEYS.items()}
_NAMES: dict[View, str] = {
    "measured": "Measured",
    "predicted": "Predicted",
    "error": "Error",
    "subtype": "Subtype",
}
_TIPS: dict[View, str] = {
    "measured": "Colour the spots by the measured expression",
    "predicted": "Draw the prediction as a map, or on the spots",
    "error": "Colour the spots by predicted minus measured",
    "subtype": "Colour the spots by their subtype",
}


class GeneModel(QAbstractListModel):
    """The genes that fit the search, with their other names."""

    def __init__(self) -> None:
        super().__init__()
        self.genes: list[str] = []
        self.predicted: set[str] | None = None
        self.faint = QColor()

    def show(self, genes: list[str], predicted: set[str] | None) -> None:
        """Show these genes; those that a run does not predict are told apart."""
        self.beginResetModel()
        self.genes, self.predicted = genes, predicted
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return how many genes there are."""
        return len(self.genes)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what is written in a row."""
        if not index.isValid():
            return None
        gene = self.genes[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            others = known_as(gene)
            return f"{gene}   {', '.join(others[:2])}" if others else gene
        if self.predicted is not None and gene not in self.predicted:
            if role == Qt.ItemDataRole.ForegroundRole:
                return QBrush(self.faint)
            if role == Qt.ItemDataRole.ToolTipRole:
                return f"{gene} was measured, but this run does not predict it"
        return None


class GenesDock(Dock):
    """Chooses what is drawn of the active section."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(napari_viewer, "Open a section to see its genes on the slide.")
        self._build_search()
        self._build_views()
        self._build_run()
        self._build_range()
        self.legend = Legend()
        self.body.addWidget(self.legend)
        self.body.addWidget(self.message)
        self.pointed = wrapped("")
        self.pointed.setMinimumHeight(2 * self.fontMetrics().height())  # the dock does not jump
        self.pointed.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._on_pointed(None)
        self.body.addWidget(self.pointed)
        self.body.addWidget(
            wrapped(
                f"Keys over the slide: {SEARCH_KEY} search, M measured, P predicted, E error,"
                f" {SPOTS_KEY} spots off and on"
            )
        )
        self.workspace.search_asked.connect(self.take_search)
        self.workspace.pointed.connect(self._on_pointed)
        self.viewer.events.theme.connect(self._on_theme)
        self._on_theme()
        self.begin()

    def take_search(self) -> None:
        """Give the keyboard to the search."""
        dock = self.parent()
        if dock is not None and hasattr(dock, "raise_"):
            dock.raise_()
        self.search.setFocus()
        self.search.selectAll()

    def update_from(self, what: frozenset[str]) -> None:
        """Follow the workspace."""
        if what & {"section", "run", "runs"}:
            self._fill_runs()
            self._fill_genes()
        if what & {"section", "run", "gene", "view"}:
            self._mark_views()
            self._mark_gene()
        self._show_scale()
        self._show_score()

    # -- parts ------------------------------------------------------------------------------

    def _build_search(self) -> None:
        self.section_name = wrapped("")
        self.body.addWidget(self.section_name)
        self.search = QLineEdit()
        self.search.setClearButtonEnabled(True)
        self._typed = QTimer(self)
        self._typed.setSingleShot(True)
        self._typed.setInterval(80)
        self._typed.timeout.connect(self._fill_genes)
        self.search.textChanged.connect(lambda _: self._typed.start())
        self.search.returnPressed.connect(self._on_enter)
        self.body.addWidget(self.search)
        self.model = GeneModel()
        self.list = QListView()
        self.list.setModel(self.model)
        self.list.setUniformItemSizes(True)
        self.list.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.list.setMinimumHeight(110)
        self.list.selectionModel().currentChanged.connect(self._on_chosen)
        self.body.addWidget(self.list, 1)

    def _build_views(self) -> None:
        row = QHBoxLayout()
        row.setSpacing(2)
        self._views = QButtonGroup(self)
        self.buttons: dict[View, QPushButton] = {}
        for view, name in _NAMES.items():
            button = QPushButton()
            key = _KEY_OF.get(view)
            button.setText(f"{name} ({key})" if key else name)
            button.setCheckable(True)
            button.setSizePolicy(
                button.sizePolicy().Policy.Expanding, button.sizePolicy().Policy.Fixed
            )
            button.clicked.connect(lambda _, view=view: self._on_view(view))
            self._views.addButton(button)
            self.buttons[view] = button
            row.addWidget(button)
        self.body.addLayout(row)

    def _build_run(self) -> None:
        self.runs = QComboBox()
        self.runs.setToolTip("Whose prediction is drawn")
        self.runs.setMinimumContentsLength(12)
        self.runs.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.runs.activated.connect(self._on_run)
        self.score = wrapped("")
        self.body.addWidget(self.runs)
        self.body.addWidget(self.score)

    def _build_range(self) -> None:
        self.bar = ColourBar()
        self.slider = QDoubleRangeSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, 100)
        self.slider.setToolTip("Percentiles of the measured values that the colours span")
        self.slider.valueChanged.connect(self._on_range)
        self.range_said = QLabel()
        self.reset = QPushButton("Reset")
        self.reset.setToolTip("Colours from the 1st to the 99th percentile")
        self.reset.clicked.connect(lambda: self.workspace.set_percentiles(*colours.PERCENTILES))
        row = QHBoxLayout()
        row.addWidget(self.range_said, 1)
        row.addWidget(self.reset)
        self.body.addWidget(self.bar)
        self.body.addWidget(self.slider)
        self.body.addLayout(row)

    # -- showing ----------------------------------------------------------------------------

    def _fill_genes(self) -> None:
        genes = self.workspace.genes
        self.search.setPlaceholderText(f"Search {len(genes):,} genes ({SEARCH_KEY})")
        run = self.workspace.run
        self.model.show(search_genes(genes, self.search.text()), set(run.genes) if run else None)
        self._mark_gene()

    def _mark_gene(self) -> None:
        gene = self.workspace.gene
        chosen = self.list.selectionModel()
        if chosen is None:
            return
        before = chosen.blockSignals(True)
        if gene in self.model.genes:
            index = self.model.index(self.model.genes.index(gene))
            self.list.setCurrentIndex(index)
            self.list.scrollTo(index, QAbstractItemView.ScrollHint.PositionAtCenter)
        else:
            self.list.clearSelection()
        chosen.blockSignals(before)
        self.list.viewport().update()

    def _fill_runs(self) -> None:
        section = self.workspace.section
        assert section is not None
        spots = f"{section.n_spots:,} spots" if section.section.has_spots else "slide alone"
        self.section_name.setText(
            f"<b>{section.name}</b> · patient {section.section.patient} · {spots}"
        )
        self.runs.clear()
        for run in section.runs:
            self.runs.addItem(run.title, run.id)
        if self.workspace.run is not None:
            self.runs.setCurrentIndex(self.runs.findData(self.workspace.run.id))
        self.runs.setVisible(bool(section.runs))

    def _mark_views(self) -> None:
        for view, button in self.buttons.items():
            reason = self.workspace.why_not(view)
            button.setEnabled(reason is None)
            button.setToolTip(reason or _TIPS[view])
            button.setChecked(view == self.workspace.view)
        labelled = self.workspace.section is not None and self.workspace.section.subtypes
        self.buttons["subtype"].setVisible(bool(labelled))

    def _show_scale(self) -> None:
        workspace = self.workspace
        limits = workspace.limits()
        for widget in (self.bar, self.slider, self.range_said, self.reset):
            widget.setVisible(limits is not None)
        self.legend.setVisible(workspace.view == "subtype")
        if workspace.view == "subtype":
            self._show_legend()
        if limits is None:
            return
        steps = np.linspace(0, 1, 256)
        if workspace.view == "error":
            strip = colours.error_map().map(steps)
            title, ends = f"{workspace.gene} · predicted − measured", ("too low", "too high")
        else:
            strip = colours.expression_map().map(steps)
            title, ends = f"{workspace.gene} · {self._shown()}", ("", "")
        self.bar.show_scale(title, colours.UNIT, limits, strip, ends)
        low, high = workspace.percentiles
        before = self.slider.blockSignals(True)
        self.slider.setValue((low, high))
        self.slider.blockSignals(before)
        if workspace.view == "error":
            self.range_said.setText(f"± {number(high)}th percentile of the error")
        else:
            self.range_said.setText(f"Percentiles {number(low)} to {number(high)}")

    def _shown(self) -> str:
        """Name what the colours stand for: beside a map the spots keep what was measured."""
        section, run, gene = self.workspace.section, self.workspace.run, self.workspace.gene
        mapped = self.workspace.view == "predicted" and run is not None and run.has_grid
        if mapped and section is not None and section.n_spots and gene and section.measures(gene):
            return "map predicted, spots measured"
        return self.workspace.view

    def _show_legend(self) -> None:
        section = self.workspace.section
        if section is None or section.subtypes is None:
            return
        names, codes = section.subtypes
        palette = self.workspace.palette(names)
        classes = [
            (name, palette[name], int((codes == place).sum())) for place, name in enumerate(names)
        ]
        if unlabelled := int((codes < 0).sum()):
            classes.append(("unlabelled", colours.UNKNOWN_COLOUR, unlabelled))
        self.legend.show_classes(classes)

    def _show_score(self) -> None:
        self.score.setText(self._score_said())
        self.score.setVisible(bool(self.score.text()))

    def _score_said(self) -> str:
        workspace, section, run, gene = (
            self.workspace,
            self.workspace.section,
            self.workspace.run,
            self.workspace.gene,
        )
        if section is None or run is None or gene is None or workspace.view == "subtype":
            return ""
        if gene not in run.genes:
            return f"{gene} is not among the genes that this run predicts."
        if not (run.has_spots and section.measures(gene)):
            return f"{gene} was not measured here, so the prediction cannot be scored."
        r = section.correlation(run, gene)
        if np.isnan(r):
            return f"r is undefined: {gene} does not vary here · {run.protocol}"
        return f"<b>r {two_decimals(r)}</b> · {run.protocol}"

    def _on_theme(self, event: Any = None) -> None:
        from napari.utils.theme import get_theme

        if isalive(self):
            self.model.faint = QColor(get_theme(self.viewer.theme).text.as_hex())
            self.model.faint.setAlpha(150)
            self.list.viewport().update()

    def _on_pointed(self, spot: int | None) -> None:
        if isalive(self):
            nothing = "Point at a spot to read its values."
            self.pointed.setText(nothing if spot is None else self.workspace.describe_spot(spot))

    # -- hands ------------------------------------------------------------------------------

    def _on_chosen(self, index: QModelIndex, _: QModelIndex) -> None:
        if index.isValid():
            self._try(lambda: self.workspace.show_gene(self.model.genes[index.row()]))

    def _on_enter(self) -> None:
        self._fill_genes()
        if self.model.genes:
            self._try(lambda: self.workspace.show_gene(self.model.genes[0]))
        else:
            self.message.say(
                f"No gene of this section is called '{self.search.text()}'; try a part of it."
            )

    def _on_view(self, view: View) -> None:
        self._try(lambda: self.workspace.show(view))
        self._mark_views()

    def _on_run(self, place: int) -> None:
        self._try(lambda: self.workspace.show_run(self.runs.itemData(place)))

    def _on_range(self, values: tuple[float, float]) -> None:
        low, high = (round(value, 1) for value in values)
        if low < high:
            self.workspace.set_percentiles(low, high)

    def _try(self, act: Any) -> None:
        self.message.clear()
        try:
            act()
        except SpotScopeError as error:
            self.message.say(str(error))
