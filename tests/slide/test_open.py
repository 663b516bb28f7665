from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from spotscope.errors import Cancelled
from spotscope.progress import Progress
from spotscope.slide import open as opening
from spotscope.slide.open import open_slide, readable_formats, slide_name
from spotscope.slide.patches import read_patches

FORMATS = (
    "jpeg",
    "png",
    "untiled tiff",
    "tiled tiff",
    "pyramidal tiff",
    "ome-tiff",
    "planar ome-tiff",
    "svs",
    "ome-zarr 0.4",
    "ome-zarr 0.5",
)


def _tolerance(kind: str) -> int:
    return 12 if kind == "jpeg" else 0


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_pixels_in_row_col_order(kind, slides, picture):
    with open_slide(slides[kind]) as slide:
        level = slide.levels[0]
        assert level.shape == picture.shape
        assert slide.shape_px == picture.shape[:2]
        assert level.dtype == np.uint8
        off = np.abs(level[:].astype(int) - picture)
        assert off.max() <= _tolerance(kind)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_coloured_square_is_read_back_where_it_lies(kind, slides, picture):
    row, col = 150, 700
    with open_slide(slides[kind], mpp_um=0.5) as slide:
        patch = read_patches(slide, [(row, col)], 41 * 0.5, 41)[0]
    expected = picture[row - 20 : row + 21, col - 20 : col + 21]
    assert np.abs(patch.astype(int) - expected).max() <= _tolerance(kind)


@pytest.mark.parametrize("kind", FORMATS)
def test_levels_shrink_by_the_stated_downsamples(kind, slides, picture):
    with open_slide(slides[kind]) as slide:
        assert slide.downsamples[0] == 1
        assert len(slide.levels) == len(slide.downsamples)
        for level, step in zip(slide.levels[1:], slide.downsamples[1:], strict=True):
            assert step == int(step)
            reduced = np.asarray(Image.fromarray(picture).reduce(int(step)), int)
            rows, cols = np.minimum(reduced.shape, level.shape)[:2]
            assert abs(rows - reduced.shape[0]) <= 1
            assert np.abs(level[:rows, :cols].astype(int) - reduced[:rows, :cols]).mean() < 1.5


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("untiled tiff", ["TIFF resolution tags"]),
        ("pyramidal tiff", ["TIFF resolution tags"]),
        ("ome-tiff", ["OME-XML"]),
        ("planar ome-tiff", ["OME-XML"]),
        ("svs", ["Aperio properties"]),
        ("ome-zarr 0.4", ["OME-Zarr scale"]),
        ("ome-zarr 0.5", ["OME-Zarr scale"]),
        ("jpeg", []),
        ("png", []),
    ],
)
def test_micrometres_come_from_the_format(kind, names, slides):
    with open_slide(slides[kind]) as slide:
        assert [source.name for source in slide.mpp_sources] == names
        assert slide.mpp_um == (pytest.approx(0.5) if names else None)


def test_what_the_user_says_is_taken_and_a_contradiction_noted(slides):
    with open_slide(slides["svs"], mpp_um=0.25) as slide:
        assert slide.mpp_um == 0.25
        assert [(s.name, s.mpp_um) for s in slide.mpp_sources] == [
            ("you", 0.25),
            ("Aperio properties", 0.5),
        ]
        assert any("0.5 (Aperio properties)" in note for note in slide.notes)
    with open_slide(slides["svs"], mpp_um=0.505) as slide:
        assert slide.notes == ()


def test_a_flat_picture_is_decoded_once_for_its_content(tmp_path, picture, monkeypatch):
    path = tmp_path / "big.png"
    Image.fromarray(np.tile(picture, (3, 2, 1))).save(path)
    with open_slide(path) as first:
        assert first.downsamples == (1, 2, 4)
        assert max(first.levels[-1].shape[:2]) <= 1024

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr("spotscope.slide.pyramid.write_pyramid", refuse)
    with open_slide(path) as again:
        assert again.fingerprint == first.fingerprint
        np.testing.assert_array_equal(again.levels[0][700:750], first.levels[0][700:750])
    Image.fromarray(np.tile(picture[::-1], (3, 2, 1))).save(path)
    with pytest.raises(AssertionError, match="built again"):
        open_slide(path)


def test_a_cancelled_pyramid_leaves_nothing_in_the_cache(tmp_path, picture, monkeypatch):
    monkeypatch.setenv("SPOTSCOPE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "big.png"
    Image.fromarray(np.tile(picture, (3, 2, 1))).save(path)
    progress = Progress()
    progress.listener = lambda step: progress.cancel.set()
    with pytest.raises(Cancelled):
        open_slide(path, progress=progress)
    assert list((tmp_path / "cache").rglob("*.*")) == []


def test_without_a_pyramid_a_flat_picture_is_one_level(slides, picture):
    with open_slide(slides["png"], pyramid=False) as slide:
        assert len(slide.levels) == 1
        np.testing.assert_array_equal(slide.levels[0][100:200, 50:60], picture[100:200, 50:60])


def test_an_untiled_pyramid_is_built_anew_from_its_finest_level(tmp_path, picture):
    path = tmp_path / "strips.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(picture, photometric="rgb", subifds=1, rowsperstrip=32)
        half = np.asarray(Image.fromarray(picture).reduce(2))
        tif.write(half, photometric="rgb", subfiletype=1, rowsperstrip=32)
    with open_slide(path) as slide:
        assert slide.shape_px == picture.shape[:2]
        np.testing.assert_array_equal(slide.levels[0][:], picture)


def test_a_large_strip_is_decoded_once(tmp_path, picture, monkeypatch):
    monkeypatch.setattr("spotscope.slide.formats.tiff._LARGE_STRIP_BYTES", 1 << 20)
    decoded: list[int] = []
    asarray = tifffile.TiffPageSeries.asarray
    monkeypatch.setattr(
        tifffile.TiffPageSeries,
        "asarray",
        lambda self, **options: decoded.append(1) or asarray(self, **options),
    )
    for compression in (None, "zlib"):
        path = tmp_path / f"{compression}.tif"
        rows = picture.shape[0]
        tifffile.imwrite(
            path, picture, photometric="rgb", rowsperstrip=rows, compression=compression
        )
        decoded.clear()
        with open_slide(path, pyramid=False) as slide:
            for top in range(0, 600, 100):
                region = slide.read_region(0, top, 30, 100, 50)
                np.testing.assert_array_equal(region, picture[top : top + 100, 30:80])
        assert len(decoded) == 1


def test_a_large_tiled_file_without_coarse_levels_gets_only_these(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "_BROWSABLE_PX", 1500)
    path = tmp_path / "single.tif"
    pixels = np.random.default_rng(0).integers(0, 255, (1700, 2300, 3), np.uint8)
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb")
    with open_slide(path) as slide:
        assert slide.downsamples == (1, 2, 4)
        assert [type(level).__name__ for level in slide.levels] == [
            "TiffLevel",
            "ZarrLevel",
            "ZarrLevel",
        ]
        means = pixels.reshape(850, 2, 1150, 2, 3).mean(axis=(1, 3))
        assert np.abs(slide.levels[1][:] - means).max() <= 0.5


@pytest.mark.parametrize(
    ("name", "shape", "n_levels", "mpp_um"),
    [
        ("CMU-1-Small-Region.svs", (2967, 2220), 1, 0.499),
        ("CMU-1-Small-Region-dicom", (2967, 2220), 1, 0.499),
        ("luna-1065626.svs", (10249, 11952), 2, 0.5026),
        ("test3-DAPI.ndpi", (4864, 3968), 7, 0.228175),
        ("boxes.tiff", (250, 300), 4, None),
        ("xy_12bit__plant.ome.tiff", (512, 512), 2, 2.485922),
        ("kidney-48-5.tif", (901, 1493), 2, None),
        ("histoprep-slide.jpeg", (2500, 2500), 3, None),
        ("stain-target.png", (1000, 1000), 1, None),
        ("blobs_v3.zarr", (64, 64), 3, None),
    ],
)
def test_real_slides_open(name, shape, n_levels, mpp_um, shared_data):
    with open_slide(shared_data / "slides" / name) as slide:
        assert slide.shape_px == shape
        assert len(slide.levels) == n_levels
        assert slide.mpp_um == (None if mpp_um is None else pytest.approx(mpp_um, rel=1e-5))
        assert all(step == int(step) for step in slide.downsamples)
        coarse = slide.levels[-1][:]
        assert coarse.std() > 1


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "luna-1065626.svs", "boxes.tiff"])
def test_real_pyramids_equal_what_tifffile_decodes(name, shared_data):
    path = shared_data / "slides" / name
    with open_slide(path) as slide, tifffile.TiffFile(path) as tif:
        levels = tif.series[0].levels
        expected = levels[-1].asarray().astype(int)
        assert slide.levels[-1].shape == expected.shape
        # JPEG 2000 is decoded by other code in OpenSlide, with other rounding.
        assert np.abs(slide.levels[-1][:].astype(int) - expected).max() <= 2


def test_jpeg_2000_svs_is_placed_right_inside_its_level(shared_data):
    path = shared_data / "slides" / "luna-1065626.svs"
    with open_slide(path) as slide, tifffile.TiffFile(path) as tif:
        whole = tif.series[0].levels[1].asarray().astype(int)
        for row, col in ((1030, 700), (2049, 2401), (517, 1999)):
            region = slide.read_region(1, row, col, 90, 120).astype(int)
            assert np.abs(region - whole[row : row + 90, col : col + 120]).mean() < 1


def test_a_fingerprint_follows_the_content_not_the_name(slides, tmp_path):
    for kind in ("svs", "png", "ome-zarr 0.5"):
        copy = tmp_path / f"other-{slides[kind].name}"
        if slides[kind].is_dir():
            shutil.copytree(slides[kind], copy)
        else:
            shutil.copy(slides[kind], copy)
        with open_slide(slides[kind]) as one, open_slide(copy) as other:
            assert one.fingerprint == other.fingerprint
    with open_slide(slides["svs"]) as one, open_slide(slides["png"]) as other:
        assert one.fingerprint != other.fingerprint


def test_a_folder_of_several_pictures_opens_its_largest_and_says_so(shared_data):
    with open_slide(shared_data / "slides" / "blobs_v3.zarr") as slide:
        assert any("blobs_multiscale_image" in note for note in slide.notes)


def test_names_drop_the_ending_of_the_format():
    assert slide_name(Path("a/B4.jpg")) == "B4"
    assert slide_name(Path("a.b.ome.tiff")) == "a.b"
    assert slide_name(Path("x.OME.ZARR")) == "x"
    assert slide_name(Path("sample.1")) == "sample.1"
    assert slide_name(Path("folder")) == "folder"


def test_readable_formats_name_each_family():
    families = readable_formats()
    endings = [ending for family in families.values() for ending in family]
    assert len(endings) == len(set(endings))
    assert {".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".tif", ".zarr", ".jpg", ".png"} <= set(
        endings
    )
