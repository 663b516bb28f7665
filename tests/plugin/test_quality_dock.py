from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

from spotscope.plugin.drawing import workspace_of
from spotscope.plugin.quality_dock import QualityDock, score
from spotscope.plugin.script import show_gene, show_section
from spotscope.progress import Progress


@pytest.fixture
def dock(qtbot, viewer, c2):
    made = QualityDock(viewer)
    qtbot.addWidget(made)
    show_section(viewer, c2)
    qtbot.waitUntil(lambda: made.model.quality is not None, timeout=20_000)
    return made


def column(dock, place):
    return [
        dock.sorted.index(row, place).data(Qt.ItemDataRole.DisplayRole)
        for row in range(dock.sorted.rowCount())
    ]


def test_each_gene_is_scored_over_the_spots(c2):
    run = c2.runs[0]
    quality = score(c2, run, Progress())
    row = quality.genes.index("ERBB2")
    measured, predicted = c2.measured("ERBB2"), c2.predicted(run, "ERBB2")
    assert quality.r[row] == pytest.approx(np.corrcoef(measured, predicted)[0, 1], abs=1e-6)
    assert quality.error[row] == pytest.approx(np.abs(measured - predicted).mean(), abs=1e-6)
    assert set(quality.genes) == set(run.genes)


def test_the_best_gene_comes_first_and_figures_have_two_decimals(dock):
    r = column(dock, 1)
    assert r == sorted(r, reverse=True)
    assert all(len(figure.split(".")[1]) == 2 for figure in r)


def test_a_click_on_a_column_sorts_by_its_values(dock):
    dock.table.sortByColumn(3, Qt.SortOrder.AscendingOrder)
    errors = [float(figure) for figure in column(dock, 3)]
    assert errors == sorted(errors)
    dock.table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
    assert column(dock, 0) == sorted(column(dock, 0))


def test_an_undefined_figure_is_said_and_sorted_last(dock):
    dock.model.quality.r[3] = np.nan
    dock.model.show(dock.model.quality)
    dock.sorted.sort(1, Qt.SortOrder.DescendingOrder)
    assert column(dock, 1)[-1] == "undefined"


def test_a_click_on_a_row_draws_the_gene(dock, viewer):
    row = column(dock, 0).index("MS4A1")
    dock.table.selectRow(row)
    assert workspace_of(viewer).gene == "MS4A1"


def test_a_gene_chosen_elsewhere_is_marked_and_plotted(dock, viewer, c2):
    show_gene(viewer, "ERBB2")
    row = dock.table.currentIndex().row()
    assert column(dock, 0)[row] == "ERBB2"
    x, y = dock._dots.getData()
    np.testing.assert_allclose(x, c2.measured("ERBB2"))
    np.testing.assert_allclose(y, c2.predicted(c2.runs[0], "ERBB2"))
    assert "held-out patient" in dock.scatter.plotItem.titleLabel.text


def test_the_summary_says_the_protocol(dock):
    assert "over 12 genes" in dock.summary.text()
    assert dock.summary.text().endswith("held-out patient")


def test_without_a_prediction_there_are_no_empty_axes(qtbot, viewer, c3):
    dock = QualityDock(viewer)
    qtbot.addWidget(dock)
    show_section(viewer, c3)
    assert dock.split.isHidden()
    assert "make one in Predict" in dock.summary.text()


def test_it_folds_away(dock):
    dock.fold.setChecked(True)
    assert dock.split.isHidden()
    dock.fold.setChecked(False)
    assert not dock.split.isHidden()
