"""The whole in a real window."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from qtpy.QtWidgets import QDockWidget

from spotscope.errors import SpotScopeError
from spotscope.plugin import capture_window, docks
from spotscope.plugin.drawing import workspace_of
from spotscope.plugin.script import show_gene, show_section


def frame(viewer, name):
    return docks.find_dock(viewer, name).parent()


@pytest.fixture
def window(make_napari_viewer, qtbot, monkeypatch):
    monkeypatch.setattr(
        "spotscope.plugin.train_dock._what_there_is", lambda progress: ({}, [], {})
    )
    viewer = make_napari_viewer(show=True)
    docks.open_dock(viewer, "Workspace")
    qtbot.waitUntil(lambda: docks.find_dock(viewer, "Quality") is not None)
    return viewer


def test_the_workspace_lays_out_tabs_on_the_right_and_quality_below(window, qtbot):
    main = frame(window, "Workspace").window()
    tabs = main.tabifiedDockWidgets(frame(window, "Workspace"))
    assert {tab.windowTitle() for tab in tabs} == {
        "Open",
        "Genes",
        "Annotate",
        "Review",
        "Train",
        "Predict",
        "Retrieve",
    }
    below = main.dockWidgetArea(frame(window, "Quality"))
    assert below == below.__class__.BottomDockWidgetArea
    assert docks.open_dock(window, "Genes") is docks.find_dock(window, "Genes")
    # Napari's menu toggles what we opened, because both call it the same.
    assert docks.full_name("Genes") in window.window.dock_widgets


def test_docks_follow_one_workspace_and_the_picture_shows_them(window, c2, tmp_path, qtbot):
    show_section(window, c2)
    show_gene(window, "ERBB2")
    quality = docks.find_dock(window, "Quality")
    qtbot.waitUntil(lambda: quality.model.quality is not None, timeout=30_000)
    row = quality.model.quality.genes.index("MS4A1")
    quality.table.selectRow(quality.sorted.mapFromSource(quality.model.index(row, 0)).row())
    genes = docks.find_dock(window, "Genes")
    assert genes.model.genes[genes.list.currentIndex().row()] == "MS4A1"
    shot = np.asarray(Image.open(capture_window(window, tmp_path / "window.png", (1200, 800))))
    assert shot.shape[0] > 600
    assert shot.shape[1] > 1000
    canvas = shot[100:500, 350:750].reshape(-1, 3)
    assert len(np.unique(canvas // 32, axis=0)) > 8  # tissue and spots, not an empty canvas


def test_nothing_is_cut_in_a_small_window(window, c2, qtbot):
    window.window.resize(1366, 768)
    show_section(window, c2)
    show_gene(window, "ERBB2")
    main = frame(window, "Workspace").window()
    for name in (
        "Workspace",
        "Open",
        "Genes",
        "Annotate",
        "Review",
        "Train",
        "Predict",
        "Retrieve",
    ):
        dock = docks.open_dock(window, name)
        qtbot.wait(50)
        page = dock._stack.currentWidget()
        assert page.widget().minimumSizeHint().width() <= page.viewport().width(), name
        assert dock.mapTo(main, dock.rect().bottomRight()).y() <= main.height(), name


def test_each_dock_can_be_opened_alone_by_napari_itself(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=False)
    _, widget = viewer.window.add_plugin_dock_widget("spotscope", "Genes")
    assert widget.workspace is workspace_of(viewer)
    assert isinstance(widget.parent(), QDockWidget)


def test_a_viewer_without_a_window_has_no_picture(viewer, tmp_path):
    with pytest.raises(SpotScopeError, match="no window"):
        capture_window(viewer, tmp_path / "window.png")


def test_the_sample_study_is_made_while_the_window_answers(
    make_napari_viewer, qtbot, fresh, monkeypatch, tmp_path
):
    import shutil
    import threading

    from qtpy.QtCore import QTimer

    from spotscope.plugin.samples import open_sample

    answered, threads = [], []

    def make(folder, seed, progress):
        threads.append(threading.current_thread() is threading.main_thread())
        for step in range(5):
            progress.report(step / 5, "Drawing tissue")
            threading.Event().wait(0.05)
        shutil.copytree(fresh.section.store, folder / "P1A.zarr")
        return [folder / "P1A.zarr"]

    import zarr

    zarr.open_group(fresh.section.store, mode="r+").attrs["spotscope"] = {"format": 1}
    monkeypatch.setattr("spotscope.jobs.study.make_study", make)
    monkeypatch.setattr("spotscope.data.store.open_section", lambda path: fresh.section)
    make_napari_viewer(show=False)
    QTimer.singleShot(20, lambda: answered.append(True))
    layers = open_sample()
    assert [about["name"] for _, about, _ in layers] == ["C2 slide", "C2 spots"]
    assert answered == [True]
    assert threads == [False]
