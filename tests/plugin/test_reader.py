from __future__ import annotations

import json
import time

import numpy as np
import pytest
from PIL import Image

from spotscope.plugin.drawing import workspace_of
from spotscope.plugin.reader import get_reader


@pytest.fixture
def store(fresh, tmp_path, monkeypatch):
    """A store that our reader is told to open as the section that it was made of."""
    import zarr

    path = fresh.section.store
    zarr.open_group(path, mode="r+").attrs["spotscope"] = {"format": 1}
    monkeypatch.setattr("spotscope.data.store.open_section", lambda path: fresh.section)
    return path


def test_a_section_is_read_as_slide_and_spots(store):
    layers = get_reader(str(store))(str(store))
    assert [(kind, about["name"]) for _, about, kind in layers] == [
        ("image", "C2 slide"),
        ("points", "C2 spots"),
    ]


@pytest.mark.parametrize("attributes", [{}, {"ome": {}}, None, "broken"])
def test_a_zarr_that_is_no_section_is_left_to_others_at_once(tmp_path, attributes):
    folder = tmp_path / "other.zarr"
    folder.mkdir()
    if attributes == "broken":
        (folder / "zarr.json").write_text("{not json")
    elif attributes is not None:
        (folder / "zarr.json").write_text(json.dumps({"attributes": attributes}))
    get_reader(str(folder))
    began = time.process_time()
    assert get_reader(str(folder)) is None
    assert time.process_time() - began < 0.02


def test_small_pictures_and_stacks_of_files_are_left_to_others(tmp_path):
    small = tmp_path / "photo.png"
    Image.fromarray(np.zeros((50, 80, 3), np.uint8)).save(small)
    assert get_reader(str(small)) is None
    assert get_reader([str(small), str(small)]) is None
    assert get_reader(str(tmp_path / "absent.svs")) is None
    grey = tmp_path / "grey.png"
    Image.fromarray(np.zeros((2, 5000), np.uint8)).save(grey)
    assert get_reader(str(grey)) is None


def test_a_colour_picture_as_large_as_a_slide_is_ours(tmp_path):
    large = tmp_path / "slide.jpg"
    Image.fromarray(np.zeros((8, 5000, 3), np.uint8)).save(large)
    assert get_reader(str(large)) is not None


def test_what_napari_opens_by_our_reader_joins_the_workspace(viewer, store):
    from napari.layers import Layer

    workspace = workspace_of(viewer)
    for data in get_reader(str(store))(str(store)):
        viewer.add_layer(Layer.create(*data))
    assert [opened.name for opened in workspace.sections] == ["C2"]
    workspace.show_gene("ERBB2")
    assert [layer.name for layer in viewer.layers] == ["C2 slide", "C2 ERBB2 measured"]


def test_what_was_opened_before_the_docks_joins_the_workspace_with_them(viewer, store):
    from napari.layers import Layer

    for data in get_reader(str(store))(str(store)):
        viewer.add_layer(Layer.create(*data))
    workspace = workspace_of(viewer)
    assert workspace.section is not None
    workspace.show_gene("ERBB2")
    assert len(viewer.layers) == 2


def test_a_gene_that_is_drawn_is_drawn_on_what_the_reader_opens_next(viewer, store, c3):
    from napari.layers import Layer

    from spotscope.plugin.script import show_gene, show_section

    show_section(viewer, c3)
    show_gene(viewer, "ERBB2")
    for data in get_reader(str(store))(str(store)):
        viewer.add_layer(Layer.create(*data))
    names = [layer.name for layer in viewer.layers if layer.visible]
    assert names == ["C2 slide", "C2 ERBB2 measured"]
