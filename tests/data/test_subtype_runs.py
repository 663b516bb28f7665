from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from spotscope.data.places import Grid, Places
from spotscope.data.runs import list_runs, new_run_id
from spotscope.data.section import Section
from spotscope.data.store import open_section
from spotscope.data.subtype_map import SubtypeMap
from spotscope.data.subtype_runs import list_subtype_runs, remove_subtypes, write_subtypes
from spotscope.errors import SpotScopeError

CLASSES = ["carcinome in situ", "graisse / é", "stroma"]
ABOUT = {
    "title": "Subtype classifier",
    "encoder": "stain",
    "training_sections": ["X"],
    "training_patients": ["A"],
    "validation": {"by": "blocks"},
}


@pytest.fixture
def section(tiny_stores: dict[str, Path], tmp_path: Path) -> Section:
    return open_section(shutil.copytree(tiny_stores["A1"], tmp_path / "A1.zarr"))


def _map(places: Places, seed: int = 0) -> SubtypeMap:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(3), len(places)).astype(np.float32)
    return SubtypeMap(CLASSES, shares, rng.random(len(places)).astype(np.float32), places)


def _on_grid(section: Section) -> Places:
    mask = np.zeros((5, 7), bool)
    mask[1:4, 2:6] = True
    grid = Grid((24.5, 24.5), 50.0, 50.0, mask)
    return Places(section, grid.centres_px, grid)


def test_what_was_written_is_read_back_and_is_no_prediction_of_expression(
    section: Section,
) -> None:
    spots, grid = _map(Places.on_spots(section)), _map(_on_grid(section), 1)
    write_subtypes(section, "one", spots, grid, ABOUT)
    again = open_section(section.store)
    assert list_runs(again) == []
    (run,) = list_subtype_runs(again)
    assert (run.id, run.classes, run.protocol) == ("one", CLASSES, "held-out section")
    assert run.title.startswith("Subtype classifier on stain, ")
    assert (run.validation, run.stride_um) == ({"by": "blocks"}, 50.0)
    for wrote, read in ((spots, run.on_spots()), (grid, run.on_grid())):
        assert read is not None
        assert read.classes == CLASSES
        np.testing.assert_array_equal(read.probabilities, wrote.probabilities)
        np.testing.assert_array_equal(read.distance, wrote.distance)
        np.testing.assert_allclose(read.places.centres_px, wrote.places.centres_px)
    assert run.on_grid().places.grid.stride_um == 50.0
    assert new_run_id(again, "one", "") != "one"


def test_the_slide_is_still_found_and_spatialdata_opens_the_store(section: Section) -> None:
    import spatialdata

    write_subtypes(section, "one", None, _map(_on_grid(section)), ABOUT)
    write_subtypes(section, "two", _map(Places.on_spots(section)), None, ABOUT)
    again = open_section(section.store)
    assert again.slide.shape_px == section.slide.shape_px
    first, second = (run for run in sorted(list_subtype_runs(again), key=lambda r: r.id))
    assert (first.on_spots(), second.on_grid()) == (None, None)
    opened = spatialdata.read_zarr(section.store)
    assert "one_grid" in opened.images
    assert list(opened.tables["two"].var_names) == CLASSES


def test_a_run_is_removed_alone(section: Section) -> None:
    for name in ("one", "two"):
        write_subtypes(section, name, _map(Places.on_spots(section)), None, ABOUT)
    remove_subtypes(section, "one")
    remove_subtypes(section, "one")
    assert [run.id for run in list_subtype_runs(open_section(section.store))] == ["two"]
    assert not (section.store / "tables" / "one").exists()


def test_subtypes_of_other_spots_are_refused(section: Section) -> None:
    write_subtypes(section, "one", _map(Places.on_spots(section)), None, ABOUT)
    fewer = section.subset(np.arange(5))
    (run,) = list_subtype_runs(fewer)
    with pytest.raises(SpotScopeError, match="predict again"):
        run.on_spots()
    with pytest.raises(SpotScopeError, match="already holds"):
        write_subtypes(section, "one", _map(Places.on_spots(section)), None, ABOUT)
