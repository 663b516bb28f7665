from __future__ import annotations

import json

import anndata
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from spotscope.data.importing import import_section, preview_source
from spotscope.data.simulate.vendor import write_hest
from spotscope.errors import SpotScopeError


@pytest.fixture
def paths(simulated, tmp_path):
    return write_hest(simulated, tmp_path)


def test_slide_patient_labels_and_scale_are_found(simulated, paths, tmp_path):
    section = import_section(paths["spots"], tmp_path / "out.zarr")
    seen = np.asarray(simulated.spots.X.sum(axis=1)).ravel() > 0
    assert (section.name, section.patient) == (simulated.name, simulated.patient)
    assert_array_equal(section.counts.toarray(), simulated.spots.X[seen].toarray())
    assert_allclose(section.centres_px, simulated.centres_px[seen])
    assert list(section.labels) == list(simulated.spots.obs["subtype"][seen])
    assert section.spot_diameter_um == simulated.spot_diameter_um
    names = [source.name for source in section.slide.mpp_sources]
    assert names[:3] == [
        "spot pitch of 100 µm",
        "HEST metadata, estimated",
        "HEST metadata, embedded",
    ]
    assert section.mpp_um == pytest.approx(simulated.mpp_um, rel=2e-3)


def test_sources_that_contradict_each_other_are_told(paths):
    metadata = json.loads(paths["metadata"].read_text())
    metadata["pixel_size_um_embedded"] *= 1.5
    paths["metadata"].write_text(json.dumps(metadata))
    (said,) = [note for note in preview_source(paths["spots"]).warnings if "differ" in note]
    assert "HEST metadata, embedded" in said
    assert "estimated" not in said


def test_without_metadata_the_spots_diameter_is_taken_from_the_file(paths):
    paths["metadata"].unlink()
    preview = preview_source(paths["spots"])
    assert preview.patient == ""
    assert preview.spot_diameter_um == 55


def test_raw_counts_in_a_layer_are_preferred(simulated, paths, tmp_path):
    spots = anndata.read_h5ad(paths["spots"])
    spots.layers["counts"] = spots.X.copy()
    spots.X = np.log1p(spots.X.toarray())
    spots.write_h5ad(paths["spots"])
    section = import_section(paths["spots"], tmp_path / "out.zarr")
    assert section.counts.sum() == simulated.spots.X.sum()


def test_normalised_counts_missing_positions_and_damage_are_refused(paths, tmp_path):
    spots = anndata.read_h5ad(paths["spots"])
    spots.X = np.log1p(spots.X.toarray())
    spots.write_h5ad(paths["spots"])
    with pytest.raises(SpotScopeError, match="not whole numbers.*raw counts"):
        import_section(paths["spots"], tmp_path / "out.zarr")
    del spots.obsm["spatial"]
    spots.write_h5ad(paths["spots"])
    with pytest.raises(SpotScopeError, match="no spot positions"):
        preview_source(paths["spots"])
    paths["spots"].write_bytes(paths["spots"].read_bytes()[:3000])
    with pytest.raises(SpotScopeError, match="cannot be read as AnnData"):
        preview_source(paths["spots"])
