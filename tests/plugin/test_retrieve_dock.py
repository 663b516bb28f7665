from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from spotscope.errors import SpotScopeError
from spotscope.jobs.retrieving import Answer, Neighbour
from spotscope.plugin.asked_place import NAME
from spotscope.plugin.drawing import workspace_of
from spotscope.plugin.model_pages import models_folder
from spotscope.plugin.retrieve_dock import PICTURES, RetrieveDock
from spotscope.plugin.script import show_gene, show_section

PATCH_UM = 100.0


def add_model(method, *, sections=("C3",)):
    folder = models_folder() / method
    folder.mkdir(parents=True)
    record = {"format": 1, "method": method, "training_sections": list(sections)}
    (folder / "provenance.json").write_text(json.dumps(record))
    return folder


def answer(place, gene, store, count=20):
    patch = np.full((16, 16, 3), 120, np.uint8)
    spots = [
        Neighbour(
            "C3" if k else "Z9",
            f"{k}x{k}",
            0.9 - 0.01 * k,
            1 / count,
            2.0 if gene else None,
            "connective tissue" if k % 2 else "invasive cancer",
            patch if k else None,
            (300.0, 400.0) if k else None,
            store if k else None,
        )
        for k in range(count)
    ]
    return Answer(tuple(place), patch, PATCH_UM, spots, "cosine", gene, 2.0, 0.5)


@pytest.fixture
def dock(qtbot, viewer, fresh, c3, monkeypatch):
    """The dock, shown, with C2 active, C3 open and a model of BLEEP trained on C3."""
    model = SimpleNamespace(provenance=SimpleNamespace(training_sections=["C3"]))
    monkeypatch.setattr("spotscope.methods.base.load_method", lambda folder: model)

    def asked(method, section, place, gene, *, sections, pictures, progress):
        assert method is model
        assert [one.name for one in sections] == ["C3"]
        return answer(place, gene, c3.section.store)

    monkeypatch.setattr("spotscope.jobs.retrieving.neighbours_at", asked)
    add_model("bleep")
    show_section(viewer, c3)
    show_section(viewer, fresh)
    show_gene(viewer, "ERBB2")
    made = RetrieveDock(viewer)
    qtbot.addWidget(made)
    made.show()
    return made


def click(viewer, place_um, moved=0):
    """Press, perhaps move, and let go of the left button."""
    for callback in viewer.mouse_drag_callbacks:
        event = SimpleNamespace(
            type="mouse_press",
            button=1,
            modifiers=(),
            pos=np.array([50, 50]),
            position=tuple(place_um),
        )
        running = callback(viewer, event)
        next(running, None)
        for kind in ("mouse_move", "mouse_release"):
            event.type, event.pos = kind, np.array([50 + moved, 50])
            next(running, None)


def answered(qtbot, dock):
    qtbot.waitUntil(lambda: dock._asking is None, timeout=20_000)


def square(viewer):
    layers = [layer for layer in viewer.layers if layer.name == NAME]
    assert len(layers) <= 1
    return layers[0] if layers else None


def test_a_click_shows_the_spots_that_the_model_goes_by(qtbot, dock, viewer):
    click(viewer, (800.0, 1000.0))
    answered(qtbot, dock)
    assert dock.list.count() == PICTURES
    assert "Made from the 20 measured spots" in dock.used.text()
    assert "19 on C3, 1 on Z9" in dock.used.text()
    assert "10 invasive cancer, 10 connective tissue" in dock.used.text()
    said = dock.list.item(1).text()
    assert said == "C3 · 1x1\nconnective tissue\nsimilarity 0.89\nERBB2 measured 2.00"
    assert "ERBB2 predicted 2.00 (± 0.50)" in dock.here.text()


def test_the_square_has_the_true_size_of_the_patch(qtbot, dock, viewer):
    chosen = viewer.layers.selection.active
    click(viewer, (800.0, 1000.0))
    answered(qtbot, dock)
    corners = square(viewer).data[0] * square(viewer).scale
    np.testing.assert_allclose(corners.min(axis=0), (750, 950))
    np.testing.assert_allclose(corners.max(axis=0), (850, 1050))
    assert viewer.layers.selection.active is chosen
    click(viewer, (600.0, 600.0))
    answered(qtbot, dock)
    np.testing.assert_allclose((square(viewer).data[0] * 2).mean(axis=0), (600, 600))


def test_a_drag_asks_nothing_nor_does_a_click_while_asking_is_off(qtbot, dock, viewer):
    click(viewer, (800.0, 1000.0), moved=20)
    assert dock._asking is None
    dock.asks.setChecked(False)
    click(viewer, (800.0, 1000.0))
    assert dock._asking is None
    dock.asks.setChecked(True)
    dock.hide()
    click(viewer, (800.0, 1000.0))
    assert dock._asking is None


def test_another_gene_is_asked_about_at_the_same_place(qtbot, dock, viewer):
    dock.ask((400.0, 500.0))
    answered(qtbot, dock)
    show_gene(viewer, "EPCAM")
    answered(qtbot, dock)
    assert "EPCAM measured" in dock.list.item(1).text()


def test_a_spot_is_shown_on_its_own_slide_and_the_answer_stays(qtbot, dock, viewer, c3):
    dock.ask((400.0, 500.0))
    answered(qtbot, dock)
    dock.list.itemActivated.emit(dock.list.item(1))
    assert workspace_of(viewer).section is c3
    np.testing.assert_allclose(viewer.camera.center[-2:], (600, 800))
    np.testing.assert_allclose((square(viewer).data[0] * 2).mean(axis=0), (600, 800))
    assert dock.list.count() == PICTURES
    assert dock.back.text() == "Back to the place on C2"
    dock.back.click()
    assert workspace_of(viewer).section.name == "C2"
    np.testing.assert_allclose(viewer.camera.center[-2:], (800, 1000))
    assert dock.back.isHidden()


def test_a_spot_whose_section_is_not_at_hand_says_so(qtbot, dock, viewer):
    dock.ask((400.0, 500.0))
    answered(qtbot, dock)
    dock.list.itemActivated.emit(dock.list.item(0))
    assert dock.message.text.startswith("Section Z9 is not at hand")
    assert workspace_of(viewer).section.name == "C2"


def test_a_model_that_looks_nothing_up_says_so_in_place(dock, viewer):
    workspace_of(viewer).show_model(add_model("ridge"))
    assert "looks no measured spots up" in dock.message.text
    assert not dock.asks.isEnabled()
    dock.ask((400.0, 500.0))
    assert dock._asking is None


def test_a_section_that_the_model_learnt_from_is_not_asked(dock, viewer, c3):
    show_section(viewer, c3)
    assert "has learnt from C3" in dock.message.text


def test_closing_the_section_forgets_the_answer(qtbot, dock, viewer):
    workspace = workspace_of(viewer)
    dock.ask((400.0, 500.0))
    answered(qtbot, dock)
    workspace.remove(workspace.section)
    assert dock.list.isHidden()
    assert square(viewer) is None


def test_an_error_is_said_in_place(qtbot, dock, monkeypatch):
    def refuse(*_, **__):
        raise SpotScopeError("This place lies beside the slide; click on the tissue.")

    monkeypatch.setattr("spotscope.jobs.retrieving.neighbours_at", refuse)
    dock.ask((400.0, 500.0))
    answered(qtbot, dock)
    assert "beside the slide" in dock.message.text


def test_a_chosen_spot_keeps_the_colours_of_its_tissue(qtbot, dock, viewer):
    click(viewer, (800.0, 1000.0))
    answered(qtbot, dock)
    icon = dock.list.item(0).icon()
    size = icon.availableSizes()[0]
    plain, chosen = (
        icon.pixmap(size, mode).toImage() for mode in (icon.Mode.Normal, icon.Mode.Selected)
    )
    assert plain == chosen
