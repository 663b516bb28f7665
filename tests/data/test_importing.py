from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from spotscope.data.importing import import_section, preview_source
from spotscope.data.store import open_section
from spotscope.errors import SpotScopeError
from spotscope.progress import Progress

MPP = 2.0


def write_tiff(path, mpp_um=None, shape_px=(520, 620)):
    pixels = np.random.default_rng(0).integers(100, 255, (*shape_px, 3), np.uint8)
    stated = {}
    if mpp_um:
        stated = {"resolution": (1e4 / mpp_um,) * 2, "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, tile=(128, 128), photometric="rgb", metadata=None, **stated)
    return path


def write_counts(folder, n_columns=6, n_rows=5, change=None):
    """Counts and positions of spots 200 µm apart at 2 µm a pixel."""
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(n_columns), np.arange(n_rows)))
    ids = [f"{a}x{b}" for a, b in zip(x, y, strict=True)]
    counts = pd.DataFrame(np.ones((len(ids), 3), int), index=ids, columns=["A", "B", "C"])
    counts.to_csv(folder / "T.tsv", sep="\t")
    spots = pd.DataFrame({"x": x, "y": y, "pixel_x": 50 + 100.0 * x, "pixel_y": 60 + 100.0 * y})
    if change is not None:
        change(spots)
    spots.to_csv(folder / "T_selection.tsv", sep="\t", index=False)
    return folder / "T.tsv"


def test_a_slide_alone_is_imported_without_spots(tmp_path):
    slide = write_tiff(tmp_path / "biopsy.tif", 0.5)
    preview = preview_source(slide)
    assert (preview.kind, preview.name, preview.n_spots) == ("slide", "biopsy", 0)
    section = import_section(slide, tmp_path / "biopsy.zarr", patient="Ann")
    assert (section.name, section.patient, section.spots) == ("biopsy", "Ann", None)
    assert section.mpp_um == pytest.approx(0.5)


def test_a_slide_without_scale_asks_for_it_and_takes_it(tmp_path):
    slide = write_tiff(tmp_path / "biopsy.tif")
    assert preview_source(slide).warnings[-1] == (
        "Nothing states the micrometres per pixel; enter them."
    )
    with pytest.raises(SpotScopeError, match="'biopsy.tif' does not state.*--mpp"):
        import_section(slide, tmp_path / "biopsy.zarr")
    section = import_section(slide, tmp_path / "biopsy.zarr", mpp_um=0.25)
    assert section.mpp_um == 0.25
    assert open_section(tmp_path / "biopsy.zarr").slide.mpp_sources[0].name == "you"


def test_a_scale_that_contradicts_the_spots_is_told_and_the_choice_kept(tmp_path):
    source = write_counts(tmp_path)
    write_tiff(tmp_path / "T.tif", 2.2)
    section = import_section(source, tmp_path / "T.zarr")
    (note,) = [note for note in section.notes if "differ" in note]
    assert "2 (spot pitch of 200 µm) is used" in note
    assert "2.2" in note
    again = open_section(tmp_path / "T.zarr")
    assert again.mpp_um == pytest.approx(MPP)
    assert [round(source.mpp_um, 3) for source in again.slide.mpp_sources] == [2.0, 2.2]
    assert note in again.notes


def test_scales_within_two_per_cent_agree(tmp_path):
    source = write_counts(tmp_path)
    write_tiff(tmp_path / "T.tif", 2.03)
    assert not any("differ" in note for note in preview_source(source).warnings)


def test_the_user_is_believed_before_all_files(tmp_path):
    source = write_counts(tmp_path)
    write_tiff(tmp_path / "T.tif", 2.2)
    section = import_section(source, tmp_path / "T.zarr", mpp_um=2.1)
    assert section.mpp_um == 2.1
    assert len(section.slide.mpp_sources) == 3


def test_spots_outside_the_picture_are_refused_by_number(tmp_path):
    source = write_counts(tmp_path)
    write_tiff(tmp_path / "T.tif", MPP, shape_px=(520, 480))
    with pytest.raises(SpotScopeError, match="5 of the 30 spots of 'T.tsv' lie outside"):
        import_section(source, tmp_path / "T.zarr")
    with pytest.raises(SpotScopeError, match="5 of the 30 spots"):
        preview_source(source)
    assert not (tmp_path / "T.zarr").exists()


def test_one_spot_outside_is_left_out_with_a_note(tmp_path):
    def change(spots):
        spots.loc[0, "pixel_x"] = -20.0

    source = write_counts(tmp_path, change=change)
    write_tiff(tmp_path / "T.tif", MPP)
    section = import_section(source, tmp_path / "T.zarr")
    assert section.n_spots == 29
    assert "1 spots outside the image were left out." in section.notes


def test_a_preview_reads_no_counts_and_writes_nothing(tmp_path, monkeypatch):
    source = write_counts(tmp_path)
    Image.fromarray(np.full((520, 620, 3), 200, np.uint8)).save(tmp_path / "T.jpg")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(np, "loadtxt", None)
    preview = preview_source(source)
    assert sorted(tmp_path.rglob("*")) == before
    assert (preview.n_spots, preview.n_genes, preview.shape_px) == (30, 3, (520, 620))
    assert preview.centres_px.shape == (30, 2)
    assert preview.thumbnail.shape == (520, 620, 3)
    assert preview.thumbnail_scale == 1.0


@pytest.mark.parametrize("mode", ["RGBA", "L", "I;16", "LA"])
def test_thumbnails_of_other_pictures_are_rgb(tmp_path, mode):
    values = np.tile(np.arange(0, 60000, 100, dtype=np.uint16), (520, 1))
    picture = Image.fromarray(values)
    if mode != "I;16":
        picture = Image.fromarray((values // 256).astype(np.uint8)).convert(mode)
    picture.save(tmp_path / "T.png")
    thumbnail = preview_source(tmp_path / "T.png").thumbnail
    assert thumbnail.shape == (520, 600, 3)
    assert thumbnail.dtype == np.uint8
    assert thumbnail[:, 0].max() < 10
    assert thumbnail[:, -1].min() > 200


def test_unknown_sources_and_missing_files_give_a_sentence(tmp_path):
    (tmp_path / "letter.docx").write_text("Dear colleague")
    with pytest.raises(SpotScopeError, match="'letter.docx' is not a source"):
        preview_source(tmp_path / "letter.docx")
    with pytest.raises(SpotScopeError, match="'tmp|no file or folder '.*nothing'"):
        preview_source(tmp_path / "nothing")
    with pytest.raises(SpotScopeError, match="no file .*gone.tif"):
        preview_source(write_counts(tmp_path), image=tmp_path / "gone.tif")
    slide = write_tiff(tmp_path / "T.tif", MPP)
    with pytest.raises(SpotScopeError, match="a slide alone; .* --image"):
        preview_source(slide, labels=tmp_path / "T.tsv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpotScopeError, match="'empty' is not a source"):
        preview_source(tmp_path / "empty")


def test_a_truncated_picture_leaves_nothing(tmp_path):
    source = write_counts(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (520, 620, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "T.jpg")
    whole = (tmp_path / "T.jpg").read_bytes()
    (tmp_path / "T.jpg").write_bytes(whole[: len(whole) // 2])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SpotScopeError, match="'T.jpg' cannot be read to its end"):
        import_section(source, tmp_path / "T.zarr")
    assert sorted(tmp_path.rglob("*")) == before


def test_progress_never_falls_and_ends_whole(tmp_path):
    source = write_counts(tmp_path)
    write_tiff(tmp_path / "T.tif", MPP)
    steps = []
    import_section(source, tmp_path / "T.zarr", progress=Progress(steps.append))
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert "counts table" in steps[0].message


def test_a_name_and_a_relative_path_are_taken(tmp_path, monkeypatch):
    write_counts(tmp_path)
    write_tiff(tmp_path / "T.tif", MPP)
    monkeypatch.chdir(tmp_path)
    section = import_section("T.tsv", "renamed.zarr", name="Left breast")
    assert (section.name, section.patient) == ("Left breast", "Left breast")
    assert section.spots.uns["spatial"].keys() == {"Left breast"}


def test_a_real_section_is_imported_whole(shared_data, tmp_path):
    source = shared_data / "her2st" / "counts" / "C2.tsv.gz"
    section = import_section(source, tmp_path / "C2.zarr")
    table = pd.read_csv(source, sep="\t", index_col=0)
    assert section.slide.shape_px == (9911, 9274)
    np.testing.assert_array_equal(section.counts.toarray(), table.to_numpy())
    with Image.open(shared_data / "her2st" / "images" / "C2.jpg") as picture:
        crop = np.asarray(picture.crop((4000, 5000, 4700, 5600)))
    np.testing.assert_array_equal(section.slide.levels[0][5000:5600, 4000:4700], crop)
