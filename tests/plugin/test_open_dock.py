from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import QSize

from spotscope.plugin.drawing import workspace_of
from spotscope.plugin.open_dock import OpenDock
from spotscope.plugin.preview import ScaleChoice, draw_preview
from spotscope.plugin.words import in_fields, in_window
from spotscope.slide.mpp import MppSource


@pytest.fixture
def dock(qtbot, viewer):
    made = OpenDock(viewer)
    qtbot.addWidget(made)
    return made


def settled(qtbot, dock):
    qtbot.waitUntil(lambda: not dock.job_bar.running, timeout=30_000)


@pytest.fixture
def source(tmp_path):
    """A picture, counts and spots as the first-generation arrays give them."""
    pixels = np.full((600, 800, 3), 240, np.uint8)
    pixels[100:500, 100:700] = (225, 170, 200)
    Image.fromarray(pixels).save(tmp_path / "S1.jpg", quality=95)
    places = [(x, y) for y in range(5) for x in range(6)]
    counts = ["\tERBB2\tACTB"] + [f"{x}x{y}\t{x + 1}\t{y + 3}" for x, y in places]
    (tmp_path / "S1.tsv").write_text("\n".join(counts))
    head = "x\ty\tnew_x\tnew_y\tpixel_x\tpixel_y\tselected"
    rows = [f"{x}\t{y}\t{x}\t{y}\t{150 + 100 * x}\t{120 + 90 * y}\t1" for x, y in places]
    (tmp_path / "S1_selection.tsv").write_text("\n".join([head, *rows]))
    return tmp_path / "S1.tsv"


def test_a_source_is_previewed_imported_and_shown(qtbot, dock, viewer, source):
    dock.pick(source)
    settled(qtbot, dock)
    if not dock.preview:  # the files are not found by their names alone
        dock.extra["image"].setText(str(source.with_suffix(".jpg")))
        dock.extra["spots"].setText(str(source.with_name("S1_selection.tsv")))
        dock._look()
        settled(qtbot, dock)
    assert dock.preview is not None, dock.message.text
    assert "30 spots, 2 genes" in dock.found.text()
    dock.patient.setText("P7")
    if not dock.do_import.isEnabled():
        dock.scale.figure.setValue(2.0)
    dock.do_import.click()
    settled(qtbot, dock)
    workspace = workspace_of(viewer)
    assert workspace.section is not None, dock.message.text
    assert workspace.section.section.patient == "P7"
    assert workspace.section.n_spots == 30
    assert (source.parent / f"{workspace.section.name}.zarr").is_dir()


def test_what_cannot_be_read_is_said_and_the_files_can_be_named(qtbot, dock, tmp_path):
    odd = tmp_path / "letter.docx"
    odd.write_text("x")
    dock.pick(odd)
    settled(qtbot, dock)
    assert "letter.docx" in dock.message.text
    assert not dock.details.isHidden()
    assert not dock.do_import.isEnabled()
    assert dock.do_import.toolTip()


def test_sentences_name_the_fields_and_not_the_options():
    said = in_fields("Nothing states it; give it with --mpp, or the slide with --image.")
    assert (
        said == "Nothing states it; give it in the field below, or the slide in the field Slide."
    )


def test_elsewhere_sentences_name_what_the_window_has():
    assert (
        in_window("No scale; import it again with --mpp.") == "No scale; import it again in Open."
    )
    said = "import one of them again under another name, with --name."
    assert in_window(said) == "import one of them again under another name."


def test_the_user_chooses_between_sources_or_enters_a_scale(qtbot):
    scale = ScaleChoice()
    qtbot.addWidget(scale)
    sources = (MppSource("Space Ranger", 0.5), MppSource("the slide", 0.53))
    scale.show_sources(sources, 0.5)
    assert scale.mpp_um() == 0.5
    assert scale.chosen_by_user() is None
    list(scale._sources)[1].setChecked(True)
    assert scale.mpp_um() == scale.chosen_by_user() == 0.53
    scale.figure.setValue(0.25)
    assert scale.own.isChecked()
    assert scale.chosen_by_user() == 0.25
    scale.show_sources((), None)
    scale.figure.setValue(0)
    assert scale.mpp_um() is None


def test_the_preview_draws_spots_in_their_places(qtbot):
    from spotscope.data.importing import ImportPreview

    preview = ImportPreview(
        kind="test",
        name="S",
        patient="",
        image=None,
        shape_px=(400, 800),
        thumbnail=np.full((100, 200, 3), 255, np.uint8),
        thumbnail_scale=0.25,
        n_spots=1,
        centres_px=np.array([[80.0, 600.0]]),
        spot_diameter_um=40.0,
        mpp_um=1.0,
    )
    drawn = draw_preview(preview, QSize(100, 100)).toImage()  # half the thumbnail's size
    assert (drawn.width(), drawn.height()) == (100, 50)

    def white(col, row):
        return drawn.pixelColor(col, row).lightness() > 240

    # A ring of 2.5 px about column 75, row 10.
    assert not all(white(75 + step, 10) for step in (2, 3))
    assert not all(white(75, 10 + step) for step in (2, 3))
    assert white(75, 10)
    assert white(85, 10)
    assert white(10, 75 % 50)


def test_a_section_that_was_opened_is_recent_at_once(dock, viewer, fresh):
    from spotscope.plugin.script import show_section

    dock.show()
    assert not dock.start.recent.isEnabled()
    show_section(viewer, fresh)
    assert dock.start.recent.isEnabled()
    dock.start._fill_recent()
    assert [action.text() for action in dock.start._menu.actions()] == ["C2.zarr"]
