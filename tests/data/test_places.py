from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from spotscope.data.places import Grid, Places, default_stride_um, spot_pitch_px
from spotscope.errors import SpotScopeError


def stub_section(centres=None, mpp=0.5):
    centres = None if centres is None else np.asarray(centres, float)
    return SimpleNamespace(
        name="S1",
        patient="P1",
        slide=object(),
        has_spots=centres is not None,
        n_spots=0 if centres is None else len(centres),
        centres_px=centres,
        mpp_um=mpp,
    )


@pytest.fixture
def mask(monkeypatch):
    """Have the tissue finder return a given mask and keep what it was asked."""
    import spotscope.slide.tissue as tissue

    asked = {}
    answer = np.zeros((3, 4), bool)
    answer[1, 1:3] = answer[2, 3] = True

    def find(slide, cell_px, origin_px):
        asked.update(cell_px=cell_px, origin_px=origin_px)
        return answer

    monkeypatch.setattr(tissue, "tissue_mask", find)
    return answer, asked


def test_centres_are_the_origin_plus_the_stride_times_the_cell():
    mask = np.array([[False, True], [True, False]])
    grid = Grid((2.5, 4.5), 10.0, 5.0, mask)
    assert grid.centres_px.tolist() == [[2.5, 14.5], [12.5, 4.5]]


def test_values_go_back_to_the_cells_that_they_belong_to():
    mask = np.array([[False, True], [True, False]])
    grid = Grid((0.0, 0.0), 10.0, 5.0, mask)
    picture = grid.image(np.array([3.0, 7.0]))
    assert picture.dtype == np.float32
    np.testing.assert_array_equal(picture, [[np.nan, 3], [7, np.nan]])
    assert grid.image(np.ones((2, 5))).shape == (2, 2, 5)


def test_the_first_cell_begins_at_the_edge_of_the_slide(mask):
    places = Places.on_grid(stub_section(), stride_um=4.0)
    assert mask[1] == {"cell_px": 8.0, "origin_px": (3.5, 3.5)}  # pixels 0 to 7 are centred on 3.5
    assert places.grid.stride_um == 4.0
    assert places.centres_px.tolist() == [[11.5, 11.5], [11.5, 19.5], [19.5, 27.5]]
    assert len(places) == 3


def test_spots_keep_their_order_and_have_no_grid():
    section = stub_section([[3.0, 1.0], [0.0, 9.0]])
    places = Places.on_spots(section)
    assert places.centres_px.tolist() == [[3.0, 1.0], [0.0, 9.0]]
    assert places.grid is None


def test_the_default_stride_is_half_the_pitch_within_limits():
    rows, cols = np.mgrid[:4, :4] * 1.0
    lattice = np.stack([rows.ravel(), cols.ravel()], 1)
    assert spot_pitch_px(stub_section(lattice * 200)) == 200
    assert default_stride_um(stub_section(lattice * 200, mpp=0.5)) == 50
    assert default_stride_um(stub_section(lattice * 16, mpp=0.5)) == 25  # bins of 8 µm
    assert default_stride_um(stub_section(lattice * 500, mpp=1.0)) == 100
    assert default_stride_um(stub_section()) == 50


def test_a_slide_alone_has_no_spots_to_predict_on():
    with pytest.raises(SpotScopeError, match="has no spots"):
        Places.on_spots(stub_section())


def test_a_grid_needs_the_scale_of_the_slide():
    with pytest.raises(SpotScopeError, match="micrometres per pixel"):
        Places.on_grid(stub_section(mpp=None))


@pytest.mark.parametrize("stride_um", [0.0, -3.0, 0.2, float("nan")])
def test_a_stride_below_a_pixel_is_refused(stride_um):
    with pytest.raises(SpotScopeError, match="stride"):
        Places.on_grid(stub_section(), stride_um=stride_um)


def test_a_slide_without_tissue_is_refused(mask):
    mask[0][:] = False
    with pytest.raises(SpotScopeError, match="No tissue"):
        Places.on_grid(stub_section(), stride_um=4.0)
