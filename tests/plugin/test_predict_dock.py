from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from spotscope.errors import SpotScopeError
from spotscope.plugin.drawing import workspace_of
from spotscope.plugin.forms import SettingsForm
from spotscope.plugin.model_pages import models_folder
from spotscope.plugin.predict_dock import PredictDock
from spotscope.plugin.script import show_section


class Panel(BaseModel):
    kind: Literal["variance", "mean"] = Field("variance", title="Genes")
    n_genes: int = Field(1000, ge=1, title="Number of genes")


class Settings(BaseModel):
    panel: Panel = Field(default_factory=Panel)
    strength: float = Field(0.001, gt=0, description="How much to shrink")
    intercept: bool = True
    radii: tuple[float, ...] = (250.0, 420.0)
    file: Path | None = None


RECORD = {
    "format": 1,
    "method": "ridge",
    "title": "Ridge",
    "encoder": "stain",
    "training_sections": ["A1"],
    "training_patients": ["A"],
    "notes": ["The model has not learnt."],
}


@pytest.fixture
def dock(qtbot, viewer, fresh, c3):
    """The dock with two sections of patient C open, and one model trained on patient A."""
    folder = models_folder() / "ridge-1"
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text(json.dumps(RECORD))
    made = PredictDock(viewer)
    qtbot.addWidget(made)
    show_section(viewer, c3)
    show_section(viewer, fresh)
    return made


def test_a_form_has_a_field_for_each_setting_and_gives_them_back(qtbot):
    form = SettingsForm(Settings)
    qtbot.addWidget(form)
    assert Settings.model_validate(form.values()) == Settings()


def test_a_form_keeps_to_the_bounds_and_shows_small_values(qtbot):
    from qtpy.QtWidgets import QDoubleSpinBox, QSpinBox

    form = SettingsForm(Settings)
    qtbot.addWidget(form)
    number = form.findChild(QSpinBox)
    number.setValue(-5)
    assert form.values()["panel"]["n_genes"] == 1
    assert form.findChild(QDoubleSpinBox).text().startswith("0.001")


def test_what_was_not_changed_in_a_form_is_left_to_the_model(qtbot):
    from qtpy.QtWidgets import QSpinBox

    form = SettingsForm(Settings, {"intercept": False})
    qtbot.addWidget(form)
    assert form.values() == {"intercept": False}
    form.findChild(QSpinBox).setValue(20)
    assert form.values() == {"intercept": False, "panel": {"n_genes": 20}}


def test_one_line_says_what_will_be_done_on_how_many_spots_and_how_long(dock):
    said = dock.said.text()
    assert said.startswith("Ridge predicts C2 on 602 spots and about")
    assert "Takes " in said
    dock.on_grid.setChecked(False)
    assert "places on the tissue" not in dock.said.text()


def test_a_model_tells_what_it_learnt_from_and_whether_it_learnt(dock):
    about = dock.model_page.about.text()
    assert "Trained on A1 (patient A)" in about
    assert "The model has not learnt." in about


def test_without_a_model_the_dock_says_how_to_get_one(qtbot, viewer, fresh):
    made = PredictDock(viewer)
    qtbot.addWidget(made)
    show_section(viewer, fresh)
    assert not made.start.isEnabled()
    assert "No model was trained here yet" in made.start.toolTip()


def test_a_run_predicts_and_shows_what_it_made(qtbot, dock, viewer, fresh, predict, monkeypatch):
    asked = {}

    def run(model, section, *, stride_um, on_grid, out, progress):
        asked.update(model=model, stride_um=stride_um, out=out)
        return predict(section, "made")

    monkeypatch.setattr("spotscope.jobs.predicting.predict_section", run)
    workspace = workspace_of(viewer)
    workspace.predict_asked.emit()
    assert not dock.start.isEnabled()
    qtbot.waitUntil(lambda: not dock.job_bar.running, timeout=20_000)
    assert (workspace.run.id, workspace.view) == ("made", "predicted")
    assert workspace.gene in workspace.run.genes
    assert asked["model"] == models_folder() / "ridge-1"
    assert "Predicted 12 genes of C2" in dock.message.text
    assert "held-out patient" in dock.message.text
    assert dock.start.isEnabled()


def test_a_chosen_gene_that_is_not_predicted_is_said(
    qtbot, dock, viewer, fresh, predict, monkeypatch
):
    monkeypatch.setattr(
        "spotscope.jobs.predicting.predict_section",
        lambda _, section, **__: predict(section, "made"),
    )
    workspace = workspace_of(viewer)
    workspace.show_gene("GENE30")
    dock.start.click()
    qtbot.waitUntil(lambda: not dock.job_bar.running, timeout=20_000)
    assert "GENE30 is not among the genes that the model predicts" in dock.message.text
    assert workspace.view == "predicted"


def test_time_and_memory_are_measured_while_the_dock_is_seen(qtbot, dock, monkeypatch):
    from spotscope.jobs.estimating import Estimate

    asked = []

    def estimate(plan, progress):
        asked.append(plan.stride_um)
        return Estimate(602, 602, 120.0, 2.5e9)

    monkeypatch.setattr(dock.estimator, "_work", estimate)
    dock.on_grid.setChecked(False)
    qtbot.wait(700)
    assert not asked
    dock.show()
    qtbot.waitUntil(lambda: "2.5 GB of memory" in dock.said.text(), timeout=5000)
    assert "Takes about 2 min" in dock.said.text()
    assert asked == [None]


def test_an_error_is_shown_in_place_with_details(qtbot, dock, monkeypatch):
    def run(*_, **__):
        raise SpotScopeError("The disk is full.")

    monkeypatch.setattr("spotscope.jobs.predicting.predict_section", run)
    dock.start.click()
    qtbot.waitUntil(lambda: not dock.job_bar.running, timeout=20_000)
    assert dock.message.text == "The disk is full."
    assert not dock.message.button.isHidden()
    assert dock.start.isEnabled()


def test_cancel_stops_the_run_within_a_second(qtbot, dock, monkeypatch):
    import time

    def run(*_, progress, **__):
        while True:
            progress.report(0.2, "Encoding")
            time.sleep(0.1)

    monkeypatch.setattr("spotscope.jobs.predicting.predict_section", run)
    dock.start.click()
    qtbot.waitUntil(lambda: dock.job_bar.bar.value() > 0, timeout=20_000)
    dock.job_bar.button.click()
    qtbot.waitUntil(lambda: not dock.job_bar.running, timeout=1000)
    assert dock.message.text == "Predicting C2 was stopped."


def test_a_folder_that_is_no_model_is_refused_in_a_sentence(dock, tmp_path):
    with pytest.raises(SpotScopeError, match="is no model"):
        dock.model_page.add_model(tmp_path)
