"""The simulated section as instruments and archives would hand it out."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from spotscope.data.simulate import SimulatedSection, StudySettings, simulate_study
from spotscope.data.simulate.vendor import write_first_generation, write_hest, write_spaceranger


@pytest.fixture(scope="module")
def section() -> SimulatedSection:
    return simulate_study(1, 1, 1, settings=StudySettings(shape_px=(600, 700)))[0]


def h5_counts(path: Path) -> pd.DataFrame:
    from scipy.sparse import csc_matrix

    with h5py.File(path) as file:
        matrix = file["matrix"]
        parts = (matrix["data"][:], matrix["indices"][:], matrix["indptr"][:])
        counts = csc_matrix(parts, shape=tuple(matrix["shape"][:])).T.toarray()
        genes = matrix["features/name"][:].astype(str)
        return pd.DataFrame(counts, index=matrix["barcodes"][:].astype(str), columns=genes)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_space_ranger_lists_all_spots_and_keeps_those_under_tissue(
    section: SimulatedSection, tmp_path: Path, version: int
) -> None:
    outs = write_spaceranger(section, tmp_path, version)
    name = "tissue_positions_list.csv" if version == 1 else "tissue_positions.csv"
    table = pd.read_csv(outs / "spatial" / name, header=None if version == 1 else 0, index_col=0)
    under = table[table.iloc[:, 0] == 1]
    assert len(under) < len(table)
    placed = under.loc[section.spots.obs_names].iloc[:, 3:5].to_numpy()
    assert np.allclose(placed, section.centres_px, atol=0.5 if version == 1 else 1e-6)
    counts = h5_counts(outs / "filtered_feature_bc_matrix.h5")
    assert list(counts.index) == list(section.spots.obs_names)
    assert np.array_equal(counts.to_numpy(), section.spots.X.toarray())
    scale = json.loads((outs / "spatial" / "scalefactors_json.json").read_text())
    assert 65 / scale["spot_diameter_fullres"] == pytest.approx(section.mpp_um)
    with tifffile.TiffFile(tmp_path / f"{section.name}.tif") as slide:
        assert slide.pages[0].shape == section.image.shape
        assert len(slide.pages) == 3


def test_space_ranger_hd_has_square_bins_that_follow_the_truth(
    section: SimulatedSection, tmp_path: Path
) -> None:
    outs = write_spaceranger(section, tmp_path, "hd")
    folder = outs / "binned_outputs" / "square_016um"
    table = pd.read_parquet(folder / "spatial" / "tissue_positions.parquet").set_index("barcode")
    counts = h5_counts(folder / "filtered_feature_bc_matrix.h5")
    assert list(table.index) == list(counts.index)
    scale = json.loads((folder / "spatial" / "scalefactors_json.json").read_text())
    assert scale["microns_per_pixel"] == section.mpp_um
    places = table[["pxl_row_in_fullres", "pxl_col_in_fullres"]].to_numpy()
    fat = section.truth.shares_at(places)[:, 5]
    seen = counts[section.truth.genes.markers("adipose tissue")].sum(axis=1)
    share = seen / counts.sum(axis=1).clip(lower=1)
    assert share[fat > 0.8].mean() > 3 * share[fat < 0.2].mean()


def test_first_generation_files_join_on_the_spot_id(
    section: SimulatedSection, tmp_path: Path
) -> None:
    paths = write_first_generation(section, tmp_path)
    counts = pd.read_csv(paths["counts"], sep="\t", index_col=0)
    spots = pd.read_csv(paths["spots"], sep="\t")
    assert list(spots.columns[:2]) == ["x", "y"]
    ids = [f"{x}x{y}" for x, y in zip(spots["x"], spots["y"], strict=True)]
    assert ids == list(counts.index)
    assert np.array_equal(counts.to_numpy(), section.spots.X.toarray())
    assert np.allclose(spots[["pixel_y", "pixel_x"]], section.centres_px, atol=0.01)
    labels = pd.read_csv(paths["labels"], sep="\t")
    rounded = [f"{x:.0f}x{y:.0f}" for x, y in zip(labels["x"], labels["y"], strict=True)]
    assert rounded == ids
    assert list(labels["label"]) == list(section.spots.obs["subtype"])
    with Image.open(paths["image"]) as image:
        assert (image.height, image.width) == section.image.shape[:2]


def test_hest_files_hold_spots_image_and_pixel_size(
    section: SimulatedSection, tmp_path: Path
) -> None:
    import anndata

    paths = write_hest(section, tmp_path)
    spots = anndata.read_h5ad(paths["spots"])
    assert np.array_equal(spots.obsm["spatial"], section.spots.obsm["spatial"])
    assert np.array_equal(spots.obs["pxl_row_in_fullres"], section.centres_px[:, 0])
    assert json.loads(paths["metadata"].read_text())["pixel_size_um_estimated"] == section.mpp_um
    with tifffile.TiffFile(paths["image"]) as slide:
        per_cm = slide.pages[0].tags["XResolution"].value
        assert 1e4 / (per_cm[0] / per_cm[1]) == pytest.approx(section.mpp_um)
