from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from spotscope.data.importing import import_section, preview_source
from spotscope.data.store import open_section
from spotscope.errors import SpotScopeError

HIRES = 0.25


@pytest.fixture
def store(simulated, tmp_path):
    """A Visium store as spatialdata-io writes it: a smaller picture, scaled onto the slide."""
    import spatialdata
    from anndata import AnnData
    from spatialdata.models import Image2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Identity, Scale

    full = {"global": Identity()}
    small = {"global": Scale([1 / HIRES] * 2, axes=("x", "y"))}
    step = int(1 / HIRES)
    image = Image2DModel.parse(
        np.moveaxis(simulated.image[::step, ::step], -1, 0),
        dims=("c", "y", "x"),
        c_coords=["r", "g", "b"],
        transformations=small,
    )
    spots = simulated.spots
    circles = ShapesModel.parse(
        spots.obsm["spatial"],
        geometry=0,
        radius=27.5 / simulated.mpp_um,
        index=pd.Index(np.arange(spots.n_obs) + 100),
        transformations=full,
    )
    obs = spots.obs.assign(region=pd.Categorical(["P1"] * spots.n_obs))
    obs["spot_id"] = np.arange(spots.n_obs) + 100
    table = TableModel.parse(
        AnnData(spots.X, obs=obs.iloc[::-1], var=spots.var),
        region="P1",
        region_key="region",
        instance_key="spot_id",
    )
    table.X = spots.X[::-1]
    path = tmp_path / "visium.zarr"
    spatialdata.SpatialData(
        images={"P1_hires_image": image}, shapes={"P1": circles}, tables={"table": table}
    ).write(path)
    return path


def test_a_store_of_others_opens_with_spots_laid_on_its_picture(simulated, store):
    section = open_section(store)
    seen = np.asarray(simulated.spots.X.sum(axis=1)).ravel() > 0
    order = [list(section.barcodes).index(name) for name in simulated.spots.obs_names[seen]]
    assert_array_equal(section.counts[order].toarray(), simulated.spots.X[seen].toarray())
    # SpatialData counts pixels from their corner.
    expected = simulated.centres_px[seen] * HIRES - 0.5
    assert_allclose(section.centres_px[order], expected, atol=1e-9)
    assert section.mpp_um == pytest.approx(simulated.mpp_um / HIRES, rel=2e-3)
    assert section.spot_diameter_um == 55
    assert section.store == store
    assert section.spots.uns["spatialdata_attrs"]["instance_key"] == "spot_id"
    assert set(section.spots.obs["spot_id"]) == set(np.flatnonzero(seen) + 100)


def test_a_store_of_others_is_imported_with_its_labels(simulated, store, tmp_path):
    section = import_section(store, tmp_path / "out.zarr", patient="P")
    assert section.n_spots > 30
    assert set(section.labels.categories) <= set(simulated.spots.obs["subtype"])
    again = open_section(tmp_path / "out.zarr")
    assert_allclose(again.centres_px, open_section(store).centres_px)


def test_the_full_image_may_be_named_beside_the_store(simulated, store, tmp_path):
    from PIL import Image

    Image.fromarray(simulated.image).save(tmp_path / "full.png")
    preview = preview_source(store, image=tmp_path / "full.png")
    order = np.argsort(preview.centres_px[:, 0] * 1e5 + preview.centres_px[:, 1])
    truth = simulated.centres_px
    truth = truth[np.argsort(truth[:, 0] * 1e5 + truth[:, 1])]
    # The circles' own unit is Space Ranger's pixels of the full-size slide.
    assert_allclose(preview.centres_px[order], truth, atol=1e-9)
    assert preview.mpp_um == pytest.approx(simulated.mpp_um, rel=2e-3)


def test_a_section_is_imported_again_with_new_labels(store, tmp_path):
    first = import_section(store, tmp_path / "a.zarr", patient="P", name="A")
    table = pd.DataFrame({"spot": first.barcodes, "label": "scar"})
    table.to_csv(tmp_path / "labels.csv", index=False)
    again = import_section(
        tmp_path / "a.zarr", tmp_path / "b.zarr", labels=tmp_path / "labels.csv", name="B"
    )
    assert (again.name, again.patient) == ("B", "P")
    assert list(again.labels.categories) == ["scar"]
    assert_array_equal(again.counts.toarray(), first.counts.toarray())
    assert again.slide.mpp_sources == first.slide.mpp_sources
    level = (slice(None), slice(None))
    assert_array_equal(again.slide.levels[0][level], first.slide.levels[0][level])


def test_a_real_store_whose_table_is_not_counts_opens_as_a_slide_with_a_note(shared_data):
    section = open_section(shared_data / "slides" / "blobs_v3.zarr")
    assert section.slide.shape_px == (64, 64)
    assert section.spots is None
    assert any("shown without its spots" in note for note in section.notes)


def test_a_damaged_store_gives_a_sentence(store):
    (store / "images" / "P1_hires_image" / "zarr.json").write_text("{")
    with pytest.raises(SpotScopeError, match="cannot be read as a SpatialData store"):
        open_section(store)
