from __future__ import annotations

import json
import math
import time
from types import SimpleNamespace
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from spotscope.errors import SpotScopeError
from spotscope.jobs.estimating import Estimate
from spotscope.jobs.opening import Listed
from spotscope.plugin.drawing import workspace_of
from spotscope.plugin.script import show_section
from spotscope.plugin.section_tree import SectionTree
from spotscope.plugin.train_dock import TrainDock


class Settings(BaseModel):
    trainable: Literal["all", "none"] = "all"
    epochs: int = Field(4, ge=1)
    device: str = "auto"
    paper_compat: bool = False


class Plain(BaseModel):
    strength: float = 1.0


METHODS = {
    "bleep": SimpleNamespace(
        title="BLEEP", summary="a contrastive pair", Settings=Settings, uses_encoder=True
    ),
    "mean": SimpleNamespace(title="Mean", summary="the mean", Settings=Plain, uses_encoder=False),
}
ENCODERS = [
    SimpleNamespace(spec="stain", title="stain statistics", at_hand=True),
    SimpleNamespace(spec="resnet50", title="ResNet-50", at_hand=False),
]
DEVICES = {"cuda:0": "A fast card", "cpu": "Processor"}


@pytest.fixture
def dock(qtbot, viewer, fresh, c3, monkeypatch):
    """The dock with a section of patient C and one of patient A open."""
    found = (METHODS, ENCODERS, DEVICES)
    monkeypatch.setattr("spotscope.plugin.train_dock._what_there_is", lambda progress: found)
    monkeypatch.setattr(
        "spotscope.plugin.train_dock._estimated",
        lambda plan, progress: Estimate(602, 602, 120.0, 2.5e9),
    )
    c3.section.patient = "A"
    show_section(viewer, c3)
    made = TrainDock(viewer)
    qtbot.addWidget(made)
    show_section(viewer, fresh)
    made.page.show_methods(*found)
    made.page.method.setCurrentIndex(0)
    yield made
    c3.section.patient = "C"


def told(epoch, **more):
    chance = math.log(32)
    return {"epochs_done": epoch, "loss": chance - epoch / 10, "chance": chance, **more}


def finished(qtbot, dock):
    qtbot.waitUntil(lambda: not dock.job_bar.running, timeout=20_000)


@pytest.fixture
def tree(qtbot, tmp_path):
    """Two patients with two sections each."""
    made = SectionTree()
    qtbot.addWidget(made)
    sections = [Listed(tmp_path / n, n, n[0], 100) for n in ("A1", "A2", "B1", "B2")]
    made.show_sections(sections, tmp_path / "A1", {one.path for one in sections[2:]})
    return made


def test_sections_stand_under_their_patient(tree):
    assert [one.text(0) for one in tree._patients()] == ["Patient A", "Patient B"]
    assert [one.name for one in tree.chosen()] == ["B1", "B2"]
    assert tree.validating() == []


def test_a_patient_is_never_both_trained_and_validated_on(tree):
    tree.choose(["A1", "B1", "B2"], validate=["B"])
    assert [one.name for one in tree.chosen()] == ["A1"]
    assert [one.name for one in tree.validating()] == ["B1", "B2"]


def test_marking_a_patient_marks_its_sections(tree):
    from qtpy.QtCore import Qt

    tree._patients()[0].setCheckState(0, Qt.CheckState.Checked)
    assert [one.name for one in tree.chosen()] == ["A1", "A2", "B1", "B2"]


def test_training_is_proposed_on_other_patients(dock):
    assert [one.name for one in dock.page.sections.chosen()] == ["C3"]


def test_only_encoders_and_devices_that_can_be_used_are_offered(dock):
    boxes = dock.page.encoder, dock.page.device
    offered = [[box.itemText(i) for i in range(box.count())] for box in boxes]
    assert offered == [["stain"], ["A fast card", "Processor"]]
    assert dock.page.plan().settings["device"] == "cuda:0"


def test_a_preset_sets_the_form_and_a_change_is_marked(dock):
    page = dock.page
    assert [page.preset.itemText(i).split()[0] for i in range(page.preset.count())] == [
        "Recommended",
        "Quick",
        "As",
    ]
    page.preset.setCurrentIndex(1)
    assert page.plan().settings == {"trainable": "none", "device": "cuda:0"}
    assert page.settings.text() == "Settings"
    from qtpy.QtWidgets import QSpinBox

    page.form.findChild(QSpinBox).setValue(9)
    assert page.settings.text() == "Settings (changed)"
    assert page.plan().settings["epochs"] == 9


def test_a_method_without_a_device_or_presets_offers_none(dock):
    dock.page.method.setCurrentIndex(1)
    assert not dock.page.device.isEnabled()
    assert dock.page.preset.count() == 1
    assert "device" not in dock.page.plan().settings


def test_one_line_says_what_it_will_take(qtbot, dock):
    dock.show()
    finished(qtbot, dock)
    dock.page.edited.emit()
    qtbot.waitUntil(lambda: "Takes" in dock.said.text(), timeout=5000)
    assert dock.said.text().startswith(
        "Trains BLEEP on section C3 of patient A (602 spots). Takes about 2 min and 2.5 GB"
    )


def test_a_training_that_cannot_start_says_why(dock):
    dock.page.sections.choose([])
    assert not dock.start.isEnabled()
    assert dock.start.toolTip() == "Choose at least one section to train on."


def test_a_section_that_is_learnt_from_is_not_predicted_afterwards(dock):
    assert dock.then.isEnabled()
    dock.page.sections.choose(["C2", "C3"])
    assert not dock.then.isEnabled()
    assert "learnt from" in dock.then.toolTip()


def test_a_training_draws_its_curves_and_hands_the_model_on(qtbot, dock, viewer, monkeypatch):
    asked = {}

    def train(method, sections, out, *, encoder, settings, validation, progress):
        asked.update(method=method, sections=sections, validation=validation)
        for epoch in range(1, 5):
            progress.report(epoch / 4, "", **told(epoch, top1=0.1, top5=0.3, val_loss=3.4))
        out.mkdir(parents=True)
        about = {"method": "bleep", "notes": ["The model has not learnt: its loss is chance."]}
        (out / "provenance.json").write_text(json.dumps(about))
        return out

    monkeypatch.setattr("spotscope.jobs.training.train_model", train)
    dock.start.click()
    assert dock.pages.currentWidget() is dock.board
    finished(qtbot, dock)
    assert asked["method"] == "bleep"
    assert [path.name for path in asked["sections"]] == ["C3.zarr"]
    assert asked["validation"] is None
    drawn = dock.board._lines["val_loss"].getData()
    assert list(drawn[0]) == [1, 2, 3, 4]
    assert not dock.board.share.isHidden()
    assert "The model has not learnt" in dock.message.text
    assert workspace_of(viewer).model.name.startswith("bleep-")
    assert dock.start.isHidden()
    dock.again.click()
    assert dock.pages.currentWidget() is dock.page
    assert not dock.start.isHidden()


def test_cancel_keeps_the_state_and_says_how_to_go_on(qtbot, dock, monkeypatch):
    def train(*_, progress, **__):
        at = 0.0
        while True:
            at += 0.1
            progress.report(0.2, "Epoch 1", **told(at))
            time.sleep(0.05)

    monkeypatch.setattr("spotscope.jobs.training.train_model", train)
    dock.start.click()
    qtbot.waitUntil(lambda: dock.board.epochs > 0.3, timeout=20_000)
    dock.job_bar.button.click()
    qtbot.waitUntil(lambda: not dock.job_bar.running, timeout=1000)
    assert "Its last state is kept" in dock.message.text
    assert dock.start.text() == "Go on training"
    assert not dock.start.isHidden()
    dock.page.sections.choose(["C2"])
    assert dock.start.text() == "Train"


def test_an_error_brings_the_settings_back_and_is_said_there(qtbot, dock, monkeypatch):
    def train(*_, **__):
        raise SpotScopeError("There are 7 spots to train on and at least 20 are needed.")

    monkeypatch.setattr("spotscope.jobs.training.train_model", train)
    dock.start.click()
    finished(qtbot, dock)
    assert dock.message.text.startswith("There are 7 spots")
    assert dock.pages.currentWidget() is dock.page


def test_a_method_without_curves_shows_no_empty_plots(qtbot, dock, monkeypatch):
    def train(*args, progress, **__):
        progress.report(0.5, "Solving")
        args[2].mkdir(parents=True)
        (args[2] / "provenance.json").write_text('{"method": "mean"}')
        return args[2]

    monkeypatch.setattr("spotscope.jobs.training.train_model", train)
    dock.page.method.setCurrentIndex(1)
    dock.start.click()
    finished(qtbot, dock)
    assert dock.board.loss.isHidden()
    assert dock.board.share.isHidden()
    assert "fitted in one go" in dock.board.waiting.text()


def test_a_store_without_spots_is_refused_in_a_sentence(dock, tmp_path):
    with pytest.raises(SpotScopeError, match="no section with spots"):
        dock.page.add_section(tmp_path)


def test_two_sections_of_one_name_are_not_trained_on_together(dock, tmp_path):
    from spotscope.plugin.train_page import Listed

    dock.page.sections.add(Listed(tmp_path / "copy" / "C3.zarr", "C3", "A", 602), tmp_path)
    assert not dock.start.isEnabled()
    assert dock.start.toolTip().startswith("Two of the chosen sections are called C3; ")


def test_what_was_marked_stands_when_another_section_is_looked_at(dock, c3):
    dock.page.sections.choose(["C2"])
    dock.workspace.activate(dock.workspace.sections[0])
    assert [one.name for one in dock.page.sections.chosen()] == ["C2"]


def test_an_error_about_other_choices_is_taken_back(qtbot, dock, monkeypatch):
    def train(*_, **__):
        raise SpotScopeError("The disk is full.")

    monkeypatch.setattr("spotscope.jobs.training.train_model", train)
    dock.start.click()
    finished(qtbot, dock)
    assert dock.message.text == "The disk is full."
    dock.page.method.setCurrentIndex(1)
    assert dock.message.text == ""


def test_the_settings_hold_one_form_however_often_the_method_changes(qtbot, dock):
    from spotscope.plugin.forms import SettingsForm

    for place in (1, 0, 1, 0):
        dock.page.method.setCurrentIndex(place)
    qtbot.waitUntil(lambda: len(dock.page.findChildren(SettingsForm)) == 1, timeout=2000)


def test_weights_in_a_file_are_chosen_by_mouse(dock, monkeypatch):
    from qtpy.QtWidgets import QFileDialog

    chosen = "/weights/mobilenet_v2.safetensors"
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (chosen, ""))
    dock.page.weights.click()
    assert dock.page.plan().encoder == f"local:{chosen}"
