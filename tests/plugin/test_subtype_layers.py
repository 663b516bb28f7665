from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from spotscope.annotate.learnt import UNSURE
from spotscope.errors import SpotScopeError
from spotscope.plugin import colours
from spotscope.plugin.drawing import drawing_of, workspace_of
from spotscope.plugin.layers import described, find
from spotscope.plugin.script import show_gene, show_section

CLASSES = ["connective tissue", "invasive cancer"]


def shown(viewer):
    return {described(layer)["role"] for layer in viewer.layers if layer.visible}


@pytest.fixture
def workspace(viewer, fresh, add_subtypes):
    """A workspace that shows the predicted subtypes of a section."""
    add_subtypes(fresh.section)
    fresh.read_subtype_runs()
    show_section(viewer, fresh)
    found = workspace_of(viewer)
    found.show("predicted subtype")
    return found


def test_the_map_lies_on_the_slide_in_the_colours_of_the_classes(viewer, workspace, tissue_masks):
    layer = find(viewer.layers, workspace.section, "subtypes")
    assert shown(viewer) == {"slide", "subtypes"}
    # Four pixels along each side of a cell, so that the map ends where the tissue does.
    assert tuple(layer.scale) == (12.5, 12.5)
    assert tuple(layer.translate) == (5.25, 5.25)
    inside = np.kron(tissue_masks[0], np.ones((4, 4), bool))
    assert (layer.data > 0).sum() == pytest.approx(inside.sum(), rel=0.05)
    assert not layer.data[~ndimage.binary_dilation(inside, iterations=4)].any()
    # A cell in the middle of the dense tissue.
    dense = np.argwhere(tissue_masks[1] & tissue_masks[0])
    row, col = 4 * dense[len(dense) // 2] + 1
    assert layer.data[row, col] == 1 + CLASSES.index("invasive cancer")
    palette = workspace.palette(CLASSES)
    drawn = layer.colormap.map(np.array([0, 1, 2, 3]))
    np.testing.assert_allclose(drawn[0], 0, atol=1e-6)
    for place, name in enumerate(CLASSES, 1):
        np.testing.assert_allclose(drawn[place], colours.hex_to_rgba(palette[name]), atol=1e-6)
    np.testing.assert_allclose(drawn[3], colours.hex_to_rgba(colours.UNKNOWN_COLOUR), atol=1e-6)


def test_the_spots_bear_what_is_told_of_them_when_they_are_shown(viewer, workspace):
    drawing = drawing_of(viewer)
    spots = drawing.layer("spots")
    told = workspace.subtypes.told()
    palette = {**workspace.palette(CLASSES), UNSURE: colours.UNKNOWN_COLOUR}
    names = np.array([*CLASSES, UNSURE])[told.on_spots.codes]
    wanted = [colours.hex_to_rgba(palette[name]) for name in names]
    np.testing.assert_allclose(spots.face_color, wanted, atol=1e-6)


def test_a_higher_threshold_leaves_more_unsure_and_the_legend_counts_it(workspace):
    def unsure():
        return next(row for row in workspace.subtypes.told().legend() if row[0] == UNSURE)

    told = workspace.subtypes.told()
    assert sum(row[2] for row in told.legend()) == workspace.section.n_spots
    cells = told.on_grid.grid.mask.sum()
    assert sum(row[3] for row in told.legend()) == pytest.approx(cells * 0.05**2)
    few = unsure()
    workspace.subtypes.change(threshold=0.85)
    assert unsure()[2] > few[2]
    assert unsure()[3] > few[3]
    workspace.subtypes.change(threshold=1.0)
    assert unsure()[2] == workspace.section.n_spots


def test_settings_recolour_in_place(viewer, workspace):
    before = list(viewer.layers)
    layer = find(viewer.layers, workspace.section, "subtypes")
    was = layer.data.copy()
    workspace.subtypes.change(threshold=0.85, opacity=0.3, radius_um=200.0)
    assert list(viewer.layers) == before
    assert layer.opacity == pytest.approx(0.3)
    assert (layer.data != was).any()


def test_smoothing_takes_lone_cells_away(workspace):
    def lone():
        picture = workspace.subtypes.told().on_grid.labels()
        inner = picture[1:-1, 1:-1]
        around = (picture[:-2, 1:-1], picture[2:, 1:-1], picture[1:-1, :-2], picture[1:-1, 2:])
        return int(((inner > 0) & np.all([inner != side for side in around], axis=0)).sum())

    before = lone()
    workspace.subtypes.change(radius_um=120.0)
    assert lone() < before / 2


def test_values_out_of_range_are_refused(workspace):
    with pytest.raises(SpotScopeError, match="from 0 to 1"):
        workspace.subtypes.change(threshold=1.2)
    with pytest.raises(SpotScopeError, match="radius"):
        workspace.subtypes.change(radius_um=-1.0)


def test_what_is_told_under_the_mouse_is_said(viewer, workspace, tissue_masks):
    told, said = workspace.subtypes.told(), []
    workspace.subtypes.pointed.connect(said.append)
    grid = told.on_grid.grid
    cell = np.argwhere(tissue_masks[1] & tissue_masks[0])[40]
    place_um = (np.asarray(grid.origin_px) + cell * grid.stride_px) * 2.0
    drawing_of(viewer).review.point_at(tuple(place_um))
    number = int(np.flatnonzero((np.argwhere(grid.mask) == cell).all(axis=1))[0])
    share = told.on_grid.map.probabilities[number].max()
    assert "invasive cancer" in said[-1]
    assert f"{100 * share:.0f} %" in said[-1]
    viewer.status = {"coordinates": "[10 20]", "layer_base": "C2 slide"}
    assert viewer.status["coordinates"].startswith(said[-1])
    drawing_of(viewer).review.point_at((0.0, 0.0))
    assert said[-1] is None


def test_the_class_that_is_drawn_is_said_up_to_the_edge_of_the_tissue(viewer, workspace):
    said = []
    workspace.subtypes.pointed.connect(said.append)
    layer = find(viewer.layers, workspace.section, "subtypes")
    drawn = layer.data > 0
    edge = drawn & ~ndimage.binary_erosion(drawn)
    review = drawing_of(viewer).review
    for pixel in np.argwhere(edge)[::7]:
        review.point_at((0.0, 0.0))
        review.point_at(tuple(pixel * layer.scale + layer.translate))
        name = layer.features["subtype"][layer.data[tuple(pixel)]]
        assert said[-1].startswith(name)


def test_earlier_runs_can_be_chosen_again_after_reopening(viewer, workspace, add_subtypes):
    from spotscope.plugin.opened import OpenSection

    first = workspace.subtypes.run.id
    second = add_subtypes(workspace.section.section, "second", turned=True)
    workspace.subtypes.refresh(show=second)
    layer = find(viewer.layers, workspace.section, "subtypes")
    assert workspace.subtypes.run.id == second
    new = layer.data.copy()
    workspace.subtypes.show_run(first)
    assert (layer.data != new).any()
    again = OpenSection(workspace.section.section)
    assert {run.id for run in again.subtype_runs} == {first, second}
    with pytest.raises(SpotScopeError, match="it has"):
        workspace.subtypes.show_run("third")


def test_without_a_run_there_is_nothing_to_show(viewer, fresh):
    show_section(viewer, fresh)
    with pytest.raises(SpotScopeError, match="learn them from labels in Review"):
        workspace_of(viewer).show("predicted subtype")


def test_a_gene_goes_back_to_values(viewer, workspace):
    show_gene(viewer, "ERBB2")
    assert workspace.view == "measured"
    assert shown(viewer) == {"slide", "spots"}


def test_colours_follow_the_vocabulary(viewer, workspace):
    workspace.annotating.classes.add("invasive cancer")
    workspace.annotating.classes.recolour("invasive cancer", "#123456")
    layer = find(viewer.layers, workspace.section, "subtypes")
    drawn = layer.colormap.map(np.array([1 + CLASSES.index("invasive cancer")]))
    np.testing.assert_allclose(drawn[0], colours.hex_to_rgba("#123456"), atol=1e-6)
