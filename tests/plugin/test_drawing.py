from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Points
from scipy.ndimage import binary_erosion

from spotscope.plugin import colours
from spotscope.plugin.drawing import drawing_of, workspace_of
from spotscope.plugin.layers import described, find
from spotscope.plugin.script import show_gene, show_run, show_section


def roles(viewer):
    return [described(layer)["role"] for layer in viewer.layers]


def shown(viewer):
    return {described(layer)["role"] for layer in viewer.layers if layer.visible}


@pytest.fixture
def many(monkeypatch):
    """Have every section count as one with very many spots."""
    monkeypatch.setattr("spotscope.plugin.opened.POINTS_BELOW", 10)


def test_the_world_is_in_micrometres_with_a_scale_bar(viewer, c2):
    show_section(viewer, c2)
    assert [str(unit) for unit in viewer.layers.extent.units] == ["micrometer", "micrometer"]
    assert viewer.canvas.overlays["scale_bar"].visible
    slide = find(viewer.layers, c2, "slide")
    assert tuple(slide.scale) == (2.0, 2.0)
    rows, cols = c2.section.slide.shape_px
    assert viewer.layers.extent.world[1].tolist() == [2 * (rows - 1), 2 * (cols - 1)]


def test_the_slide_is_a_pyramid_of_dask_levels(viewer, c2):
    show_section(viewer, c2)
    slide = find(viewer.layers, c2, "slide")
    assert slide.multiscale
    assert slide.rgb
    assert all(type(level).__module__.startswith("dask") for level in slide.data)


def test_spots_lie_where_they_were_measured_at_their_true_size(viewer, c2):
    show_section(viewer, c2)
    spots = find(viewer.layers, c2, "spots")
    world = np.array([spots.data_to_world(point) for point in spots.data])
    xy = c2.section.spots.obsm["spatial"]
    np.testing.assert_allclose(world, xy[:, ::-1] * 2.0)
    assert np.allclose(spots.size * spots.scale[0], 50.0)  # micrometres across


def test_choosing_genes_and_views_again_adds_no_layers(viewer, c2):
    show_section(viewer, c2)
    for view in ("measured", "predicted", "error"):
        show_gene(viewer, "ERBB2", view)
    before = list(viewer.layers)
    for gene in ("MS4A1", "GENE00", "ERBB2"):
        for view in ("error", "predicted", "measured"):
            show_gene(viewer, gene, view)
    assert list(viewer.layers) == before
    assert roles(viewer) == ["slide", "prediction", "spots", "error"]


def test_measured_values_are_on_the_spots_in_their_colours(viewer, c2):
    show_section(viewer, c2)
    show_gene(viewer, "ERBB2")
    spots = find(viewer.layers, c2, "spots")
    limits = workspace_of(viewer).limits()
    wanted = colours.rgba(c2.measured("ERBB2"), limits, colours.expression_map())
    np.testing.assert_allclose(spots.face_color, wanted, atol=1e-6)
    assert spots.name == "C2 ERBB2 measured"


def test_the_map_lies_on_the_slide_and_is_empty_off_tissue(viewer, c2):
    show_section(viewer, c2)
    show_gene(viewer, "ERBB2", "predicted")
    layer = find(viewer.layers, c2, "prediction")
    run = c2.runs[0]
    cell, finer = run.grid.stride_um, 4
    assert tuple(layer.scale) == (cell / finer, cell / finer)
    # Its corner is that of cell (0, 0), whose centre lies at 12 px.
    assert tuple(layer.translate - layer.scale / 2) == (24.0 - cell / 2, 24.0 - cell / 2)
    values = c2.predicted_map(run, "ERBB2")
    inside = binary_erosion(run.grid.mask)  # away from the edge, a cell shows its own value
    for corner in (0, finer - 1):
        shown = layer.data[corner::finer, corner::finer]
        np.testing.assert_array_equal(shown[inside], values[inside])
    top = np.array(np.unravel_index(np.nanargmax(layer.data), layer.data.shape))
    # The test's violet patch is centred on 30 % of the rows and 35 % of the columns.
    where = np.array(layer.data_to_world(top)) / 2.0
    assert np.hypot(where[0] - 270, where[1] - 420) < 0.18 * 900 + 25
    assert layer.contrast_limits == pytest.approx(workspace_of(viewer).limits())


def test_the_error_is_drawn_in_diverging_colours_about_zero(viewer, c2):
    show_section(viewer, c2)
    show_gene(viewer, "ERBB2", "error")
    layer = find(viewer.layers, c2, "error")
    error = c2.error(c2.runs[0], "ERBB2")
    low = layer.face_color[error.argmin()]
    high = layer.face_color[error.argmax()]
    assert low[2] > low[0]
    assert high[0] > high[2]
    nearest_zero = layer.face_color[np.abs(error).argmin()]
    assert nearest_zero[:3].min() > 0.9


def test_each_view_shows_the_layer_that_it_is_of(viewer, c2):
    show_section(viewer, c2)
    assert shown(viewer) == {"slide", "spots"}
    show_gene(viewer, "ERBB2", "predicted")
    assert shown(viewer) == {"slide", "prediction"}
    show_gene(viewer, "ERBB2", "error")
    assert shown(viewer) == {"slide", "error"}
    workspace_of(viewer).show("subtype")
    assert shown(viewer) == {"slide", "spots"}


def test_the_eye_of_the_layer_list_is_left_alone_by_another_gene(viewer, c2):
    show_section(viewer, c2)
    show_gene(viewer, "ERBB2")
    find(viewer.layers, c2, "spots").visible = False
    show_gene(viewer, "MS4A1")
    assert not find(viewer.layers, c2, "spots").visible


def test_subtypes_have_their_colours_and_unlabelled_spots_let_the_tissue_through(viewer, c2):
    show_section(viewer, c2)
    workspace_of(viewer).show("subtype")
    spots = find(viewer.layers, c2, "spots")
    names, codes = c2.subtypes
    palette = colours.subtype_colours(names)
    for place, name in enumerate(names):
        wanted = colours.hex_to_rgba(palette[name])
        np.testing.assert_allclose(spots.face_color[codes == place][0], wanted, atol=1e-6)
    np.testing.assert_allclose(spots.face_color[codes < 0][0], colours.UNLABELLED, atol=1e-6)


def test_another_section_hides_the_first_and_keeps_its_layers(viewer, c2, c3):
    show_section(viewer, c2)
    show_gene(viewer, "ERBB2")
    show_section(viewer, c3)
    assert not find(viewer.layers, c2, "slide").visible
    assert find(viewer.layers, c3, "slide").visible
    assert find(viewer.layers, c3, "spots").name == "C3 ERBB2 measured"
    workspace_of(viewer).activate(c2)
    assert shown(viewer) == {"slide", "spots"}
    assert find(viewer.layers, c2, "slide").visible


def test_closing_a_section_takes_its_layers_away(viewer, c2, c3):
    show_section(viewer, c2)
    show_section(viewer, c3)
    workspace_of(viewer).remove(c3)
    assert {described(layer)["section"] for layer in viewer.layers} == {c2.key}


def test_deleting_the_slide_layer_closes_the_section(viewer, c2):
    show_section(viewer, c2)
    viewer.layers.remove(find(viewer.layers, c2, "slide"))
    assert workspace_of(viewer).sections == []
    assert len(viewer.layers) == 0


def test_a_spots_layer_deleted_by_hand_comes_back_with_the_next_gene(viewer, c2):
    show_section(viewer, c2)
    show_gene(viewer, "ERBB2")
    viewer.layers.remove(find(viewer.layers, c2, "spots"))
    show_gene(viewer, "MS4A1")
    assert find(viewer.layers, c2, "spots").name == "C2 MS4A1 measured"


def test_a_slide_alone_shows_its_map_and_no_spots(viewer, slide_alone):
    show_section(viewer, slide_alone)
    show_gene(viewer, "HER2")
    assert roles(viewer) == ["slide", "prediction"]
    assert shown(viewer) == {"slide", "prediction"}


def test_very_many_spots_are_a_picture_that_shows_the_same_values(viewer, c2, many):
    show_section(viewer, c2)
    show_gene(viewer, "ERBB2")
    spots = find(viewer.layers, c2, "spots")
    assert isinstance(spots, Image)
    values = c2.measured("ERBB2")
    for spot in (0, 100, 500):
        place = np.rint(spots.world_to_data(c2.centres_px[spot] * 2.0)).astype(int)
        assert spots.data[tuple(place)] == values[spot]
    workspace_of(viewer).show("subtype")
    names, codes = c2.subtypes
    place = np.rint(spots.world_to_data(c2.centres_px[300] * 2.0)).astype(int)
    colour = spots.colormap.map((spots.data[tuple(place)] + 0.5) / (len(names) + 1))
    wanted = colours.hex_to_rgba(colours.subtype_colours(names)[names[codes[300]]])
    np.testing.assert_allclose(np.ravel(colour), wanted, atol=1e-3)
    show_gene(viewer, "ERBB2", "error")
    assert isinstance(find(viewer.layers, c2, "error"), Image)


def test_few_spots_are_points_that_cannot_be_moved(viewer, c2):
    show_section(viewer, c2)
    spots = find(viewer.layers, c2, "spots")
    assert isinstance(spots, Points)
    assert not spots.editable


def press(viewer, key):
    from app_model.types import KeyBinding

    viewer.keymap[KeyBinding.from_str(key)](viewer)


def test_single_keys_choose_the_view_and_hide_the_spots(viewer, c2):
    show_section(viewer, c2)
    show_gene(viewer, "ERBB2")
    press(viewer, "E")
    assert workspace_of(viewer).view == "error"
    press(viewer, "S")
    assert not find(viewer.layers, c2, "error").visible
    press(viewer, "M")
    assert workspace_of(viewer).view == "measured"
    press(viewer, "P")
    assert workspace_of(viewer).view == "predicted"


def test_no_key_of_napari_s_viewer_is_taken(viewer):
    taken = {str(key) for key in viewer.class_keymap}
    drawing_of(viewer)
    ours = {str(key) for key in viewer.keymap}
    assert ours >= {"M", "P", "E", "S", "G", "1", "9", "[", "]", "Ctrl+Z", "Ctrl+Shift+Z"}
    assert not ours & taken


def test_asking_for_the_search_reaches_who_listens(viewer):
    asked = []
    workspace_of(viewer).search_asked.connect(lambda: asked.append(1))
    press(viewer, "G")
    assert asked == [1]


def test_the_slide_stays_the_chosen_layer_so_that_keys_mean_ours(viewer, c2):
    show_section(viewer, c2)
    for view in ("measured", "predicted", "error"):
        show_gene(viewer, "ERBB2", view)
        assert viewer.layers.selection.active is find(viewer.layers, c2, "slide")


def test_one_viewer_has_one_workspace(viewer):
    from napari.components import ViewerModel

    assert workspace_of(viewer) is workspace_of(viewer)
    assert workspace_of(viewer) is not workspace_of(ViewerModel())


def test_a_run_made_by_another_program_is_found_by_name(viewer, fresh, predict):
    opened = show_section(viewer, fresh)
    predict(fresh.section, "later")
    show_run(viewer, "later")
    assert workspace_of(viewer).run.id == "later"
    assert opened.runs[0].protocol == "held-out patient"


def test_a_prediction_on_training_data_says_so_on_its_layer(viewer, fresh, predict):
    predict(fresh.section, "seen", sections=("C2",))
    show_section(viewer, fresh)
    show_run(viewer)
    show_gene(viewer, "ERBB2", "predicted")
    assert find(viewer.layers, fresh, "prediction").name == "C2 ERBB2 predicted (trained on it)"


def test_the_map_follows_the_edge_of_the_tissue(viewer, c2, tissue_masks):
    show_section(viewer, c2)
    show_gene(viewer, "ERBB2", "predicted")
    layer = find(viewer.layers, c2, "prediction")
    shown = np.argwhere(np.isfinite(layer.data))
    row, col = (layer.scale * shown + layer.translate).T / c2.mpp_um
    out = np.hypot((row - 405) / 342, (col - 600) / 504)  # 1 at the edge of the ellipse
    assert out.max() < 1.03  # a cell's corner would reach 1.07
    assert np.isfinite(layer.data).sum() == pytest.approx(16 * tissue_masks[0].sum(), rel=0.05)


def test_another_run_of_another_grain_moves_the_same_map(viewer, fresh, predict):
    predict(fresh.section, "fine")
    predict(fresh.section, "coarse", stride=50.0)
    fresh.read_runs()
    show_section(viewer, fresh)
    show_run(viewer, "fine")
    show_gene(viewer, "ERBB2", "predicted")
    layer = find(viewer.layers, fresh, "prediction")
    fine = layer.data.shape
    show_run(viewer, "coarse")
    assert find(viewer.layers, fresh, "prediction") is layer
    assert layer.data.shape[0] < fine[0]
    assert tuple(layer.scale) == (25.0, 25.0)
    assert layer.extent.world[1] == pytest.approx([1800, 2400], abs=110)


def test_the_spot_under_the_mouse_is_told_once(viewer, c2):
    from types import SimpleNamespace

    show_section(viewer, c2)
    show_gene(viewer, "ERBB2")
    told = []
    workspace = workspace_of(viewer)
    workspace.pointed.connect(told.append)
    at = c2.centres_px[7] * 2.0
    for place in (at, at + 3.0, (0.0, 0.0)):
        for callback in viewer.mouse_move_callbacks:
            callback(viewer, SimpleNamespace(position=tuple(place)))
    assert told == [7, None]
    said = workspace.describe_spot(7)
    assert said.startswith(str(c2.section.barcodes[7]))
    assert f"ERBB2 measured {c2.measured('ERBB2')[7]:.2f} · predicted " in said
    assert said.endswith("connective tissue")


def test_the_slide_stays_fitted_until_the_user_moves_it(viewer, c2):
    viewer.canvas.size = (600, 800)
    show_section(viewer, c2)
    camera = viewer.scene.camera
    large = camera.zoom
    viewer.canvas.size = (300, 800)
    assert camera.zoom < large
    camera.zoom = moved = 2.5
    viewer.canvas.size = (600, 800)
    assert camera.zoom == moved
