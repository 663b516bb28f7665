from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spotscope.slide.levels import PixelLevel
from spotscope.slide.open import open_slide
from spotscope.slide.overview import overview
from spotscope.slide.slide import Slide
from spotscope.slide.tissue import LEAST_TISSUE, find_tissue, tissue_mask

GLASS = (243, 240, 244)
PINK = (214, 150, 190)
PURPLE = (120, 80, 150)


def _section(background: tuple[int, int, int] = GLASS) -> np.ndarray:
    """Glass with a block of tissue at rows 200 to 600 and columns 100 to 400."""
    rng = np.random.default_rng(0)
    picture = np.full((800, 1000, 3), background, np.int16)
    picture[200:600, 100:400] = PINK
    nuclei = rng.random((400, 300)) < 0.3
    picture[200:600, 100:400][nuclei] = PURPLE
    picture += rng.normal(0, 2, picture.shape).astype(np.int16)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _slide(pixels: np.ndarray) -> Slide:
    return Slide(Path("made"), "made", [PixelLevel(pixels)], (1.0,))


@pytest.mark.parametrize("background", [GLASS, (255, 255, 255), (225, 205, 225), (0, 0, 0)])
def test_tissue_is_found_on_any_background(background):
    found = find_tissue(_section(background))
    truth = np.zeros((800, 1000), bool)
    truth[200:600, 100:400] = True
    union = (found | truth).sum()
    assert (found & truth).sum() / union > 0.97


def test_glass_alone_gives_nothing_and_tissue_alone_gives_all():
    rng = np.random.default_rng(0)
    glass = np.clip(np.array(GLASS) + rng.normal(0, 2, (500, 400, 3)), 0, 255).astype(np.uint8)
    assert not find_tissue(glass).any()
    assert not find_tissue(np.full((300, 300, 3), 255, np.uint8)).any()
    assert not find_tissue(np.zeros((300, 300, 3), np.uint8)).any()
    assert find_tissue(_section()[210:590, 110:390]).mean() > 0.99
    assert find_tissue(np.full((200, 200, 3), PINK, np.uint8)).all()


def test_pale_stroma_counts_beside_dark_tumour():
    picture = _section()
    picture[200:600, 400:700] = (226, 198, 222)
    assert find_tissue(picture)[220:580, 420:680].mean() > 0.95


def test_black_padding_ink_dust_and_shadow_are_left_out():
    picture = _section()
    picture[:, 900:] = 0
    picture[20:80, 500:800] = (30, 120, 70)
    picture[100:110, 500:800] = (20, 20, 25)
    picture[700:760, 100:300] = (200, 198, 201)
    picture[650, 900 - 300] = PURPLE
    found = find_tissue(picture)
    assert found[205:595, 105:395].mean() > 0.99
    found[190:610, 90:410] = False
    assert found.mean() < 0.002


def test_grey_and_fluorescence_pictures_have_tissue():
    grey = np.repeat(_section().mean(axis=2).astype(np.uint8)[..., None], 3, axis=2)
    found = find_tissue(grey)
    assert found[205:595, 105:395].mean() > 0.95
    assert found[:150].mean() < 0.01
    found = find_tissue(255 - grey)
    assert found[205:595, 105:395].mean() > 0.95
    assert found[:150].mean() < 0.01


def test_cells_lie_on_the_grid_that_is_asked_for():
    slide = _slide(_section())
    mask = tissue_mask(slide, 50.0, (24.5, 24.5))
    assert mask.shape == (16, 20)
    expected = np.zeros((16, 20), bool)
    expected[4:12, 2:8] = True
    np.testing.assert_array_equal(mask, expected)
    shifted = tissue_mask(slide, 50.0, (74.5, 124.5))
    np.testing.assert_array_equal(shifted, expected[1:, 2:])


def test_a_cell_counts_from_a_quarter_of_its_area_on():
    assert LEAST_TISSUE == 0.25
    slide = _slide(_section())
    # Cells of 100 px whose left part of 70 or 80 px is glass: 30 and 20 % are tissue.
    for left, counts in ((30, True), (20, False)):
        mask = tissue_mask(slide, 100.0, (349.5, 49.5 + left))
        assert mask[0, 0] == counts


def test_cells_smaller_and_larger_than_the_overviews_pixels_agree():
    pixels = np.kron(_section(), np.ones((4, 4, 1), np.uint8))
    slide = _slide(pixels)
    picture, step = overview(slide, 2048)
    assert step == 2
    assert picture.shape == (1600, 2000, 3)
    small = tissue_mask(slide, 5.0, (2.0, 2.0))
    assert small.shape == (640, 800)
    assert abs(small.mean() - 0.15) < 0.002
    large = tissue_mask(slide, 300.0, (149.5, 149.5))
    assert abs(small.mean() - 0.15) < 0.005
    assert large[3:7, 2:5].all()


def test_an_overview_takes_the_levels_that_are_there(slides, picture):
    with open_slide(slides["pyramidal tiff"]) as slide:
        small, step = overview(slide, 600)
        assert (small.shape, step) == ((350, 550, 3), 2.0)
        np.testing.assert_array_equal(small, slide.levels[1][:])
        tiny, step = overview(slide, 100)
        assert max(tiny.shape) <= 100
        assert step == 12.0
        whole, step = overview(slide, 5000)
        assert step == 1
        np.testing.assert_array_equal(whole, picture)


def test_the_pathologists_spots_lie_on_the_tissue_of_a_real_section(shared_data):
    import pandas as pd

    folder = shared_data / "her2st"
    spots = pd.read_csv(folder / "spots" / "C2_selection.tsv", sep="\t")
    spots = spots[spots["selected"] == 1]
    with open_slide(folder / "images" / "C2.jpg") as slide:
        cell = 135.0
        mask = tissue_mask(slide, cell, ((cell - 1) / 2, (cell - 1) / 2))
    row, col = (np.floor((spots[f"pixel_{axis}"] + 0.5) / cell).astype(int) for axis in "yx")
    assert mask[row, col].mean() > 0.97
    assert 0.15 < mask.mean() < 0.21
    assert not mask[[0, 0, -1, -1], [0, -1, 0, -1]].any()


def test_black_padding_of_a_real_thumbnail_is_no_tissue(shared_data):
    path = shared_data / "her2st" / "images" / "A1_2000px.png"
    with open_slide(path) as slide:
        picture, _ = overview(slide)
        found = find_tissue(picture)
    assert found[picture.max(axis=2) < 20].mean() < 0.003
    middle = found[int(0.4 * len(found)) : int(0.75 * len(found)), int(0.2 * found.shape[1]) :]
    assert middle[:, : int(0.5 * found.shape[1])].mean() > 0.95


def test_a_mask_is_found_once_for_a_content_and_cannot_be_spoilt(monkeypatch):
    from spotscope.slide import tissue

    slide = replace(_slide(_section()), fingerprint="of this test")
    first = tissue_mask(slide, 50.0, (24.5, 24.5))
    monkeypatch.setattr(tissue, "find_tissue", None)  # a second search would fail
    again = tissue_mask(slide, 50.0, (24.5, 24.5))
    assert again.any()
    again[:] = False
    np.testing.assert_array_equal(tissue_mask(slide, 50.0, (24.5, 24.5)), first)
    with pytest.raises(TypeError):
        tissue_mask(slide, 40.0, (19.5, 19.5))
