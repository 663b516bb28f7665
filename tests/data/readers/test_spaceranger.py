from __future__ import annotations

import gzip
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from spotscope.data.importing import import_section, preview_source
from spotscope.data.simulate.vendor import write_spaceranger
from spotscope.errors import SpotScopeError


@pytest.fixture
def folder(simulated, tmp_path):
    """A Space Ranger 2 run of the simulated section, to be spoilt."""
    write_spaceranger(simulated, tmp_path / "P1A", 2)
    return tmp_path / "P1A"


def assert_same_spots(section, simulated, within_px=1e-3, scale=1.0):
    """Every spot with counts has the counts, the place and the name that were simulated."""
    seen = np.asarray(simulated.spots.X.sum(axis=1)).ravel() > 0
    truth = simulated.spots[seen]
    order = [list(section.barcodes).index(name) for name in truth.obs_names]
    assert section.n_spots == truth.n_obs
    assert_array_equal(section.genes, truth.var_names)
    assert_array_equal(section.counts[order].toarray(), truth.X.toarray())
    expected = simulated.centres_px[seen] * scale
    assert_allclose(section.centres_px[order], expected, atol=within_px)


@pytest.mark.parametrize(("version", "within_px"), [(1, 0.51), (2, 1e-3), (3, 1e-3)])
def test_every_version_gives_the_simulated_spots_on_the_full_image(
    simulated, tmp_path, version, within_px
):
    write_spaceranger(simulated, tmp_path / "P1A", version)
    section = import_section(tmp_path / "P1A", tmp_path / "out.zarr")
    assert_same_spots(section, simulated, within_px)
    assert section.slide.shape_px == simulated.image.shape[:2]
    assert section.spot_diameter_um == 55
    sources = {source.name: source.mpp_um for source in section.slide.mpp_sources}
    assert sources["spot pitch of 100 µm"] == pytest.approx(simulated.mpp_um, rel=2e-3)
    assert len(sources) == 2
    assert section.mpp_um == sources["spot pitch of 100 µm"]


def test_bins_of_visium_hd_are_read_with_the_scale_that_space_ranger_states(simulated, tmp_path):
    write_spaceranger(simulated, tmp_path / "P1A", "hd")
    preview = preview_source(tmp_path / "P1A")
    assert preview.kind == "Space Ranger folder (Visium HD, 16 µm bins)"
    assert preview.spot_diameter_um == 16
    assert preview.mpp_sources[0].name == "Space Ranger scale factors"
    assert preview.mpp_um == simulated.mpp_um
    steps = np.diff(np.unique(preview.centres_px[:, 0]))
    assert_allclose(steps, 16 / simulated.mpp_um)


def test_the_folder_its_outs_and_its_spatial_folder_are_all_recognised(folder):
    for place in (folder, folder / "outs", folder / "outs" / "spatial"):
        preview = preview_source(place)
        assert (preview.name, preview.image.name) == ("P1A", "P1A.tif")


def test_without_the_full_image_the_small_one_is_taken_and_spots_and_scale_follow(
    simulated, tmp_path
):
    write_spaceranger(simulated, tmp_path / "P1A", 2, full_image=False)
    spatial = tmp_path / "P1A" / "outs" / "spatial"
    (spatial / "tissue_hires_image.png").unlink()
    scale = json.loads((spatial / "scalefactors_json.json").read_text())["tissue_lowres_scalef"]
    assert scale < 0.7
    section = import_section(tmp_path / "P1A", tmp_path / "out.zarr")
    assert_same_spots(section, simulated, scale=scale)
    assert section.mpp_um == pytest.approx(simulated.mpp_um / scale, rel=1e-6)
    assert any("nuclei cannot be seen" in note for note in section.notes)


def test_the_mtx_folder_gives_the_counts_of_the_h5(folder, simulated, tmp_path):
    (folder / "outs" / "filtered_feature_bc_matrix.h5").unlink()
    assert_same_spots(import_section(folder, tmp_path / "out.zarr"), simulated)


def test_names_that_lie_about_being_gzipped_are_read(folder, simulated, tmp_path):
    (folder / "outs" / "filtered_feature_bc_matrix.h5").unlink()
    for path in (folder / "outs" / "filtered_feature_bc_matrix").glob("*.gz"):
        path.write_bytes(gzip.decompress(path.read_bytes()))
    assert_same_spots(import_section(folder, tmp_path / "out.zarr"), simulated)


def test_the_raw_matrix_stands_in_and_spots_off_the_tissue_are_left_out(folder, simulated):
    outs = folder / "outs"
    (outs / "filtered_feature_bc_matrix.h5").rename(outs / "raw_feature_bc_matrix.h5")
    shutil.rmtree(outs / "filtered_feature_bc_matrix")
    positions = pd.read_csv(outs / "spatial" / "tissue_positions.csv")
    on_tissue = positions.index[positions["in_tissue"] == 1][:7]
    positions.loc[on_tissue, "in_tissue"] = 0
    positions.to_csv(outs / "spatial" / "tissue_positions.csv", index=False)
    preview = preview_source(folder)
    assert preview.n_spots == simulated.spots.n_obs - 7
    assert "There is no filtered matrix, so the raw one was read." in preview.warnings
    assert "7 spots off the tissue were left out." in preview.warnings


def test_barcodes_match_with_and_without_the_number_at_their_end(folder, simulated):
    path = folder / "outs" / "spatial" / "tissue_positions.csv"
    positions = pd.read_csv(path)
    assert positions["barcode"].str.endswith("-1").all()
    positions["barcode"] = positions["barcode"].str.removesuffix("-1")
    positions.to_csv(path, index=False)
    assert preview_source(folder).n_spots == simulated.spots.n_obs


def test_barcodes_that_match_no_spot_are_refused(folder, tmp_path):
    path = folder / "outs" / "spatial" / "tissue_positions.csv"
    positions = pd.read_csv(path)
    positions["barcode"] = [f"SPOT{i}" for i in range(len(positions))]
    positions.to_csv(path, index=False)
    with pytest.raises(SpotScopeError, match="None of the .* spots .*same section"):
        import_section(folder, tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


def test_loupe_labels_are_joined_by_barcode_and_empty_cells_stay_unlabelled(
    folder, simulated, tmp_path
):
    names = list(simulated.spots.obs_names)
    table = pd.DataFrame({"Barcode": names, "pathology": ["fat"] * 3 + [None] * (len(names) - 3)})
    table.to_csv(tmp_path / "labels.csv", index=False)
    section = import_section(folder, tmp_path / "out.zarr", labels=tmp_path / "labels.csv")
    labels = dict(zip(section.barcodes, section.labels, strict=True))
    assert [name for name in names if labels.get(name) == "fat"] == names[:3]
    assert list(section.labels.categories) == ["fat"]


def test_a_damaged_matrix_and_missing_files_give_a_sentence(folder):
    outs = folder / "outs"
    whole = (outs / "filtered_feature_bc_matrix.h5").read_bytes()
    (outs / "filtered_feature_bc_matrix.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SpotScopeError, match=r"'filtered_feature_bc_matrix.h5' cannot be read"):
        preview_source(folder)
    (outs / "spatial" / "scalefactors_json.json").unlink()
    with pytest.raises(SpotScopeError, match="scale factors .* missing or damaged"):
        preview_source(folder)
    (outs / "spatial" / "tissue_positions.csv").unlink()
    with pytest.raises(SpotScopeError, match="not a source that SpotScope knows"):
        preview_source(folder)


@pytest.mark.parametrize(
    ("path", "image", "n_spots", "mpp_um", "spot_um"),
    [
        ("dlpfc-151510", "tissue_lowres_image.png", 4634, 16.02, 55),
        ("visium", "tissue_hires_image.png", 2695, 4.21, 55),
        ("visium_hd/binned_outputs", "tissue_hires_image.png", 1368, 1.078, 8),
        ("visium_hd/binned_outputs/square_016um", "tissue_hires_image.png", 336, 1.078, 16),
        ("visiumio/10xVisium/section1", "tissue_lowres_image.png", 22, 14.21, 55),
        ("visiumio/binned_outputs", "tissue_lowres_image.png", 10, 10.93, 2),
    ],
)
def test_real_folders_are_read(shared_data, path, image, n_spots, mpp_um, spot_um):
    preview = preview_source(shared_data / "visium" / path)
    assert preview.image.name == image
    assert preview.n_spots == n_spots
    assert preview.mpp_um == pytest.approx(mpp_um, rel=1e-3)
    assert preview.spot_diameter_um == spot_um
    rows, cols = preview.shape_px
    assert (preview.centres_px >= 0).all()
    assert (preview.centres_px < [rows, cols]).all()


def test_an_array_of_unknown_pitch_asks_for_the_scale(shared_data, tmp_path):
    source = shared_data / "visium" / "breast-msti"
    assert preview_source(source).mpp_um is None
    with pytest.raises(SpotScopeError, match="micrometres per pixel.*--mpp"):
        import_section(source, tmp_path / "out.zarr")
    section = import_section(source, tmp_path / "out.zarr", mpp_um=5.0)
    assert section.n_spots == 2172
    assert section.spot_diameter_um == pytest.approx(5.0 * 11.7647, rel=1e-4)
    assert any("gene names come more than once" in note for note in section.notes)
