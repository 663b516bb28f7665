from __future__ import annotations

import shutil
import threading
from datetime import datetime
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from spotscope.data.places import Grid, Places
from spotscope.data.prediction import Prediction
from spotscope.data.runs import list_runs, new_run_id, read_gene, write_run
from spotscope.data.section import Section
from spotscope.errors import Cancelled, SpotScopeError
from spotscope.progress import Progress

GENES = ["ACTB", "ERBB2", "CD3E"]
MASK = np.array([[False, True, True, False], [True, True, False, False]])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A small store that spatialdata itself wrote, and its table."""
    import anndata as ad
    import geopandas
    import spatialdata as sd
    from shapely import Point
    from spatialdata.models import Image2DModel, ShapesModel, TableModel

    xy = np.array([[4.0, 3.0], [10.0, 3.0], [4.0, 9.0], [10.0, 9.0], [16.0, 9.0]])
    obs = pd.DataFrame({"region": "spots", "instance": np.arange(5)}, index=list("abcde"))
    obs["region"] = obs["region"].astype("category")
    counts = np.ones((5, 4), np.float32)
    table = ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=[*GENES, "B2M"]))
    table.obsm["spatial"] = xy
    table = TableModel.parse(table, region="spots", region_key="region", instance_key="instance")
    circles = geopandas.GeoDataFrame({"radius": np.full(5, 2.0)}, geometry=[Point(p) for p in xy])
    store = tmp_path_factory.mktemp("written") / "S1.zarr"
    sd.SpatialData(
        images={"slide": Image2DModel.parse(np.zeros((3, 16, 32), np.uint8))},
        shapes={"spots": ShapesModel.parse(circles)},
        tables={"table": table},
    ).write(store)
    return store, table


@pytest.fixture
def section(written, tmp_path):
    """A section in a copy of that store."""
    store = shutil.copytree(written[0], tmp_path / "S1.zarr")
    slide = SimpleNamespace(name="S1", mpp_um=0.5)
    return Section("S1", "P1", slide, written[1], 2.0, store)


def predictions(section, uncertainty="genes", grid=None):
    """Predictions whose value tells the place and the gene."""
    grid = grid or Grid((3.5, 3.5), 8.0, 4.0, MASK)
    provenance = {
        "method": "ridge",
        "title": "Ridge",
        "encoder": "stain",
        "training_sections": ["S2"],
        "training_patients": ["P2"],
    }
    both = []
    for places in (Places.on_spots(section), Places(section, grid.centres_px, grid)):
        values = 10.0 * np.arange(len(places))[:, None] + np.arange(len(GENES))
        deviation = {"genes": values / 100, "shared": values[:, :1] / 100, None: None}[uncertainty]
        both.append(Prediction(GENES, values, deviation, places, provenance))
    return both


def test_what_was_written_is_read_back(section):
    write_run(section, "run-1", *predictions(section))
    assert read_gene(section, "run-1", "ERBB2").tolist() == [1, 11, 21, 31, 41]
    expected = [[np.nan, 2, 12, np.nan], [22, 32, np.nan, np.nan]]
    np.testing.assert_array_equal(read_gene(section, "run-1", "CD3E", "grid"), expected)
    spread = read_gene(section, "run-1", "ERBB2", kind="uncertainty")
    np.testing.assert_allclose(spread, [0.01, 0.11, 0.21, 0.31, 0.41], rtol=1e-6)
    spread = read_gene(section, "run-1", "CD3E", "grid", "uncertainty")
    np.testing.assert_allclose(spread, np.array(expected) / 100, rtol=1e-6)


def test_one_uncertainty_for_all_genes_is_read_for_each(section):
    write_run(section, "run-1", *predictions(section, "shared"))
    for gene in GENES:
        spread = read_gene(section, "run-1", gene, kind="uncertainty")
        np.testing.assert_allclose(spread, [0, 0.1, 0.2, 0.3, 0.4], rtol=1e-6)
        spread = read_gene(section, "run-1", gene, "grid", "uncertainty")
        np.testing.assert_allclose(spread[MASK], [0, 0.1, 0.2, 0.3], rtol=1e-6)


def test_a_listed_run_says_all_that_a_window_needs(section):
    write_run(section, "run-1", *predictions(section))
    (run,) = list_runs(section)
    assert run.id == "run-1"
    assert run.genes == GENES
    assert run.protocol == "held-out patient"
    assert run.provenance["training_sections"] == ["S2"]
    assert run.title.startswith("Ridge on stain, ")
    assert (run.has_spots, run.has_grid, run.has_uncertainty) == (True, True, True)
    assert run.stride_um == 4.0
    np.testing.assert_array_equal(run.grid.mask, MASK)
    assert (run.grid.origin_px, run.grid.stride_px) == ((3.5, 3.5), 8.0)


def test_runs_on_one_kind_of_place_say_so(section):
    on_spots, on_grid = predictions(section, None)
    write_run(section, "spots-only", on_spots, None)
    write_run(section, "grid-only", None, on_grid)
    runs = {run.id: run for run in list_runs(section)}
    assert (runs["spots-only"].has_spots, runs["spots-only"].has_grid) == (True, False)
    assert runs["spots-only"].grid is None
    assert (runs["grid-only"].has_spots, runs["grid-only"].has_grid) == (False, True)
    assert not runs["grid-only"].has_uncertainty
    with pytest.raises(SpotScopeError, match="no prediction 'grid-only' on the spots"):
        read_gene(section, "grid-only", "ACTB")
    with pytest.raises(SpotScopeError, match="uncertainty"):
        read_gene(section, "grid-only", "ACTB", "grid", "uncertainty")
    with pytest.raises(SpotScopeError, match="uncertainty"):
        read_gene(section, "spots-only", "ACTB", kind="uncertainty")
    with pytest.raises(SpotScopeError, match="does not predict the gene 'TP53'"):
        read_gene(section, "grid-only", "TP53", "grid")


def test_spatialdata_opens_the_store_with_all_its_runs(section):
    import spatialdata as sd

    write_run(section, "run-1", *predictions(section))
    write_run(section, "run-2", *predictions(section, "shared"))
    opened = sd.read_zarr(section.store)
    assert set(opened.tables) == {"table", "run-1", "run-2"}
    assert opened["run-1"].uns["spatialdata_attrs"]["region"] == "spots"
    assert opened["run-1"].obs["instance"].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(opened["run-1"].layers["uncertainty"], opened["run-1"].X / 100)
    assert opened["run-2"].obs["uncertainty"].tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    maps = opened["run-1_grid"]
    assert maps.coords["c"].values.tolist() == GENES
    assert maps.dtype == np.float32
    np.testing.assert_array_equal(
        maps.sel(c="ERBB2").values, read_gene(section, "run-1", "ERBB2", "grid")
    )
    assert opened["run-2_grid_uncertainty"].coords["c"].values.tolist() == ["uncertainty"]


def test_the_maps_lie_on_the_slide_where_their_patches_were_read(section):
    import spatialdata as sd
    from spatialdata.transformations import get_transformation

    grid = Grid((5.0, 9.0), 8.0, 4.0, MASK)
    write_run(section, "run-1", *predictions(section, grid=grid))
    matrix = get_transformation(sd.read_zarr(section.store)["run-1_grid"]).to_affine_matrix(
        ("x", "y"), ("x", "y")
    )
    # SpatialData counts from corners: the middle of cell (0, 0) is (0.5, 0.5) and that of level-0
    # pixel (5, 9) is x 9.5, y 5.5.
    assert (matrix @ [0.5, 0.5, 1]).tolist() == [9.5, 5.5, 1]
    assert (matrix @ [1.5, 2.5, 1]).tolist() == [17.5, 21.5, 1]


def test_the_maps_follow_the_slide_into_another_coordinate_system(section):
    import spatialdata as sd
    from spatialdata.transformations import Scale, get_transformation, set_transformation

    opened = sd.read_zarr(section.store)
    set_transformation(
        opened["slide"], Scale([0.5, 0.5], axes=("x", "y")), "um", write_to_sdata=opened
    )
    write_run(section, "run-1", *predictions(section))
    maps = sd.read_zarr(section.store)["run-1_grid"]
    matrix = get_transformation(maps, "um").to_affine_matrix(("x", "y"), ("x", "y"))
    assert (matrix @ [1.0, 2.0, 1]).tolist() == [4, 8, 1]  # one cell is 4 µm


def test_the_maps_lie_right_beside_a_smaller_picture_of_a_linked_slide(section):
    import spatialdata as sd
    import zarr
    from spatialdata.transformations import Scale, get_transformation, set_transformation

    opened = sd.read_zarr(section.store)
    quarter = Scale([4.0, 4.0], axes=("x", "y"))
    set_transformation(opened["slide"], quarter, "global", write_to_sdata=opened)
    picture = zarr.open_group(section.store / "images" / "slide", use_consolidated=False)
    picture.attrs["spotscope"] = {"downsample": 4.0}
    write_run(section, "run-1", *predictions(section))
    maps = sd.read_zarr(section.store)["run-1_grid"]
    matrix = get_transformation(maps).to_affine_matrix(("x", "y"), ("x", "y"))
    assert (matrix @ [1.0, 2.0, 1]).tolist() == [8, 16, 1]  # one cell is 8 level-0 pixels


def test_a_map_is_one_chunk_of_the_store(section, monkeypatch):
    from zarr.storage import LocalStore

    write_run(section, "run-1", *predictions(section))
    keys = []
    get = LocalStore.get

    async def counted(self, key, *args, **kwargs):
        keys.append(key)
        return await get(self, key, *args, **kwargs)

    monkeypatch.setattr(LocalStore, "get", counted)
    read_gene(section, "run-1", "CD3E", "grid")
    assert [key for key in keys if key.startswith("c/")] == ["c/2/0/0"]
    keys.clear()
    read_gene(section, "run-1", "CD3E", "spots")
    assert len([key for key in keys if key.startswith("c/")]) == 1


def test_a_section_reopened_by_consolidated_metadata_has_no_strays(section):
    import zarr

    write_run(section, "run-1", *predictions(section))
    names = set(zarr.open_group(section.store, mode="r", use_consolidated=True)["images"].keys())
    assert names == {"slide", "run-1_grid", "run-1_grid_uncertainty"}
    assert not [path for path in section.store.iterdir() if path.name.endswith(".part")]


def test_a_run_is_never_overwritten(section):
    write_run(section, "run-1", *predictions(section))
    with pytest.raises(SpotScopeError, match="already holds a run 'run-1'"):
        write_run(section, "run-1", *predictions(section))


def test_ids_are_readable_and_never_repeat(section):
    now = datetime(2026, 11, 21, 8, 15)
    first = new_run_id(section, "ridge", "stain", now)
    assert first == "ridge-stain-2026-11-21-0815"
    write_run(section, first, *predictions(section))
    assert new_run_id(section, "ridge", "stain", now) == f"{first}-2"
    odd = new_run_id(section, "Ridge", "local:weights/my net.safetensors#vit", now)
    assert odd == "ridge-local-weights-my-net-safetensors-vit-2026-11-21-0815"


def test_a_cancelled_run_leaves_the_store_as_it_was(section):
    before = sorted(section.store.rglob("*"))
    cancel = threading.Event()

    def stop_at_the_maps(step):
        if step.message == "Writing the maps":
            cancel.set()

    with pytest.raises(Cancelled):
        write_run(section, "run-1", *predictions(section), Progress(stop_at_the_maps, cancel))
    assert sorted(section.store.rglob("*")) == before
    assert list_runs(section) == []


def test_a_run_that_a_kill_left_half_is_not_listed(section):
    import zarr

    write_run(section, "run-1", *predictions(section))
    shutil.rmtree(section.store / "images" / "run-1_grid_uncertainty")
    zarr.consolidate_metadata(section.store)
    assert list_runs(section) == []


def test_the_spots_of_another_import_are_not_mixed_up(section):
    write_run(section, "run-1", *predictions(section))
    with pytest.raises(SpotScopeError, match="predict again"):
        read_gene(section.subset([0, 1]), "run-1", "ACTB")


def test_a_slide_alone_has_nowhere_to_keep_a_run(section):
    bare = Section("S9", "P9", section.slide)
    assert list_runs(bare) == []
    with pytest.raises(SpotScopeError, match="--out"):
        write_run(bare, "run-1", None, predictions(section)[1])
