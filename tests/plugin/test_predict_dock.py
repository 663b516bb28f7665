from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from spotscope.errors import SpotScopeError
from spotscope.plugin.drawing import workspace_of
from spotscope.plugin.forms import SettingsForm
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


METHOD = SimpleNamespace(
    title="Ridge regression", summary="linear and quick", Settings=Settings, uses_encoder=True
)
ENCODERS = [
    SimpleNamespace(spec="stain", title="stain statistics", at_hand=True),
    SimpleNamespace(spec="resnet50", title="ResNet-50", at_hand=False),
]


@pytest.fixture
def dock(qtbot, viewer, fresh, c2, c3, monkeypatch):
    """The dock with a section of patient C and one of patient A open, and one method."""
    monkeypatch.setattr(
        "spotscope.plugin.predict_dock._methods_and_encoders",
        lambda progress: ({"ridge": METHOD}, ENCODERS),
    )
    made = PredictDock(viewer)
    qtbot.addWidget(made)
    c3.section.patient = "A"
    show_section(viewer, c3)
    show_section(viewer, fresh)
    made.train_page.show_methods({"ridge": METHOD}, ENCODERS)
    yield made
    c3.section.patient = "C"


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


def test_training_is_proposed_on_other_patients(dock):
    assert [one["name"] for one in dock.train_page.chosen()] == ["C3"]


def test_only_encoders_that_can_run_are_offered(dock):
    box = dock.train_page.encoder
    assert [box.itemText(i) for i in range(box.count())] == ["stain"]


def test_one_line_says_what_will_be_done_on_how_many_spots_and_how_long(dock):
    said = dock.said.text()
    assert said.startswith("Trains Ridge regression on section C3 of patient A (602 spots), then")
    assert "predicts C2 on 602 spots and about" in said
    assert "Takes " in said
    dock.on_grid.setChecked(False)
    assert "places on the tissue" not in dock.said.text()


def test_a_run_that_cannot_start_says_why(dock):
    from qtpy.QtCore import Qt

    for row in range(dock.train_page.sections.count()):
        dock.train_page.sections.item(row).setCheckState(Qt.CheckState.Unchecked)
    assert not dock.start.isEnabled()
    assert dock.start.toolTip() == "Choose at least one section to train on."
    dock.use.setChecked(True)
    assert "No model was trained here yet" in dock.start.toolTip()


def test_a_run_trains_predicts_and_shows_what_it_made(
    qtbot, dock, viewer, fresh, predict, monkeypatch
):
    asked = {}

    def train(method, sections, out, *, encoder, settings, progress):
        asked.update(method=method, sections=sections, encoder=encoder, settings=settings)
        return out

    def run(model, section, *, stride_um, on_grid, out, progress):
        asked.update(model=model, stride_um=stride_um, out=out)
        return predict(section, "made")

    monkeypatch.setattr("spotscope.jobs.training.train_model", train)
    monkeypatch.setattr("spotscope.jobs.predicting.predict_section", run)
    dock.start.click()
    assert not dock.start.isEnabled()
    qtbot.waitUntil(lambda: not dock.job_bar.running, timeout=20_000)
    workspace = workspace_of(viewer)
    assert (workspace.run.id, workspace.view) == ("made", "predicted")
    assert workspace.gene in workspace.run.genes
    assert asked["method"] == "ridge"
    assert asked["settings"] == dock.train_page.form.values()
    assert [path.name for path in asked["sections"]] == ["C3.zarr"]
    assert "Predicted 12 genes of C2" in dock.message.text
    assert "held-out patient" in dock.message.text
    assert dock.start.isEnabled()


def test_an_error_is_shown_in_place_with_details(qtbot, dock, monkeypatch):
    def train(*_, **__):
        raise SpotScopeError("The disk is full.")

    monkeypatch.setattr("spotscope.jobs.training.train_model", train)
    dock.start.click()
    qtbot.waitUntil(lambda: not dock.job_bar.running, timeout=20_000)
    assert dock.message.text == "The disk is full."
    assert not dock.message.button.isHidden()
    assert dock.start.isEnabled()


def test_cancel_stops_the_run_within_a_second(qtbot, dock, monkeypatch):
    import time

    def train(*_, progress, **__):
        while True:
            progress.report(0.2, "Encoding")
            time.sleep(0.1)

    monkeypatch.setattr("spotscope.jobs.training.train_model", train)
    dock.start.click()
    qtbot.waitUntil(lambda: dock.job_bar.bar.value() > 0, timeout=20_000)
    dock.job_bar.button.click()
    qtbot.waitUntil(lambda: not dock.job_bar.running, timeout=1000)
    assert dock.message.text == "Training and predicting C2 was stopped."


def test_a_folder_that_is_no_model_is_refused_in_a_sentence(dock, tmp_path):
    with pytest.raises(SpotScopeError, match="is no model"):
        dock.model_page.add_model(tmp_path)
