from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from spotscope.errors import SpotScopeError
from spotscope.slide.colour import on_white
from spotscope.slide.open import open_slide


def _opened(path):
    with open_slide(path) as slide:
        return slide.levels[0][:], " ".join(slide.notes)


@pytest.fixture
def grey(picture):
    return picture[..., 2]


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif"])
def test_greyscale_becomes_grey_rgb_and_is_noted(ending, grey, tmp_path):
    path = tmp_path / f"grey{ending}"
    Image.fromarray(grey).save(path, **({"quality": 98} if ending == ".jpg" else {}))
    pixels, notes = _opened(path)
    assert pixels.shape == (*grey.shape, 3)
    assert np.abs(pixels.astype(int) - grey[..., None]).max() <= (8 if ending == ".jpg" else 0)
    assert "greyscale" in notes


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_alpha_is_laid_on_white(ending, picture, tmp_path):
    alpha = np.full(picture.shape[:2], 255, np.uint8)
    alpha[:, :100] = 0
    alpha[:, 100:200] = 51
    path = tmp_path / f"alpha{ending}"
    rgba = np.dstack([picture, alpha])
    if ending == ".png":
        Image.fromarray(rgba).save(path)
    else:
        tifffile.imwrite(path, rgba, photometric="rgb", extrasamples=["unassalpha"])
    pixels, notes = _opened(path)
    assert (pixels[:, :100] == 255).all()
    expected = 255 - (255 - picture[:, 100:200].astype(float)) * 0.2
    assert np.abs(pixels[:, 100:200] - expected).max() <= 0.6
    np.testing.assert_array_equal(pixels[:, 200:], picture[:, 200:])
    assert "transparent" in notes


def test_sixteen_bits_are_scaled_by_what_the_pixels_use(picture, tmp_path):
    for bits in (12, 16):
        path = tmp_path / f"{bits}.tif"
        deep = (picture.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)
        deep[0, 0] = 2**bits - 1
        tifffile.imwrite(path, deep, photometric="rgb", tile=(128, 128))
        pixels, notes = _opened(path)
        assert np.abs(pixels[1:].astype(int) - picture[1:]).max() <= 1
        assert f"the {bits} bits that its pixels use" in notes


def test_bits_that_ome_states_are_taken(grey, tmp_path):
    path = tmp_path / "stated.ome.tiff"
    deep = grey.astype(np.uint16) * 4
    tifffile.imwrite(path, deep, metadata={"axes": "YX", "SignificantBits": 12}, tile=(128, 128))
    pixels, notes = _opened(path)
    assert np.abs(pixels[..., 0].astype(int) - grey / 4).max() <= 1
    assert "the 12 bits that it states" in notes


def test_a_sixteen_bit_png_is_scaled(grey, tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(grey.astype(np.uint16) * 257).save(path)
    pixels, notes = _opened(path)
    assert np.abs(pixels[..., 1].astype(int) - grey).max() <= 1
    assert "scaled to 8 bits" in notes


def test_palette_and_cmyk_pictures_become_rgb(picture, tmp_path):
    path = tmp_path / "palette.png"
    Image.fromarray(picture).quantize(64).save(path)
    assert np.abs(_opened(path)[0].astype(int) - picture).mean() < 8
    path = tmp_path / "cmyk.jpg"
    Image.fromarray(picture).convert("CMYK").save(path, quality=98, subsampling=0)
    assert np.abs(_opened(path)[0].astype(int) - picture).mean() < 3


def test_one_bit_pictures_are_black_and_white(grey, tmp_path):
    path = tmp_path / "bit.png"
    Image.fromarray(grey > 128).save(path)
    pixels, _ = _opened(path)
    np.testing.assert_array_equal(pixels[..., 0], np.where(grey > 128, 255, 0))


def test_a_tiff_where_zero_is_white_is_turned(grey, tmp_path):
    path = tmp_path / "white.tif"
    tifffile.imwrite(path, grey, photometric="miniswhite", tile=(128, 128))
    np.testing.assert_array_equal(_opened(path)[0][..., 0], 255 - grey)


def test_many_channels_are_refused_by_their_names(grey, tmp_path):
    path = tmp_path / "five.ome.tiff"
    stack = np.stack([grey] * 5)
    names = ["DAPI", "CD3", "CD8", "CD20", "PanCK"]
    metadata = {"axes": "CYX", "Channel": {"Name": names}}
    tifffile.imwrite(path, stack, metadata=metadata, tile=(128, 128), photometric="minisblack")
    with pytest.raises(SpotScopeError, match=r"5 channels \(DAPI, CD3, .*export it as an RGB"):
        open_slide(path)


def test_the_middle_focus_plane_is_shown_and_said(picture, tmp_path):
    path = tmp_path / "focus.ome.tiff"
    stack = np.stack([picture // 4, picture, picture // 2])
    tifffile.imwrite(path, stack, metadata={"axes": "ZYXS"}, tile=(128, 128), photometric="rgb")
    pixels, notes = _opened(path)
    np.testing.assert_array_equal(pixels, picture)
    assert "3 planes along Z; plane 2 is shown" in notes


def test_a_picture_to_be_shown_turned_is_shown_as_stored(picture, tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(path, quality=98, subsampling=0, exif=exif)
    pixels, notes = _opened(path)
    assert pixels.shape == picture.shape
    assert "as they are stored" in notes


def test_half_transparent_black_on_white_is_grey():
    assert on_white(np.array([[[0, 0, 0, 128]]], np.uint8)).tolist() == [[[127, 127, 127]]]
