from __future__ import annotations

import numpy as np
import pytest
import shapely
from napari.utils.key_bindings import coerce_keybinding

from spotscope.errors import SpotScopeError
from spotscope.plugin.drawing import drawing_of, workspace_of
from spotscope.plugin.layers import described
from spotscope.plugin.review_drawing import NAME
from spotscope.plugin.review_page import _said
from spotscope.plugin.review_state import outline_of_cells
from spotscope.plugin.script import show_section


@pytest.fixture
def workspace(viewer, fresh, add_subtypes):
    """A workspace with predicted subtypes of a labelled section."""
    add_subtypes(fresh.section)
    fresh.read_subtype_runs()
    show_section(viewer, fresh)
    return workspace_of(viewer)


def outline(viewer):
    layers = [layer for layer in viewer.layers if layer.name == NAME]
    assert len(layers) <= 1
    return layers[0] if layers else None


def labels(workspace):
    return workspace.annotating.document.labels()


def press(viewer, key):
    viewer.keymap[coerce_keybinding(key)](viewer)


def test_the_most_uncertain_place_comes_to_the_middle_with_its_outline(viewer, workspace):
    target = workspace.review.next("uncertain")
    assert target.probability < 0.6
    np.testing.assert_allclose(viewer.camera.center[-2:], np.array(target.centre_px) * 2.0)
    centres = workspace.section.centres_px[target.spots]
    corners = np.concatenate(outline(viewer).data)[:, -2:]
    assert (corners.min(axis=0) < centres.min(axis=0)).all()
    assert (corners.max(axis=0) > centres.max(axis=0)).all()
    assert described(viewer.layers.selection.active)["role"] == "slide"


def test_unsure_tissue_between_spots_is_asked_about_and_no_spot_twice(viewer, fresh, add_subtypes):
    add_subtypes(fresh.section, stride=12.0)
    fresh.read_subtype_runs()
    show_section(viewer, fresh)
    workspace = workspace_of(viewer)
    workspace.subtypes.change(threshold=0.6)
    review, told = workspace.review, workspace.subtypes.told()
    review.next("uncertain")
    targets = review.queue.targets
    asked = np.concatenate([target.spots for target in targets])
    assert len(np.unique(asked)) == len(asked)
    unsure = np.flatnonzero(told.on_spots.codes < 0)
    assert len(unsure) > 20
    assert np.isin(unsure, asked).all()
    # A spot is every 30 px: what is smaller and holds none is left to the eye.
    bare = [target for target in targets if not len(target.spots)]
    assert all(
        sum(shapely.Polygon(ring).area for ring in target.outline) >= 0.99 * 30.0**2
        for target in bare
    )
    assert any(len(target.spots) > 1 for target in targets)


def test_unsure_places_without_labels_come_first(workspace):
    review = workspace.review
    workspace.subtypes.change(threshold=0.6)
    review.next("uncertain")
    workspace.annotating.erase(review.queue.targets[-1].spots)
    workspace.subtypes.change(threshold=0.601)  # another reading: the places are found anew
    review.next("uncertain")
    known = [bool(review.annotated(target)) for target in review.queue.targets]
    assert known == sorted(known)
    assert not known[0]
    assert known[-1]


def test_tissue_unlike_anything_learnt_says_so_and_not_how_probable_a_class_is(
    viewer, bare_slide, add_subtypes
):
    add_subtypes(bare_slide.section)
    bare_slide.read_subtype_runs()
    show_section(viewer, bare_slide)
    workspace = workspace_of(viewer)
    assert workspace.view == "predicted subtype"  # all there is of this slide
    told = workspace.subtypes.told()
    cell = int(np.argmax(told.on_grid.map.probabilities.max(axis=1)))
    sure = told.on_grid.say(cell)
    assert "unlike" not in sure
    told.on_grid.map.distance[:] = 1.5
    workspace.subtypes.change(threshold=0.51)
    part = workspace.subtypes.told().on_grid
    assert part.say(cell) == f"unsure, unlike anything learnt ({sure})"
    target = workspace.review.next("uncertain")
    assert target.strange
    assert "unlike anything learnt" in _said(target, None)
    assert "%" not in _said(target, None)


def test_progress_counts_what_was_looked_at(workspace):
    review = workspace.review
    review.next("uncertain")
    count = len(review.queue.targets)
    assert review.progress() == f"0 of {count} looked at"
    review.next()
    review.next()
    assert review.progress() == f"2 of {count} looked at"
    review.back()
    assert review.progress() == f"2 of {count} looked at"


def test_the_first_place_has_none_before_it_and_the_last_none_after(workspace):
    review = workspace.review
    first = review.next("uncertain")
    assert review.back() is first
    for _ in review.queue.targets:
        review.next()
    assert review.current is None
    assert len(review.queue.looked) == len(review.queue.targets)
    assert review.back() is review.queue.targets[-1]


def test_accepting_labels_the_spots_in_one_step_and_goes_on(workspace):
    review, document = workspace.review, workspace.annotating.document
    before = labels(workspace)
    target = review.next("uncertain")
    review.accept()
    assert (labels(workspace)[target.spots] == target.told).all()
    assert review.current is review.queue.targets[1]
    document.undo()
    np.testing.assert_array_equal(labels(workspace), before)


def test_a_disagreement_is_where_annotation_and_prediction_differ(workspace):
    review = workspace.review
    target = review.next("disagreement")
    assert review.annotated(target) != target.told
    told = workspace.subtypes.told().on_spots
    assert (told.codes[target.spots] == told.map.classes.index(target.told)).all()


def test_a_number_key_corrects_and_goes_to_the_next(viewer, workspace):
    press(viewer, "D")
    target = workspace.review.current
    classes = workspace.annotating.classes.listed
    one = next(one for one in classes if one.key == 1)
    press(viewer, "1")
    assert (labels(workspace)[target.spots] == one.name).all()
    assert workspace.review.current is not target
    press(viewer, "Control-Z")
    assert (labels(workspace)[target.spots] != one.name).any()


def test_keys_accept_and_stop(viewer, workspace):
    press(viewer, "N")
    target = workspace.review.current
    press(viewer, "A")
    assert (labels(workspace)[target.spots] == target.told).all()
    assert outline(viewer) is not None
    press(viewer, "Escape")
    assert workspace.review.current is None
    assert outline(viewer) is None
    press(viewer, "N")
    second = workspace.review.current
    press(viewer, "Enter")
    assert (labels(workspace)[second.spots] == second.told).all()


def test_without_a_place_number_keys_choose_classes_as_before(viewer, workspace):
    assert workspace.annotating.document is not None
    press(viewer, "2")
    assert workspace.annotating.classes.chosen is not None
    assert workspace.annotating.document.next_undo is None


def test_what_a_key_cannot_do_is_said(viewer, workspace):
    said = []
    workspace.review.said.connect(said.append)
    press(viewer, "A")
    assert said[-1].startswith("Go to a place first")
    press(viewer, "N")
    assert said[-1] == ""
    press(viewer, "9")
    assert said[-1] == "No class has the key 9; set it in Annotate."


def test_a_disagreement_that_was_settled_meanwhile_is_passed_over(workspace):
    review = workspace.review
    first = review.next("disagreement")
    second = review.queue.targets[1]
    workspace.annotating.mark(second.spots, second.told)
    review.next()
    assert review.current is review.queue.targets[2]
    assert review.current is not first
    assert review.progress().startswith("2 of")


def test_where_all_agree_there_is_nothing_to_review(workspace):
    told = workspace.subtypes.told().on_spots
    for place, name in enumerate(told.map.classes):
        sure = told.map.probabilities.argmax(axis=1) == place
        workspace.annotating.mark(np.flatnonzero(sure), name)
    with pytest.raises(SpotScopeError, match="differ nowhere"):
        workspace.review.next("disagreement")
    assert workspace.review.current is None


def test_suggested_spots_are_gone_through_one_by_one(viewer, workspace):
    review = workspace.review
    review.suggest([7, 3, 11])
    assert review.current.spots.tolist() == [7]
    assert len(outline(viewer).data) == 2 + 2  # the other two, and this one in black and white
    review.correct("connective tissue")
    assert review.current.spots.tolist() == [3]
    assert labels(workspace)[7] == "connective tissue"
    assert review.progress() == "1 of 3 looked at"


def test_another_section_has_its_own_review(viewer, workspace, unlabelled):
    workspace.review.next("uncertain")
    first = workspace.section
    show_section(viewer, unlabelled)
    assert workspace.review.current is None
    assert outline(viewer) is None
    with pytest.raises(SpotScopeError, match="learn them first"):
        workspace.review.next("uncertain")
    workspace.activate(first)
    assert workspace.review.next("uncertain") is not None


def test_a_slide_without_spots_gets_regions(viewer, bare_slide, add_subtypes):
    add_subtypes(bare_slide.section)
    bare_slide.read_subtype_runs()
    show_section(viewer, bare_slide)
    workspace = workspace_of(viewer)
    target = workspace.review.next("uncertain")
    assert target.spots.size == 0
    workspace.review.accept()
    regions = workspace.annotating.document.regions
    assert [one.subtype for one in regions] == [target.told] * len(target.outline)
    middle = np.mean([one.geometry.centroid.coords[0][::-1] for one in regions], axis=0)
    assert np.hypot(*(middle - target.centre_px)) < target.extent_px
    with pytest.raises(SpotScopeError, match="no annotated spots"):
        workspace.review.next("disagreement")


def test_the_outline_of_cells_follows_their_edges():
    from spotscope.data.places import Grid

    mask = np.ones((4, 4), bool)
    grid = Grid((5.0, 5.0), 10.0, 10.0, mask)
    (ring,) = outline_of_cells(grid, np.array([0, 1, 4]))
    assert ring.min() == 0
    assert ring.max() == 20
    assert [20, 20] not in ring.tolist()  # the fourth cell of the square is not among them


def test_the_camera_keeps_a_zoom_at_which_the_place_is_seen(viewer, workspace):
    workspace.review.next("uncertain")
    viewer.camera.zoom *= 1.2
    kept = viewer.camera.zoom
    workspace.review.queue.targets[1] = workspace.review.queue.targets[0]  # as wide as the first
    workspace.review.next()
    assert viewer.camera.zoom == pytest.approx(kept)


def test_the_map_fades_while_a_place_is_looked_at_and_can_be_hidden(viewer, workspace):
    workspace.show("predicted subtype")
    layer = drawing_of(viewer).layer("subtypes")
    assert layer.opacity == pytest.approx(0.6)
    press(viewer, "N")
    assert layer.opacity < 0.3
    press(viewer, "S")
    assert not layer.visible
    press(viewer, "S")
    assert layer.visible
    press(viewer, "Escape")
    assert layer.opacity == pytest.approx(0.6)


def test_number_keys_of_the_slide_are_ours(viewer, workspace):
    slide = drawing_of(viewer).layer("slide")
    workspace.review.next("uncertain")
    target = workspace.review.current
    slide.keymap[coerce_keybinding("1")](slide)
    assert workspace.review.current is not target
    assert slide.mode == "pan_zoom"
