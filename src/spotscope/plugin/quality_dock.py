"""Quality: genes by how well they are predicted, the scatter of one, the histogram of all."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.compat import isalive
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSortFilterProxyModel, Qt, QTimer
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QSplitter,
    QTableView,
    QToolButton,
)

from spotscope.errors import SpotScopeError
from spotscope.plugin.colours import UNIT
from spotscope.plugin.docks import give_height
from spotscope.plugin.plots import colour_plots, make_plot
from spotscope.plugin.region_marks import RegionMarks, averages, said
from spotscope.plugin.widgets import Dock, two_decimals, wrapped

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from numpy.typing import NDArray

    from spotscope.data.runs import Run
    from spotscope.plugin.opened import OpenSection
    from spotscope.progress import Progress

_SCATTER_SPOTS = 5_000
_ALONE, _BEHIND = 150, 70  # opacity of the spots, of 255
_FOLDED_BELOW_PX = 850
_FOLDED_HEIGHT_PX, _ANY_HEIGHT = 64, 16_777_215


@dataclass(frozen=True)
class Quality:
    """Scores of a run on its section, one row a gene.

    Attributes
    ----------
    run_id
        Whose they are.
    genes
        Predicted and measured.
    r, rho
        Pearson's and Spearman's correlation, NaN where undefined.
    error
        Mean absolute error, log1p CP10k.
    mean
        Of the measured values, log1p CP10k.
    """

    run_id: str
    genes: list[str]
    r: NDArray[np.float64]
    rho: NDArray[np.float64]
    error: NDArray[np.float64]
    mean: NDArray[np.float64]


def score(opened: OpenSection, run: Run, progress: Progress) -> Quality:
    """Score each gene of a run over the spots of its section."""
    from spotscope.evaluate.metrics import pearson, spearman

    genes = [gene for gene in run.genes if opened.measures(gene)]
    rows = []
    for gene in progress.track(genes, "Scoring genes"):
        predicted = opened.predicted(run, gene)[:, None]
        measured = opened.measured(gene)[:, None]
        rows.append(
            (
                pearson(predicted, measured)[0],
                spearman(predicted, measured)[0],
                np.abs(predicted - measured).mean(),
                measured.mean(),
            )
        )
    figures = np.asarray(rows, np.float64).reshape(-1, 4).T
    return Quality(run.id, genes, *figures)


class QualityModel(QAbstractTableModel):
    """The scores as a table."""

    COLUMNS = (
        ("Gene", "Gene"),
        ("r", "Pearson's correlation of measured and predicted over the spots"),
        ("rank r", "Spearman's correlation"),
        ("Error", f"Mean absolute error, {UNIT}"),
        ("Mean", f"Mean of the measured values, {UNIT}"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.quality: Quality | None = None

    def show(self, quality: Quality | None) -> None:
        """Show these scores."""
        self.beginResetModel()
        self.quality = quality
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return how many genes there are."""
        return len(self.quality.genes) if self.quality else 0

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Return how many columns there are."""
        return len(self.COLUMNS)

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:
        """Return the titles and what they mean."""
        if orientation == Qt.Orientation.Horizontal:
            if role == Qt.ItemDataRole.DisplayRole:
                return self.COLUMNS[section][0]
            if role == Qt.ItemDataRole.ToolTipRole:
                return self.COLUMNS[section][1]
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell says; the user role is what it is sorted by."""
        if not index.isValid() or self.quality is None:
            return None
        value = self.value(index.row(), index.column())
        if role == Qt.ItemDataRole.DisplayRole:
            if isinstance(value, str):
                return value
            return "undefined" if np.isnan(value) else two_decimals(value)
        if role == Qt.ItemDataRole.UserRole:
            # Undefined figures lie below all others.
            return -np.inf if not isinstance(value, str) and np.isnan(value) else value
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column():
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def value(self, row: int, column: int) -> str | float:
        """Return the value of a cell."""
        assert self.quality is not None
        q = self.quality
        if column == 0:
            return q.genes[row]
        return float((q.r, q.rho, q.error, q.mean)[column - 1][row])


class QualityDock(Dock):
    """Shows where the active run can be trusted."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(
            napari_viewer, "Open a section with a prediction to see its quality.", begin_here=False
        )
        self._kept: dict[tuple[str, str], Quality] = {}
        self._pending: tuple[str, str] | None = None
        self.fold = QToolButton()
        self.fold.setCheckable(True)
        self.fold.setAutoRaise(True)
        self.fold.toggled.connect(self._on_fold)
        self.summary = wrapped("")
        head = QHBoxLayout()
        head.addWidget(self.fold)
        head.addWidget(self.summary, 1)
        self.body.setContentsMargins(6, 2, 6, 2)
        self.body.addLayout(head)
        self.body.addWidget(self.job_bar)
        self.body.addWidget(self.message)
        self._build_table()
        self._build_plots()
        self.split = QSplitter(Qt.Orientation.Horizontal)
        for part in (self.table, self.scatter, self.histogram):
            self.split.addWidget(part)
        self.split.setSizes([420, 300, 300])
        self.split.setMinimumHeight(110)
        self.body.addWidget(self.split, 1)
        self.viewer.events.theme.connect(self._on_theme)
        self.fold.setChecked(self._is_low())
        self._on_fold(self.fold.isChecked())
        self._on_theme()
        self.begin()

    def _build_table(self) -> None:
        self.model = QualityModel()
        self.sorted = QSortFilterProxyModel(self)
        self.sorted.setSourceModel(self.model)
        self.sorted.setSortRole(Qt.ItemDataRole.UserRole)
        self.table = QTableView()
        self.table.setModel(self.sorted)
        self.table.setSortingEnabled(True)
        self.table.sortByColumn(1, Qt.SortOrder.DescendingOrder)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.verticalHeader().hide()
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.table.setMinimumWidth(300)
        self.table.selectionModel().currentRowChanged.connect(self._on_row)

    def _build_plots(self) -> None:
        import pyqtgraph as pg

        self.scatter = make_plot()
        self.scatter.setLabel("bottom", f"measured, {UNIT}")
        self.scatter.setLabel("left", f"predicted, {UNIT}")
        self._equal = self.scatter.plot([], [])
        self._dots = pg.ScatterPlotItem(size=5, pen=None)
        self.scatter.addItem(self._dots)
        self._marks = RegionMarks(self.scatter)
        self.histogram = make_plot()
        self.histogram.setLabel("bottom", "r")
        self.histogram.setLabel("left", "genes")
        self._bars = pg.BarGraphItem(x=[0], height=[0], width=0.05)
        self.histogram.addItem(self._bars)
        self._mark = pg.InfiniteLine(angle=90)
        self.histogram.addItem(self._mark)
        for plot in (self.scatter, self.histogram):
            plot.setMinimumWidth(180)

    # -- following the workspace ------------------------------------------------------------

    def update_from(self, what: frozenset[str]) -> None:
        """Follow the workspace."""
        if what & {"section", "run", "runs"}:
            self._show_run()
        if what & {"section", "run", "gene", "annotations"}:
            self._show_gene()

    def _show_run(self) -> None:
        section, run = self.workspace.section, self.workspace.run
        assert section is not None
        quality = None
        if run is None:
            self.summary.setText("No prediction of this section yet; make one in Predict.")
        elif not (run.has_spots and section.section.has_spots):
            self.summary.setText("Nothing was measured here, so this prediction has no scores.")
        else:
            key = (section.key, run.id)
            quality = self._kept.get(key)
            if quality is None and self._pending != key:
                self._pending = key
                self.summary.setText("Scoring the prediction …")
                job = self.run_job(
                    "Scoring the prediction",
                    lambda progress: (key, score(section, run, progress)),
                    self._on_scored,
                )
                job.ended.connect(self._fit)
        self.model.show(quality)
        self._fit()
        if quality is not None:
            self._summarise(quality, run)

    def _on_scored(self, outcome: tuple[tuple[str, str], Quality]) -> None:
        key, quality = outcome
        self._kept[key] = quality
        self._pending = None
        self._show_run()
        self._show_gene()

    def _summarise(self, quality: Quality, run: Run | None) -> None:
        assert run is not None
        undefined = int(np.isnan(quality.r).sum())
        median = float(np.nanmedian(quality.r)) if undefined < len(quality.r) else float("nan")
        text = f"{run.title} · median r {two_decimals(median)} over {len(quality.genes):,} genes"
        if undefined:
            text += f" ({undefined} undefined)"
        self.summary.setText(f"{text} · {run.protocol}")
        defined = quality.r[np.isfinite(quality.r)]
        counts, edges = np.histogram(defined, bins=np.linspace(-1, 1, 41))
        self._bars.setOpts(x=(edges[:-1] + edges[1:]) / 2, height=counts, width=0.045)
        used = np.flatnonzero(counts)
        low, high = (edges[used[0]], edges[used[-1] + 1]) if used.size else (-1.0, 1.0)
        self.histogram.setXRange(min(low, 0), max(high, 0.1), padding=0.02)
        self.histogram.setYRange(0, max(int(counts.max()), 1), padding=0.04)
        self.histogram.getAxis("bottom").setLabel(f"r of {len(defined):,} genes")

    def _show_gene(self) -> None:
        section, run, gene = self.workspace.section, self.workspace.run, self.workspace.gene
        quality = self.model.quality
        if quality is None or section is None or run is None or gene not in quality.genes:
            self._dots.setData([], [])
            self._equal.setData([], [])
            self._marks.show([], {}, self._text_colour)
            self._mark.hide()
            self._show_axes(False)
            asked = "Choose a gene in the table"
            if gene is not None and quality is not None:
                asked = f"{gene} is not predicted by this run;<br>choose a gene in the table"
            self.scatter.setTitle(asked, size="9pt", color=self._text_colour)
            return
        self._show_axes(True)
        row = quality.genes.index(gene)
        measured, predicted = section.measured(gene), section.predicted(run, gene)
        means = averages(section, measured, predicted)
        if len(measured) > _SCATTER_SPOTS:
            shown = np.random.default_rng(0).choice(len(measured), _SCATTER_SPOTS, replace=False)
            measured, predicted = measured[shown], predicted[shown]
        self._dots.setData(measured, predicted)
        low = float(min(measured.min(), predicted.min(), 0))
        high = float(max(measured.max(), predicted.max(), low + 0.1))
        self._equal.setData([low, high], [low, high])
        self.scatter.setXRange(low, high, padding=0.03)
        self.scatter.setYRange(low, high, padding=0.03)
        names = section.subtypes[0] if section.subtypes else []
        self._marks.show(means, self.workspace.colours.colours(names), self._text_colour)
        self._dots.setBrush(_cloud(_BEHIND if means else _ALONE))
        r = quality.r[row]
        figure = "r undefined" if np.isnan(r) else f"r {two_decimals(r)}"
        title = "<br>".join(filter(None, [f"{gene} · {figure} · {run.protocol}", said(means)]))
        self.scatter.setTitle(title, size="9pt", color=self._text_colour)
        self._mark.setVisible(bool(np.isfinite(r)))
        if np.isfinite(r):
            self._mark.setValue(r)
        index = self.sorted.mapFromSource(self.model.index(row, 0))
        if self.table.currentIndex().row() != index.row():
            before = self.table.selectionModel().blockSignals(True)
            self.table.selectRow(index.row())
            self.table.selectionModel().blockSignals(before)
            self.table.viewport().update()
        self.table.scrollTo(index)

    def _show_axes(self, shown: bool) -> None:
        """Show the scatter's axes, which alone would look like a plot without spots."""
        for side in ("left", "bottom"):
            self.scatter.showAxis(side, shown)

    # -- hands ------------------------------------------------------------------------------

    def _on_row(self, index: QModelIndex, _: QModelIndex) -> None:
        if not index.isValid() or self.model.quality is None:
            return
        gene = self.model.quality.genes[self.sorted.mapToSource(index).row()]
        if gene != self.workspace.gene:
            try:
                self.workspace.show_gene(gene)
            except SpotScopeError as error:
                self.message.say(str(error))

    def _on_fold(self, folded: bool) -> None:
        self.fold.setArrowType(Qt.ArrowType.RightArrow if folded else Qt.ArrowType.DownArrow)
        self.fold.setToolTip("Show the table and the plots" if folded else "Fold away")
        self._fit()

    def _fit(self) -> None:
        """Take no more height than there is to show."""
        filled = self.model.quality is not None
        shown = filled and not self.fold.isChecked()
        opens = shown and self.split.isHidden()
        self.fold.setVisible(filled)
        self.split.setVisible(shown)
        folded = (
            _FOLDED_HEIGHT_PX + self.job_bar.isVisibleTo(self) * self.job_bar.sizeHint().height()
        )
        self.setMaximumHeight(_ANY_HEIGHT if shown else folded)
        if opens:
            # Once the frame knows that it may be higher, or it keeps the height of the folded one.
            QTimer.singleShot(0, self._give_height)

    def _give_height(self) -> None:
        if isalive(self) and self.split.isVisible():
            give_height(self)

    def _is_low(self) -> bool:
        from qtpy.QtWidgets import QApplication

        screen = QApplication.primaryScreen()
        return screen is not None and screen.availableGeometry().height() < _FOLDED_BELOW_PX

    def _on_theme(self, event: Any = None) -> None:
        import pyqtgraph as pg

        if not isalive(self):
            return
        back, text = colour_plots(self.viewer, (self.scatter, self.histogram))
        self._text_colour = text
        if self.scatter.plotItem.titleLabel.text:
            self.scatter.setTitle(self.scatter.plotItem.titleLabel.text, size="9pt", color=text)
        self._dots.setBrush(_cloud(_BEHIND if len(self._marks.dots.data) else _ALONE))
        self._equal.setPen(pg.mkPen(text, width=1, style=Qt.PenStyle.DashLine))
        self._bars.setOpts(brush=pg.mkColor("#56b4e9"), pen=pg.mkPen(back))
        self._mark.setPen(pg.mkPen("#e69f00", width=2))


def _cloud(opacity: int) -> Any:
    import pyqtgraph as pg

    blue = pg.mkColor("#56b4e9")
    blue.setAlpha(opacity)
    return blue
