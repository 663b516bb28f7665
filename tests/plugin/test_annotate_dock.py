"""Annotating by mouse and keys, as the dock and the tools take them."""

from __future__ import annotations

import errno
import json
import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from spotscope.data.store import open_section, write_section
from spotscope.errors import SpotScopeError
from spotscope.plugin import docks
from spotscope.plugin.annotate_dock import COMPARE, AnnotateDock
from spotscope.plugin.annotation_table import AREA, NAME, SPOTS
from spotscope.plugin.drawing import drawing_of, workspace_of
from spotscope.plugin.opened import OpenSection
from spotscope.plugin.script import show_section

ROUND = [(400.0, 400.0), (400.0, 1400.0), (900.0, 1400.0), (900.0, 400.0)]


def drag(viewer, places_um, modifiers=(), button=1):
    """Press, move over places (row, col) and let go, as napari tells its callbacks."""
    for callback in list(viewer.mouse_drag_callbacks):
        event = SimpleNamespace(type="mouse_press", button=button, modifiers=modifiers)
        event.position, event.pos = places_um[0], np.array(places_um[0][::-1])
        running = callback(viewer, event)
        if running is None:
            continue
        next(running, None)
        event.type = "mouse_move"
        for place in places_um[1:]:
            event.position, event.pos = place, np.array(place[::-1])
            next(running, None)
        event.type = "mouse_release"
        next(running, None)


def press(viewer, key):
    from app_model.types import KeyBinding

    viewer.keymap[KeyBinding.from_str(key)](viewer)


@pytest.fixture
def dock(qtbot, viewer, fresh):
    """The dock on a labelled section, with two classes of the user's own."""
    made = with_classes(qtbot, viewer, fresh)
    yield made
    made.workspace.annotating.release()


def counts(dock):
    found = dock.workspace.annotations.counts()
    return found["tumour"], found["stroma"]


def use(dock, tool, name="tumour"):
    dock.workspace.annotating.classes.choose(name)
    dock.tools.buttons[tool].click()
    assert dock.workspace.tool == tool


def test_a_lasso_draws_a_region_and_labels_its_spots_as_one_step(dock, viewer):
    use(dock, "lasso")
    drag(viewer, ROUND)
    centres = dock.workspace.section.centres_px * 2.0
    inside = ((centres > (400, 400)) & (centres < (900, 1400))).all(axis=1)
    assert counts(dock) == (inside.sum(), 0)
    assert len(dock.workspace.annotations.regions) == 1
    assert [one.name for one in viewer.layers if "regions" in one.name] == ["C2 regions"]
    dock.kept.undo.click()
    assert counts(dock) == (0, 0)
    assert not dock.workspace.annotations.regions
    dock.kept.redo.click()
    assert counts(dock)[0] == inside.sum()


def test_spots_take_the_colour_of_their_class(dock, viewer):
    use(dock, "lasso")
    drag(viewer, ROUND)
    opened = dock.workspace.section
    names, codes = opened.subtypes
    colour = dock.workspace.palette(names)["tumour"]
    spots = drawing_of(viewer).layer("spots")
    shown = spots.face_color[codes == names.index("tumour")]
    wanted = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    np.testing.assert_allclose(shown[:, :3], np.tile(wanted, (len(shown), 1)), atol=1e-6)


def test_a_brush_stroke_is_one_step_whatever_pieces_it_was_written_in(dock, viewer, monkeypatch):
    monkeypatch.setattr("spotscope.plugin.annotation_tools._PIECE_S", 0.0)
    use(dock, "brush")
    dock.tools.width_um.setValue(120)
    drag(viewer, [(800.0, 500.0 + 40 * step) for step in range(20)])
    centres = dock.workspace.section.centres_px * 2.0
    along = (np.abs(centres[:, 0] - 800) < 55) & (centres[:, 1] > 500) & (centres[:, 1] < 1260)
    assert counts(dock)[0] >= along.sum() > 20
    press(viewer, "Ctrl+Z")
    assert counts(dock) == (0, 0)


def test_spots_have_smooth_edges_again_when_a_stroke_ends(dock, viewer, monkeypatch):
    edges = []
    annotating = dock.workspace.annotating
    monkeypatch.setattr("spotscope.plugin.annotation_tools._PIECE_S", 0.0)
    layer = next(one for one in viewer.layers if hasattr(one, "antialiasing"))
    before, mark = layer.antialiasing, annotating.mark
    monkeypatch.setattr(
        annotating, "mark", lambda *a, **k: (edges.append(layer.antialiasing), mark(*a, **k))
    )
    use(dock, "brush")
    drag(viewer, [(800.0, 500.0 + 40 * step) for step in range(20)])
    assert set(edges) == {0}
    assert layer.antialiasing == before > 0


def test_shift_and_the_eraser_take_labels_and_outlines_away(dock, viewer):
    use(dock, "lasso")
    drag(viewer, ROUND)
    before, area = counts(dock)[0], dock.workspace.annotations.regions[0].area_px
    drag(viewer, [(300.0, 300.0), (300.0, 900.0), (1000.0, 900.0), (1000.0, 300.0)], ("Shift",))
    assert counts(dock)[0] == pytest.approx(before / 2, rel=0.1)
    assert dock.workspace.annotations.regions[0].area_px == pytest.approx(area / 2, rel=0.01)
    use(dock, "erase")
    dock.tools.width_um.setValue(2000)
    drag(viewer, [(600.0, 600.0), (600.0, 1300.0)])
    assert counts(dock) == (0, 0)
    assert not dock.workspace.annotations.regions


def test_a_class_has_the_same_key_on_every_slide(dock, viewer, stranger):
    classes = dock.workspace.annotating.classes

    def keys():
        return {one.name: one.key for one in classes.listed}

    first = keys()
    show_section(viewer, stranger)
    dock.workspace.annotating.classes.add("nerve")
    assert {name: key for name, key in keys().items() if name in first} == first
    assert keys()["nerve"] not in first.values()
    press(viewer, str(first["tumour"]))
    assert dock.workspace.annotation_class == "tumour"
    classes.set_key("nerve", first["tumour"])
    assert keys()["nerve"] == first["tumour"]
    assert keys()["tumour"] is None
    dock.kept.undo.click()
    assert keys()["nerve"] != first["tumour"]
    classes.rename("nerve", "vessel")
    assert "vessel" in keys()
    found = [key for key in keys().values() if key is not None]
    assert len(set(found)) == len(found)


def test_number_keys_choose_the_class_and_label_what_a_lasso_has_selected(dock, viewer):
    keys = {one.name: one.key for one in dock.workspace.annotating.classes.listed}
    use(dock, "lasso")
    press(viewer, "0")
    assert dock.workspace.annotation_class is None
    drag(viewer, ROUND)
    selected = len(dock.workspace.annotating.selected)
    assert selected > 50
    assert counts(dock) == (0, 0)
    assert f"{selected:,} spots are selected" in dock.tools.hint.text()
    press(viewer, str(keys["stroma"]))
    assert counts(dock) == (0, selected)
    press(viewer, str(keys["tumour"]))
    assert dock.workspace.annotation_class == "tumour"
    assert dock.table.marked == "tumour"


def test_a_polygon_closes_on_its_first_corner(dock, viewer):
    use(dock, "polygon")
    for place in ROUND:
        drag(viewer, [place])
    assert counts(dock) == (0, 0)
    drag(viewer, [ROUND[0]])
    assert counts(dock)[0] > 50
    drag(viewer, [(1000.0, 1000.0)])
    press(viewer, "Escape")
    assert dock.workspace.tool == "polygon"
    press(viewer, "Escape")
    assert dock.workspace.tool is None


def test_growing_takes_the_spots_that_hang_together_and_are_alike(dock, viewer, qtbot):
    use(dock, "grow")
    growing = dock.workspace.annotating.growing
    qtbot.waitUntil(lambda: growing.ready, timeout=20_000)
    qtbot.waitUntil(lambda: not dock.job_bar.running)
    dock.tools.clusters.setValue(3)
    dock.tools.growing_changed.emit()
    qtbot.waitUntil(lambda: growing.ready, timeout=20_000)
    opened = dock.workspace.section
    names, codes = opened._stored_subtypes
    cancer = codes == names.index("invasive cancer")
    middle = opened.centres_px[cancer].mean(axis=0)
    spot = int(np.hypot(*(opened.centres_px - middle).T).argmin())
    drag(viewer, [tuple(opened.centres_px[spot] * 2.0)])
    marked = dock.workspace.annotations.labels() == "tumour"
    assert (marked & cancer).sum() > 0.8 * cancer.sum()
    centres = opened.centres_px
    far = np.hypot(*(centres[marked][:, None] - centres[cancer]).transpose(2, 0, 1)).min(axis=1)
    assert far.max() < 1.5 * opened.pitch_px  # no farther than the averaging reaches


def test_a_click_labels_one_spot_and_without_a_class_says_what_is_missing(dock, viewer):
    use(dock, "click")
    place = tuple(dock.workspace.section.centres_px[100] * 2.0)
    drag(viewer, [place])
    assert dock.workspace.annotations.labels()[100] == "tumour"
    assert counts(dock) == (1, 0)
    use(dock, "brush")
    press(viewer, "0")
    drag(viewer, [place])
    assert "Choose a class" in dock.message.text


def test_the_slide_still_moves_while_a_tool_is_on(dock, viewer):
    camera = viewer.scene.camera
    use(dock, "brush")
    assert not camera.mouse_pan
    before = camera.center
    drag(viewer, [(800.0, 800.0), (830.0, 800.0)], button=2)
    assert camera.center[-2] == pytest.approx(before[-2] - 30 / camera.zoom)
    assert counts(dock) == (0, 0)
    viewer.layers.selection.active = viewer.layers["C2 subtypes"]
    assert not camera.mouse_pan
    dock.tools.buttons[None].click()
    assert camera.mouse_pan


@pytest.fixture
def kept(qtbot, viewer, fresh, tmp_path):
    """The dock on a section whose store can be saved to, with two classes."""
    store = write_section(fresh.section, tmp_path / "kept" / "C2.zarr")
    made = with_classes(qtbot, viewer, OpenSection(store))
    yield made
    made.workspace.annotating.release()


def with_classes(qtbot, viewer, opened):
    show_section(viewer, opened)
    made = AnnotateDock(viewer)
    qtbot.addWidget(made)
    made.show()
    for name in ("tumour", "stroma"):
        made.new.setText(name)
        made.new.returnPressed.emit()
    return made


def test_what_is_saved_is_said(kept, qtbot):
    dock = kept
    assert "2 edits not yet saved" in dock.kept.state.text()
    assert dock.kept.undo.toolTip() == "Undo: Add class stroma (Ctrl-Z)"
    dock.kept.save.click()
    qtbot.waitUntil(lambda: "saved into the section" in dock.kept.state.text())
    assert not dock.kept.save.isEnabled()


def test_one_draws_on_while_a_save_is_written_and_what_came_later_is_not_saved(
    kept, viewer, qtbot, monkeypatch
):
    from spotscope.annotate.saving import Saving

    dock = kept
    going, write = threading.Event(), Saving.write
    monkeypatch.setattr(Saving, "write", lambda saving: going.wait(20) and write(saving))
    use(dock, "lasso")
    dock.kept.save.click()
    assert "saving into the section" in dock.kept.state.text()
    assert not dock.kept.save.isEnabled()
    drag(viewer, ROUND)
    assert counts(dock)[0] > 50
    going.set()
    qtbot.waitUntil(lambda: "1 edit not yet saved" in dock.kept.state.text())
    assert "tumour" not in open_section(dock.workspace.section.path).labels.categories
    dock.kept.save.click()
    qtbot.waitUntil(lambda: "saved into the section" in dock.kept.state.text())
    again = open_section(dock.workspace.section.path)
    assert (again.labels == "tumour").sum() == counts(dock)[0]


def test_a_save_that_fails_is_said_and_can_be_tried_again(kept, qtbot, monkeypatch):
    dock = kept

    def refuse(*_):
        raise SpotScopeError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr("spotscope.annotate.saving.Saving.write", refuse)
        dock.kept.save.click()
        qtbot.waitUntil(lambda: dock.message.text == "The disk is full.")
    assert "2 edits not yet saved" in dock.kept.state.text()
    dock.kept.save.click()
    qtbot.waitUntil(lambda: "saved into the section" in dock.kept.state.text())
    assert not dock.message.text


def test_another_section_is_shown_with_its_predicted_subtypes_too(
    dock, viewer, stranger, add_subtypes, qtbot
):
    for opened in (dock.workspace.section, stranger):
        add_subtypes(opened.section)
        opened.read_subtype_runs()
    dock.workspace.show("predicted subtype")
    show_section(viewer, stranger)
    qtbot.wait(50)
    assert dock.workspace.view == "predicted subtype"


def test_outlines_without_class_are_said_and_get_the_chosen_one_as_one_step(dock, tmp_path):
    square = [[50, 50], [50, 300], [400, 300], [400, 50], [50, 50]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [square]}}
    (tmp_path / "a.geojson").write_text(json.dumps({**feature, "properties": {}}))
    dock.exchange.take(tmp_path / "a.geojson")
    assert dock.message.text == (
        "a.geojson: 1 region. 1 outline has no class: choose one, then give it in More."
    )
    dock.workspace.annotating.classes.choose("tumour")
    dock._prepare_menu()
    assert dock.classify.text() == "1 outline without class: make tumour"
    dock.classify.trigger()
    assert [one.subtype for one in dock.workspace.annotations.regions] == ["tumour"]
    assert counts(dock)[0] > 20
    dock._prepare_menu()
    assert not dock.classify.isVisible()
    dock.kept.undo.click()
    assert [one.subtype for one in dock.workspace.annotations.regions] == [None]
    assert counts(dock) == (0, 0)


def test_on_a_slide_alone_the_brush_draws_areas_that_grow_and_the_table_measures_them(
    qtbot, viewer, bare_slide, monkeypatch
):
    monkeypatch.setattr("spotscope.plugin.annotation_tools._PIECE_S", 0.0)
    dock = with_classes(qtbot, viewer, bare_slide)
    use(dock, "brush")
    dock.tools.width_um.setValue(200)
    assert dock.tools.hint.text().startswith("Paint over tissue: its outline gets the class.")
    along = [(800.0, 500.0 + 40 * step) for step in range(11)]
    drag(viewer, along)
    drag(viewer, [(400.0, 700.0), (800.0, 700.0)])  # crosses it
    (region,) = dock.workspace.annotations.regions
    wanted = 2 * 400 * 200 + np.pi * 100**2 * 1.5 - 100 * 200  # a T of two round strokes, µm²
    assert region.area_px * 4 == pytest.approx(wanted, rel=0.02)
    assert dock.table.isColumnHidden(SPOTS)
    shown = [row for row in range(dock.table.rowCount()) if not dock.table.isRowHidden(row)]
    assert [dock.table.item(row, NAME).text() for row in shown] == ["tumour", "stroma"]
    assert dock.table.item(shown[0], AREA).text() == f"{wanted / 1e6:.2f}"
    dock.kept.undo.click()  # all pieces of a stroke
    assert dock.workspace.annotations.regions[0].area_px < 0.7 * region.area_px
    drag(viewer, along, ("Shift",))
    assert not dock.workspace.annotations.regions
    dock.workspace.annotating.classes.choose(None)
    dock.tools.buttons["lasso"].click()
    drag(viewer, ROUND)
    assert dock.message.text.startswith("Choose a class")
    dock.workspace.annotating.release()


def test_a_slide_alone_becomes_a_section_with_one_click_and_keeps_its_annotations(
    qtbot, viewer, tmp_path, fresh
):
    from PIL import Image

    Image.fromarray(fresh.section.slide.levels[0][:]).save(tmp_path / "slide.png")
    slide = OpenSection(open_section(tmp_path / "slide.png"))
    made = with_classes(qtbot, viewer, slide)
    use(made, "lasso")
    drag(viewer, ROUND)
    assert made.kept.state.text() == "All kept on disk beside the slide · 3 edits"
    assert made.kept.save.text() == "Make section and save"
    assert "slide.zarr beside the slide" in made.kept.save.toolTip()
    made.kept.save.click()
    qtbot.waitUntil(lambda: "saved into the section" in made.kept.state.text(), timeout=20_000)
    assert [one.path.name for one in made.workspace.sections] == ["slide.zarr"]
    assert made.message.text == "The annotations are saved in slide.zarr, beside the slide."
    assert made.workspace.tool == "lasso"
    assert len(made.workspace.annotations.regions) == 1
    made.kept.undo.click()
    assert not made.workspace.annotations.regions
    made.workspace.annotating.release()


def test_a_full_disk_is_said_and_edits_are_written_when_there_is_room(dock, viewer, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        use(dock, "lasso")
        drag(viewer, ROUND)
        assert counts(dock)[0] > 50
        assert "kept in memory only" in dock.kept.state.text()
    dock._look()
    assert "memory" not in dock.kept.state.text()


def test_a_second_window_only_shows_until_the_first_lets_go(dock, viewer, fresh, qtbot):
    from napari.components import ViewerModel

    from spotscope.plugin.opened import OpenSection

    use(dock, "lasso")
    drag(viewer, ROUND)
    other = ViewerModel()
    show_section(other, OpenSection(fresh.section))
    second = AnnotateDock(other)
    qtbot.addWidget(second)
    second.show()
    assert "Another window" in second.kept.state.text()
    assert counts(second) == counts(dock)
    assert not second.tools.isEnabled()
    second.workspace.annotating.classes.choose("tumour")
    second.attempt(lambda: second.workspace.annotating.mark([0]))
    assert "Another window" in second.message.text
    dock.workspace.annotating.release()
    second.kept.again.click()
    assert "Another window" not in second.kept.state.text()
    second.workspace.annotating.mark([0])
    assert second.workspace.annotations.labels()[0] == "tumour"
    second.workspace.annotating.release()


def test_what_a_killed_window_had_is_there_at_the_next_opening(dock, viewer, fresh):
    from napari.components import ViewerModel

    from spotscope.plugin.opened import OpenSection

    use(dock, "lasso")
    drag(viewer, ROUND)
    kept = counts(dock)
    dock.workspace.annotating.release()
    again = ViewerModel()
    show_section(again, OpenSection(fresh.section))
    assert workspace_of(again).annotating.is_open
    assert workspace_of(again).view == "subtype"
    assert counts(SimpleNamespace(workspace=workspace_of(again))) == kept
    assert [one.name for one in again.layers if "regions" in one.name] == ["C2 regions"]
    workspace_of(again).annotating.release()


def test_annotators_are_kept_apart_and_their_differences_found(dock, viewer):
    annotating = dock.workspace.annotating
    annotating.mark(range(20), "tumour")
    dock.annotator.name.setText("Dr. B")
    dock.annotator.name.editingFinished.emit()
    annotating.mark(range(15), "tumour")
    annotating.mark(range(15, 20), "stroma")
    assert dock.pages.button(COMPARE).isEnabled()
    dock.pages.button(COMPARE).click()
    rows = [dock.compare.table.item(row, 0).text() for row in range(dock.compare.table.rowCount())]
    place = next(i for i, text in enumerate(rows) if "Dr. B" in text and "imported" not in text)
    dock.compare.table.selectRow(place)
    assert dock.compare.table.item(place, 2).text() == "75 %"
    assert dock.compare.differ.count() == 5
    dock.compare.differ.itemClicked.emit(dock.compare.differ.item(0))
    centre = dock.workspace.section.centres_px[15] * 2.0
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], centre)
    assert annotating.selected.tolist() == [15]


def test_a_class_has_one_colour_on_every_section(dock, viewer, c3):
    classes = dock.workspace.annotating.classes
    classes.recolour("tumour", "#aa11ee")
    show_section(viewer, c3)
    found = {one.name: one.colour for one in classes.listed}
    assert found["tumour"] == "#aa11ee"
    assert len(set(found.values())) == len(found)
    assert dock.workspace.palette(["tumour"]) == {"tumour": "#aa11ee"}


def test_classes_are_renamed_in_place_and_go_with_their_labels(dock, viewer):
    use(dock, "lasso")
    drag(viewer, ROUND)
    row = next(r for r in range(dock.table.rowCount()) if dock.table.item(r, 2).text() == "tumour")
    dock.table.item(row, 2).setText("carcinoma")
    assert dock.workspace.annotations.counts()["carcinoma"] > 50
    assert dock.workspace.annotation_class == "carcinoma"
    dock.table.item(row, 2).setText("stroma")
    assert "same name" in dock.message.text
    dock.workspace.annotating.classes.remove("carcinoma")
    assert "carcinoma" not in dock.workspace.annotations.vocabulary.names


def test_classes_and_annotations_go_to_files_and_back(dock, viewer, tmp_path):
    use(dock, "lasso")
    drag(viewer, ROUND)
    labelled = counts(dock)
    dock.exchange.put(tmp_path / "out.geojson", "geojson")
    assert "1 regions written" in dock.message.text
    dock.files.write(tmp_path / "classes.json", qupath=True)
    dock.kept.undo.click()
    assert counts(dock) == (0, 0)
    dock.exchange.take(tmp_path / "out.geojson")
    assert counts(dock) == labelled
    dock.files.take(tmp_path / "out.geojson")
    assert "no classes" in dock.message.text


def test_qt_events_in_a_window_draw_and_a_text_field_keeps_its_own_undo(
    make_napari_viewer, qtbot, fresh
):
    viewer = make_napari_viewer(show=True)
    dock = docks.open_dock(viewer, "Annotate")
    show_section(viewer, fresh)
    annotating = dock.workspace.annotating
    annotating.classes.add("tumour")
    annotating.choose_tool("lasso")
    canvas = viewer.window._qt_viewer.canvas.native
    qtbot.waitUntil(lambda: canvas.width() > 200)
    width, height = canvas.width(), canvas.height()
    corners = [(0.3, 0.3), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7)]
    places = [QPoint(int(x * width), int(y * height)) for x, y in corners]
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    _send(canvas, QEvent.Type.MouseButtonPress, places[0], left, left)
    for place in places[1:]:
        qtbot.wait(10)  # napari takes one move in 5 ms
        _send(canvas, QEvent.Type.MouseMove, place, none, left)
    _send(canvas, QEvent.Type.MouseButtonRelease, places[-1], left, none)
    marked = dock.workspace.annotations.counts()["tumour"]
    assert marked > 20
    viewer.window._qt_window.activateWindow()
    dock.new.setFocus()
    QTest.keyClicks(dock.new, "7up")
    assert dock.new.text() == "7up"
    QTest.keyClick(dock.new, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert dock.new.text() == ""
    assert dock.workspace.annotations.counts()["tumour"] == marked
    undo = next(one for one in dock._keys._shortcuts if one.key().toString() == "Ctrl+Z")
    undo.activated.emit()
    assert dock.workspace.annotations.counts()["tumour"] == 0
    viewer.add_labels(np.zeros((10, 10), int))
    assert not undo.isEnabled()
    annotating.release()


def _send(canvas, kind, place, button, buttons):
    event = QMouseEvent(
        kind,
        QPointF(place),
        QPointF(canvas.mapToGlobal(place)),
        button,
        buttons,
        Qt.KeyboardModifier.NoModifier,
    )
    QApplication.sendEvent(canvas, event)
