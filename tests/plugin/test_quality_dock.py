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


def test_subtypes_means_are_drawn_in_their_colours_and_say_what_they_are(dock, viewer, c2):
    show_gene(viewer, "ERBB2")
    names, codes = c2.subtypes
    measured, predicted = c2.measured("ERBB2"), c2.predicted(c2.runs[0], "ERBB2")
    drawn = {point.data().name: point for point in dock._marks.dots.points()}
    assert set(drawn) == set(names)
    palette = dock.workspace.colours.colours(names)
    for code, name in enumerate(names):
        here = codes == code
        at = drawn[name].pos()
        assert at.x() == pytest.approx(measured[here].mean(), abs=1e-6)
        assert at.y() == pytest.approx(predicted[here].mean(), abs=1e-6)
        assert drawn[name].brush().color().name() == palette[name]
    said = dock._marks.dots.opts["tip"](x=0, y=0, data=drawn["invasive cancer"].data())
    assert said.startswith("invasive cancer, mean of ")


def test_two_subtypes_have_no_correlation_and_three_have():
    from spotscope.plugin.region_marks import Average, said

    three = [Average(name, 9, x, 2 * x) for name, x in (("a", 1.0), ("b", 2.0), ("c", 4.0))]
    assert said(three[:2]) == ""
    assert said(three) == "means of 3 subtypes: r 1.00"


def test_labels_that_change_move_the_means(dock, viewer, c2):
    show_gene(viewer, "ERBB2")
    workspace = workspace_of(viewer)
    before = c2.subtypes
    try:
        c2.show_labels(["stroma"], np.zeros(c2.n_spots, np.intp))
        workspace.tell("annotations")
        (point,) = dock._marks.dots.points()
        assert point.pos().x() == pytest.approx(c2.measured("ERBB2").mean(), abs=1e-6)
    finally:
        c2.show_labels(*before)


def test_a_gene_that_the_run_does_not_predict_is_said_instead_of_an_empty_plot(dock, viewer, c2):
    run = workspace_of(viewer).run
    show_gene(viewer, next(gene for gene in c2.genes if gene not in run.genes))
    assert "is not predicted by this run" in dock.scatter.plotItem.titleLabel.text
    assert not dock.scatter.getAxis("left").isVisible()
    show_gene(viewer, run.genes[0])
    assert run.genes[0] in dock.scatter.plotItem.titleLabel.text
    assert dock.scatter.getAxis("left").isVisible()
