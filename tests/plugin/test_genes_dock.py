from __future__ import annotations

import pytest

from spotscope.plugin.drawing import workspace_of
from spotscope.plugin.genes_dock import GenesDock
from spotscope.plugin.script import show_gene, show_section


@pytest.fixture
def dock(qtbot, viewer, c2):
    made = GenesDock(viewer)
    qtbot.addWidget(made)
    show_section(viewer, c2)
    return made


def listed(dock):
    return dock.model.genes


def test_until_a_section_is_open_there_is_one_sentence_and_three_buttons(qtbot, viewer):
    from qtpy.QtWidgets import QLabel, QPushButton

    dock = GenesDock(viewer)
    qtbot.addWidget(dock)
    page = dock._stack.currentWidget()
    labels = [label.text() for label in page.findChildren(QLabel) if label.text()]
    assert labels == ["Open a section to see its genes on the slide."]
    names = [b.text() for b in page.findChildren(QPushButton) if not b.isHidden()]
    assert names[:3] == ["Open slide or section …", "Open sample study", "Recent"]


def test_what_is_typed_narrows_the_list_and_enter_takes_the_best(dock, viewer):
    dock.search.setText("HER2")
    dock._on_enter()
    assert listed(dock) == ["ERBB2"]
    assert workspace_of(viewer).gene == "ERBB2"
    assert dock.list.currentIndex().row() == 0


def test_a_gene_that_does_not_exist_is_said_in_the_dock(dock, viewer):
    dock.search.setText("NOSUCH")
    dock._on_enter()
    assert "NOSUCH" in dock.message.text
    assert workspace_of(viewer).gene is None


def test_choosing_in_the_list_draws_and_choosing_elsewhere_marks_the_list(dock, viewer):
    dock.list.setCurrentIndex(dock.model.index(listed(dock).index("MS4A1")))
    assert workspace_of(viewer).gene == "MS4A1"
    show_gene(viewer, "ERBB2")
    assert listed(dock)[dock.list.currentIndex().row()] == "ERBB2"


def test_a_view_that_is_off_says_why(qtbot, viewer, c3):
    dock = GenesDock(viewer)
    qtbot.addWidget(dock)
    show_section(viewer, c3)
    assert not dock.buttons["predicted"].isEnabled()
    assert "make one in Predict" in dock.buttons["predicted"].toolTip()
    assert dock.buttons["measured"].isEnabled()
    assert dock.buttons["subtype"].isHidden()


def test_the_buttons_show_and_choose_the_view(dock, viewer):
    show_gene(viewer, "ERBB2")
    dock.buttons["error"].click()
    assert workspace_of(viewer).view == "error"
    workspace_of(viewer).show("predicted")
    assert [view for view, button in dock.buttons.items() if button.isChecked()] == ["predicted"]


def test_r_is_said_with_two_decimals_and_its_protocol(dock, viewer, c2):
    show_gene(viewer, "ERBB2", "predicted")
    r = c2.correlation(c2.runs[0], "ERBB2")
    assert dock.score.text() == f"<b>r {r:.2f}</b> · held-out patient"
    show_gene(viewer, "ACTB", "measured")
    assert "not among the genes" in dock.score.text()


def test_the_colour_bar_names_gene_view_and_unit(dock, viewer):
    show_gene(viewer, "ERBB2", "error")
    assert dock.bar.toolTip().startswith("ERBB2 · predicted − measured, log1p CP10k: ")
    assert dock.bar._ends == ("too low", "too high")
    show_gene(viewer, "ERBB2", "measured")
    assert dock.bar.toolTip().startswith("ERBB2 · measured, log1p CP10k: ")
    show_gene(viewer, "ERBB2", "predicted")
    assert dock.bar.toolTip().startswith("ERBB2 · map predicted, spots measured, log1p CP10k: ")


def test_the_slider_sets_the_percentiles_of_the_gene(dock, viewer):
    show_gene(viewer, "ERBB2")
    dock.slider.setValue((10, 80))
    assert workspace_of(viewer).percentiles == (10, 80)
    show_gene(viewer, "MS4A1")
    assert dock.slider.value() == (1, 99)
    show_gene(viewer, "ERBB2")
    assert dock.slider.value() == (10, 80)
    dock.reset.click()
    assert workspace_of(viewer).percentiles == (1, 99)


def test_the_legend_lists_the_subtypes_with_their_numbers(dock, viewer, c2):
    from qtpy.QtWidgets import QLabel

    workspace_of(viewer).show("subtype")
    said = [label.text() for label in dock.legend.findChildren(QLabel)]
    names, codes = c2.subtypes
    for place, name in enumerate(names):
        assert said[said.index(name) + 1] == f"{(codes == place).sum():,}"
    assert said[said.index("unlabelled") + 1] == "5"
    assert not dock.legend.isHidden()
    show_gene(viewer, "ERBB2", "measured")
    assert dock.legend.isHidden()


def test_the_list_of_predictions_chooses_the_run(qtbot, viewer, fresh, predict):
    predict(fresh.section, "one")
    predict(fresh.section, "two", patients=("C",))
    fresh.read_runs()
    dock = GenesDock(viewer)
    qtbot.addWidget(dock)
    show_section(viewer, fresh)
    show_gene(viewer, "ERBB2", "predicted")
    for run_id, protocol in (("one", "held-out patient"), ("two", "held-out section")):
        place = dock.runs.findData(run_id)
        dock.runs.setCurrentIndex(place)
        dock.runs.activated.emit(place)
        assert workspace_of(viewer).run.id == run_id
        assert protocol in dock.score.text()
