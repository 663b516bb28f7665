from __future__ import annotations

import pytest

from spotscope.errors import SpotScopeError
from spotscope.slide.mpp import MppSource, choose_mpp, from_resolution, mpp_source, um_per
from spotscope.slide.open import open_slide


def test_the_first_source_is_taken_and_agreement_is_silent():
    sources = [MppSource("spot pitch", 0.5), MppSource("TIFF resolution tags", 0.5099)]
    assert choose_mpp(sources) == (0.5, ())


def test_a_contradiction_above_two_per_cent_names_both_values():
    mpp, warnings = choose_mpp([MppSource("OME-XML", 0.5), MppSource("Space Ranger", 0.52)])
    assert mpp == 0.5
    assert len(warnings) == 1
    assert "0.5 (OME-XML) is used, not 0.52 (Space Ranger)" in warnings[0]
    assert "--mpp" in warnings[0]


def test_the_user_goes_before_all_sources():
    mpp, warnings = choose_mpp([MppSource("OME-XML", 0.5)], user=0.25)
    assert mpp == 0.25
    assert "0.25 (you) is used, not 0.5 (OME-XML)" in warnings[0]


def test_no_source_gives_no_value():
    assert choose_mpp([]) == (None, ())


@pytest.mark.parametrize("user", [0.0, -0.5, float("nan"), float("inf")])
def test_a_value_that_is_no_length_is_refused(user):
    with pytest.raises(SpotScopeError, match="must be above zero"):
        choose_mpp([], user=user)


def test_pixels_that_are_not_square_take_the_mean_and_warn():
    source = mpp_source("OME-XML", 0.50, 0.505)
    assert source is not None
    assert source.mpp_um == pytest.approx(0.5025)
    assert choose_mpp([source]) == (source.mpp_um, ())
    stretched = mpp_source("OME-XML", 0.5, 0.6)
    assert stretched is not None
    mpp, warnings = choose_mpp([stretched])
    assert mpp == pytest.approx(0.55)
    assert "not square (OME-XML: 18% longer one way)" in warnings[0]


@pytest.mark.parametrize("dpi", [72, 96, 150, 300, 600, 1200])
def test_resolution_that_programs_write_by_default_is_no_source(dpi):
    assert from_resolution("tags", dpi, dpi, 25400.0) is None
    assert from_resolution("tags", dpi / 2.54, dpi / 2.54, 1e4) is None


def test_resolution_of_a_scanner_is_a_source():
    assert from_resolution("tags", 20000, 20000, 1e4) == MppSource("tags", 0.5)
    assert from_resolution("tags", 0, 0, 1e4) is None
    assert from_resolution("tags", 1, 1, None) is None


def test_units_of_length_are_known_in_their_spellings():
    assert um_per("µm") == um_per("μm") == um_per("micrometer") == um_per(" Micron ") == 1
    assert um_per("nm") == pytest.approx(1e-3)
    assert um_per("mm") == 1e3
    assert um_per("pixel") is None
    assert um_per(None) is None


def test_ome_xml_in_other_units_is_turned_into_micrometres(tmp_path, picture):
    import tifffile

    path = tmp_path / "nm.ome.tiff"
    units = {f"PhysicalSize{axis}Unit": "nm" for axis in "XY"}
    sizes = {"PhysicalSizeX": 240.0, "PhysicalSizeY": 260.0}
    metadata = {"axes": "YXS", **units, **sizes}
    tifffile.imwrite(path, picture, photometric="rgb", tile=(128, 128), metadata=metadata)
    with open_slide(path) as slide:
        assert slide.mpp_um == pytest.approx(0.25)
        assert any("not square" in note for note in slide.notes)


def test_imagej_and_aperio_descriptions_are_read_from_plain_tiffs(tmp_path, picture):
    import tifffile

    path = tmp_path / "imagej.tif"
    tifffile.imwrite(
        path, picture, imagej=True, resolution=(2.0, 2.0), metadata={"unit": "um", "axes": "YXS"}
    )
    with open_slide(path) as slide:
        assert [(s.name, s.mpp_um) for s in slide.mpp_sources] == [("ImageJ description", 0.5)]
    path = tmp_path / "exported.tif"
    tifffile.imwrite(
        path, picture, photometric="rgb", metadata=None, description="Export |MPP = 0.4990|x"
    )
    with open_slide(path) as slide:
        assert [(s.name, s.mpp_um) for s in slide.mpp_sources] == [("Aperio description", 0.499)]


def test_sources_that_readers_add_go_first_and_replace_the_choice(slides):
    with open_slide(slides["ome-tiff"]) as slide:
        stated = slide.stated_by(MppSource("spot pitch", 0.25))
        assert stated.mpp_um == 0.25
        assert [source.name for source in stated.mpp_sources] == ["spot pitch", "OME-XML"]
        assert sum("differ" in note for note in stated.notes) == 1
        again = stated.stated_by(MppSource("spot pitch", 0.5))
        assert again.mpp_um == 0.5
        assert again.notes == ()
        told = again.stated_by(user=0.3)
        assert told.mpp_um == 0.3
        assert told.stated_by(MppSource("spot pitch", 0.31)).mpp_um == 0.3
        assert told.stated_by(user=0.5).notes == ()
        assert slide.mpp_um == pytest.approx(0.5)
