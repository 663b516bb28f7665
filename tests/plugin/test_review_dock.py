from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from spotscope.data.store import open_section
from spotscope.plugin.drawing import workspace_of
from spotscope.plugin.layers import find
from spotscope.plugin.opened import OpenSection
from spotscope.plugin.review_dock import LEARN, MAP, ReviewDock
from spotscope.plugin.review_learning import Learnt
from spotscope.plugin.script import show_section

VALIDATION = {
    "by": "blocks",
    "protocol": "Blocks of tissue held out in turn.",
    "classes": ["connective tissue", "invasive cancer"],
    "n_spots": 110,
    "scores": {
        "classifier": {"accuracy": 0.91, "balanced_accuracy": 0.9, "macro_f1": 0.905},
        "majority": {"accuracy": 0.6, "balanced_accuracy": 0.5, "macro_f1": 0.375},
    },
    "confusion": [[60, 6], [4, 40]],
    "notes": [],
}


class FakeLearning:
    """Stands for the slow part: waits until told, and writes a subtype run as it would."""

    def __init__(self, add_subtypes):
        self.add_subtypes = add_subtypes
        self.plans, self.lasts, self.cancelled = [], [], 0
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self, plan, last, again, progress):
        from spotscope.errors import Cancelled

        self.plans.append(plan)
        self.lasts.append(last)
        number = len(self.plans)
        while not self.may_end.wait(0.02):
            try:
                progress.report(0.1, "Learning")
            except Cancelled:
                self.cancelled += 1
                raise
        runs = tuple(
            (one, self.add_subtypes(one.section, f"{one.name}-{number}", validation=VALIDATION))
            for one in plan.targets
        )
        return Learnt(plan, Path("classifier"), runs, 12.0, again)


@pytest.fixture
def learning(add_subtypes, monkeypatch):
    fake = FakeLearning(add_subtypes)
    monkeypatch.setattr("spotscope.plugin.review_learning.learn", fake)
    return fake


@pytest.fixture
def dock(qtbot, viewer, fresh, monkeypatch):
    """The dock, shown, with a labelled section of its own."""
    monkeypatch.setattr("spotscope.plugin.review_dock._encoders", lambda progress: [])
    show_section(viewer, fresh)
    made = ReviewDock(viewer)
    made.learning._pause.setInterval(60)
    made._edits.setInterval(20)
    qtbot.addWidget(made)
    made.show()
    return made


def rested(qtbot, dock):
    def still():
        learning = dock.learning
        return not (learning.running or learning.waiting or dock._edits.isActive())

    qtbot.waitUntil(still, timeout=20_000)


def test_before_learning_one_sentence_says_what_will_happen(dock, fresh):
    said = dock.said.text()
    count = int((fresh.subtypes[1] >= 0).sum())
    assert f"Learns 2 classes from {count} labels of section C2" in said
    assert "blocks of tissue held out" in said
    assert "then predicts C2" in said
    assert "Takes" in said
    assert dock.start.isEnabled()
    assert not dock.tabs.button(MAP).isEnabled()
    assert "learn them from labels" in dock.tabs.button(MAP).toolTip()


def test_a_second_patient_is_held_out_and_other_slides_can_be_predicted(dock, viewer, stranger):
    show_section(viewer, stranger)
    dock.learn.choose(["C2", "B1"])
    assert "of 2 sections of 2 patients" in dock.said.text()
    assert "each patient held out in turn, then predicts B1." in dock.said.text()
    dock.learn.others.setChecked(True)
    assert "then predicts B1, C2." in dock.said.text()


def test_without_labels_nothing_can_be_learnt_and_it_says_what_to_do(dock, viewer, unlabelled):
    show_section(viewer, unlabelled)
    dock.learn.choose(["C3"])
    assert not dock.start.isEnabled()
    assert "Mark some spots in Annotate" in dock.said.text()
    assert "C3 · no labels" in [dock.learn.sections.item(k).text() for k in range(2)]


def test_labels_of_one_class_ask_for_a_second(qtbot, dock, viewer, unlabelled):
    show_section(viewer, unlabelled)
    workspace = workspace_of(viewer)
    workspace.annotating.classes.add("invasive cancer")
    workspace.annotating.mark(range(20), "invasive cancer")
    rested(qtbot, dock)
    dock.learn.choose(["C3"])
    assert dock.said.text().startswith("All labelled spots are invasive cancer; mark a second")


def test_learning_shows_the_map_its_legend_and_its_validation(qtbot, dock, viewer, learning):
    dock.start.click()
    rested(qtbot, dock)
    assert workspace_of(viewer).view == "predicted subtype"
    assert dock.page == MAP
    names = [row[0] for row in dock.map.legend.rows()]
    assert names == ["connective tissue", "invasive cancer", "unsure"]
    assert dock.map.scores.rows() == [
        ("this classifier", "0.91", "0.90", "0.91"),
        ("commonest class", "0.60", "0.50", "0.38"),
    ]
    assert "Blocks of tissue held out" in dock.map.scores.protocol.text()
    assert "trained on this section" in dock.map.protocol.text()
    assert "the subtypes of C2 are in its store." in dock.message.text


def test_a_classifier_that_could_not_be_validated_says_so(dock):
    none = {"scores": {}, "protocol": "", "notes": ["Label every class in several places."]}
    dock.map.scores.show_validation(none)
    assert dock.map.scores.protocol.text().startswith("<b>Not validated.</b> Label every class")
    assert dock.map.scores.confusion.isHidden()


def test_sliders_and_smoothing_change_what_is_drawn(qtbot, dock, viewer, learning, fresh):
    dock.start.click()
    rested(qtbot, dock)
    layer = find(viewer.layers, fresh, "subtypes")
    before = layer.data.copy()
    dock.map.opacity.setValue(35)
    assert layer.opacity == pytest.approx(0.35)
    dock.map.threshold.setValue(85)
    assert (layer.data != before).any()
    assert dock.map.threshold_said.text() == "85 %"
    before = layer.data.copy()
    dock.map.smooth.setChecked(True)
    assert (layer.data != before).any()
    dock.map.seen.setChecked(False)
    assert not layer.visible
    dock.map.seen.setChecked(True)
    assert layer.visible


def test_labels_that_change_are_learnt_again_in_the_background(qtbot, dock, viewer, learning):
    workspace = workspace_of(viewer)
    dock.learn.keep.setChecked(True)
    rested(qtbot, dock)
    assert len(learning.plans) == 1
    labels = learning.plans[0].labels[0].names
    workspace.annotating.mark([0, 1, 2], "invasive cancer")
    rested(qtbot, dock)
    assert len(learning.plans) == 2
    assert list(np.flatnonzero(labels != learning.plans[1].labels[0].names)) == [0, 1, 2]
    assert learning.lasts[1].plan is learning.plans[0]
    assert dock.page == LEARN  # the page that the user is on stays
    assert dock.message.text.startswith("Learnt again")


def test_what_learns_from_old_labels_stops_and_begins_again(qtbot, dock, viewer, learning):
    workspace = workspace_of(viewer)
    learning.may_end.clear()
    dock.learn.keep.setChecked(True)
    qtbot.waitUntil(lambda: len(learning.plans) == 1)
    assert dock.learning.running
    workspace.annotating.mark([0, 1, 2], "invasive cancer")  # drawing goes on meanwhile
    qtbot.waitUntil(lambda: len(learning.plans) == 2, timeout=10_000)
    assert learning.cancelled == 1
    learning.may_end.set()
    rested(qtbot, dock)
    assert learning.plans[1].labels[0].names[0] == "invasive cancer"
    assert [run.id for run in workspace.subtypes.runs] == ["C2-2"]


def test_a_learning_started_by_hand_is_not_stopped_by_labels(qtbot, dock, viewer, learning):
    learning.may_end.clear()
    dock.start.click()
    qtbot.waitUntil(lambda: len(learning.plans) == 1)
    dock.learn.keep.setChecked(True)
    workspace_of(viewer).annotating.mark([0, 1, 2], "invasive cancer")
    qtbot.wait(150)
    assert learning.cancelled == 0
    learning.may_end.set()
    rested(qtbot, dock)
    assert len(learning.plans) == 2


def test_labels_that_come_back_are_not_learnt_twice(qtbot, dock, viewer, learning):
    workspace = workspace_of(viewer)
    dock.learn.keep.setChecked(True)
    rested(qtbot, dock)
    workspace.annotating.mark([0, 1, 2], "invasive cancer")
    workspace.annotating.undo()
    rested(qtbot, dock)
    assert len(learning.plans) == 1


def test_cancel_stops_learning_and_says_so(qtbot, dock, learning):
    learning.may_end.clear()
    dock.start.click()
    qtbot.waitUntil(lambda: len(learning.plans) == 1)
    assert not dock.job_bar.isHidden()
    dock.job_bar.button.click()
    rested(qtbot, dock)
    assert dock.message.text == "Learning subtypes was stopped."
    assert dock.start.isEnabled()


def test_earlier_runs_are_there_when_the_section_is_opened_again(qtbot, dock, viewer, learning):
    dock.start.click()
    rested(qtbot, dock)
    workspace = workspace_of(viewer)
    section = workspace.section.section
    workspace.remove(workspace.section)
    show_section(viewer, OpenSection(section))
    assert dock.tabs.button(MAP).isEnabled()
    dock.tabs.button(MAP).click()
    assert dock.map.runs.count() == 1
    dock.map.seen.setChecked(True)
    assert find(viewer.layers, workspace.section, "subtypes").visible


def test_the_excluded_class_is_not_learnt(dock, viewer, fresh):
    workspace = workspace_of(viewer)
    before = dock.learn.plan().labels[0].count
    workspace.annotating.classes.add("exclude", exclude=True)
    workspace.annotating.mark(range(10, 40), "exclude")
    labels = dock.learn.plan().labels[0]
    assert labels.count == before - 30
    assert "exclude" not in labels.classes


def test_a_slide_alone_is_predicted_into_a_section_that_takes_its_place(
    qtbot, dock, viewer, fresh, colour_encoder, monkeypatch, tmp_path
):
    for module in ("methods.subtypes", "encoders.base"):
        monkeypatch.setattr(f"spotscope.{module}.get_encoder", lambda spec: colour_encoder)
    picture = fresh.section.slide.levels[0][:]
    scale = {"resolution": (5_000, 5_000), "resolutionunit": "CENTIMETER"}  # 2 µm a pixel
    with tifffile.TiffWriter(tmp_path / "other.tif") as file:
        file.write(picture, photometric="rgb", tile=(256, 256), subifds=1, **scale)
        file.write(picture[::2, ::2], photometric="rgb", tile=(256, 256), subfiletype=1)
    show_section(viewer, OpenSection(open_section(tmp_path / "other.tif")))
    workspace = workspace_of(viewer)
    workspace.annotating.classes.add("tumour")
    workspace.annotating.draw(np.array([(100.0, 100.0), (100.0, 300.0), (300.0, 300.0)]))
    dock.learn.choose(["C2"])
    assert "then predicts other." in dock.said.text()
    assert "Makes other.zarr beside the slide, which stays where it is" in dock.said.text()
    dock.start.click()
    qtbot.waitUntil(lambda: not dock.learning.running, timeout=60_000)
    assert dock.page == MAP, dock.message.text
    assert workspace.section.path == tmp_path / "other.zarr"
    assert [one.name for one in workspace.sections] == ["C2", "other"]
    assert find(viewer.layers, workspace.section, "subtypes").visible
    assert len(workspace.annotations.regions) == 1
    assert len(dock.map.legend.rows()) == 3


def test_a_slide_without_a_scale_is_refused_before_anything_is_learnt(
    dock, viewer, fresh, tmp_path
):
    Image.fromarray(fresh.section.slide.levels[0][:]).save(tmp_path / "other.png")
    show_section(viewer, OpenSection(open_section(tmp_path / "other.png")))
    dock.learn.choose(["C2"])
    assert "Nothing states how many µm a pixel of other is" in dock.said.text()
    assert not dock.start.isEnabled()


def test_labels_become_a_map_for_real(qtbot, dock, viewer, fresh, colour_encoder, monkeypatch):
    for module in ("methods.subtypes", "encoders.base"):
        monkeypatch.setattr(f"spotscope.{module}.get_encoder", lambda spec: colour_encoder)
    dock.start.click()
    qtbot.waitUntil(lambda: not dock.learning.running, timeout=60_000)
    assert dock.page == MAP, dock.message.text
    assert float(dock.map.scores.rows()[0][1]) > 0.9
    told = workspace_of(viewer).subtypes.told()
    names, codes = fresh.subtypes
    known = codes >= 0
    said = np.array([*told.classes, "unsure"])[told.on_spots.codes]
    assert (said[known] == np.array(names)[codes[known]]).mean() > 0.9
