from __future__ import annotations

import shutil
import threading

import numpy as np
import pytest

from spotscope.data.places import Places
from spotscope.data.runs import list_runs, read_gene
from spotscope.data.store import open_section
from spotscope.errors import Cancelled, SpotScopeError
from spotscope.jobs.estimating import estimate_prediction, estimate_training
from spotscope.jobs.predicting import predict_section
from spotscope.jobs.training import train_model
from spotscope.methods.base import get_method, load_method
from spotscope.progress import Progress

SETTINGS = {"panel": {"n_genes": 8}, "context_um": (), "components": 6}


@pytest.fixture
def model(tiny_stores, tmp_path, quick_encoder):
    return train_model("ridge", [tiny_stores["A1"]], tmp_path / "model", settings=SETTINGS)


@pytest.fixture
def store(tiny_stores, tmp_path):
    return shutil.copytree(tiny_stores["B1"], tmp_path / "B1.zarr")


def test_a_section_is_predicted_on_spots_and_tissue(model, store):
    run_id = predict_section(model, store, stride_um=20)
    section = open_section(store)
    (run,) = list_runs(section)
    assert run.id == run_id
    assert run_id.startswith("ridge-colour-20")
    assert run.protocol == "held-out patient"
    assert run.grid.stride_px == 20
    expected = load_method(model)
    gene = expected.genes[0]
    truth = section.expression([gene])[:, 0]
    assert np.corrcoef(read_gene(section, run_id, gene), truth)[0, 1] > 0.3
    on_map = read_gene(section, run_id, gene, "grid")
    assert on_map.shape == (18, 21)
    assert 0.6 < np.isfinite(on_map).mean() < 1  # the border of the slide is glass
    # A spot and the cell of the map that it lies in see nearly the same patch.
    row, col = section.centres_px[8]
    cell = on_map[round((row - 9.5) / 20), round((col - 9.5) / 20)]
    near = read_gene(section, run_id, gene)
    assert abs(cell - near[8]) < 0.5 * np.ptp(near)


def test_the_protocol_follows_what_was_trained_on(model, tiny_stores, tmp_path):
    for name, expected in (("A2", "held-out section"), ("A1", "trained on this section")):
        store = shutil.copytree(tiny_stores[name], tmp_path / f"{name}.zarr")
        predict_section(model, store, on_grid=False)
        (run,) = list_runs(open_section(store))
        assert run.protocol == expected
        assert not run.has_grid


def test_two_runs_stand_side_by_side(model, store):
    first = predict_section(model, store, on_grid=False)
    second = predict_section(model, store, on_grid=False)
    assert {run.id for run in list_runs(open_section(store))} == {first, second}
    assert len({first, second}) == 2


def test_a_slide_alone_is_predicted_into_a_store_beside_it(model, make_section, tmp_path):
    bare = make_section("S9", "Z", 4, with_spots=False)
    with pytest.raises(SpotScopeError, match="--out"):
        predict_section(model, bare, stride_um=40)
    run_id = predict_section(model, bare, stride_um=40, out=tmp_path / "S9.zarr")
    (run,) = list_runs(open_section(tmp_path / "S9.zarr"))
    assert (run.id, run.has_spots, run.has_grid) == (run_id, False, True)


def test_a_section_with_a_store_takes_no_other(model, store, tmp_path):
    with pytest.raises(SpotScopeError, match="leave out --out"):
        predict_section(model, store, out=tmp_path / "other.zarr")


def test_a_model_of_other_genes_is_refused_and_the_store_is_as_it_was(
    model, make_section, tmp_path
):
    mouse = make_section("M1", "M", 4, prefix="Mm")
    with pytest.raises(SpotScopeError, match="measures none of the 8 genes"):
        predict_section(model, mouse, out=tmp_path / "M1.zarr")
    assert not (tmp_path / "M1.zarr").exists()


def test_cancel_leaves_the_store_as_it_was(model, store):
    before = sorted(store.rglob("*"))
    cancel = threading.Event()

    def listen(step):
        if step.fraction > 0.3:
            cancel.set()

    with pytest.raises(Cancelled):
        predict_section(model, store, stride_um=20, progress=Progress(listen, cancel))
    assert sorted(store.rglob("*")) == before


def test_an_estimate_counts_places_and_grows_with_them(model, store):
    method, section = load_method(model), open_section(store)
    coarse = estimate_prediction(method, section, 40)
    fine = estimate_prediction(method, section, 20)
    assert estimate_prediction(method, section, on_grid=False).places == 30
    assert fine.places == 30 + len(Places.on_grid(section, 20))
    assert "places" in str(fine)
    assert fine.memory_bytes > coarse.memory_bytes
    wide = get_method("ridge")({"context_um": (100.0,)})
    training = estimate_training(wide, [section])
    assert training.places == 30
    assert training.patches > 30  # the surroundings
