from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from spotscope.data.places import Places
from spotscope.data.prediction import Prediction
from spotscope.data.runs import read_spots, write_run
from spotscope.data.section import SUBTYPE
from spotscope.data.store import open_section, write_section
from spotscope.errors import SpotScopeError
from spotscope.evaluate.region_report import as_markdown, tables, to_json, write_csv
from spotscope.jobs.comparing import compare_regions

WHERE = np.repeat(["cancer", "stroma", "fat"], 10)
GENES = [f"G{i}" for i in range(8)]


def predicted(section, seed=0, trained=("T1", "T")):
    """Add a prediction that is the measurement with some noise."""
    rng = np.random.default_rng(seed)
    places = Places.on_spots(section)
    values = 0.5 * section.expression(GENES) + rng.normal(0, 0.2, (30, 8))
    said = {
        "method": "ridge",
        "title": "Ridge",
        "encoder": "stain",
        "training_sections": [trained[0]],
        "training_patients": [trained[1]],
    }
    return Prediction([*GENES, "ELSEWHERE"], np.c_[values, np.zeros(30)], None, places, said)


@pytest.fixture(scope="module")
def labelled(make_section, tmp_path_factory):
    made = make_section("A1", "A", 3)
    made.measured().obs[SUBTYPE] = pd.Categorical(WHERE)
    return write_section(made, tmp_path_factory.mktemp("labelled") / "A1.zarr").store


@pytest.fixture
def section(labelled, tmp_path):
    section = open_section(shutil.copytree(labelled, tmp_path / "A1.zarr"))
    write_run(section, "run-1", predicted(section), None)
    return section


def test_subtypes_are_averaged_and_each_told_from_the_rest(section):
    found = compare_regions(section)
    assert (found.run, found.protocol, found.warnings) == ("run-1", "held-out patient", [])
    assert found.means.regions == ["cancer", "fat", "stroma"]
    assert found.means.genes == GENES  # a gene that is not measured here is left out
    inside = WHERE == "fat"
    np.testing.assert_allclose(
        found.means.measured[1], section.expression(GENES)[inside].mean(axis=0), rtol=1e-6
    )
    np.testing.assert_allclose(
        found.means.predicted[1],
        read_spots(section, "run-1")[inside, :8].mean(axis=0, dtype=np.float64),
        rtol=1e-6,
    )
    assert [each.group for each in found.contrasts] == ["cancer", "fat", "stroma"]
    assert found.region_of.tolist() == WHERE.tolist()


def test_two_regions_are_told_apart(section):
    found = compare_regions(section.store, groups=["stroma", "cancer"], genes=["G3"])
    (only,) = found.contrasts
    assert (only.group, only.reference, only.sizes) == ("stroma", "cancer", (10, 10))
    assert found.shown == ["G3"]


def test_clusters_need_no_labels_and_are_not_told_apart_unless_asked(section):
    found = compare_regions(section, by="leiden")
    assert found.contrasts == []
    assert set(found.region_of) == set(found.means.regions)
    named = compare_regions(section, by="leiden", groups=["1"])
    assert named.contrasts[0].group == "1"


@pytest.mark.parametrize(
    ("trained", "said"),
    [(("A1", "A"), "trained on A1 itself"), (("A2", "A"), "other sections of the patient of A1")],
)
def test_a_prediction_of_what_was_trained_on_is_warned_of(section, trained, said):
    write_run(section, "run-2", predicted(section, trained=trained), None)
    (warning,) = compare_regions(section, "run-2").warnings
    assert said in warning
    assert said in as_markdown(compare_regions(section, "run-2"))


def test_every_figure_is_written(section, tmp_path):
    found = compare_regions(section)
    write_csv(found, tmp_path / "out")
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == sorted(tables(found))
    means = pd.read_csv(tmp_path / "out" / "means.csv")
    assert len(means) == 3 * 8
    row = means[(means.region == "fat") & (means.gene == "G2")].iloc[0]
    assert row.measured == pytest.approx(found.means.measured[1, 2], rel=1e-5)
    content = json.loads(to_json(found))
    assert content["run"] == "run-1"
    assert len(content["means"]) == len(means)
    assert len(content["differences"]) == 3 * 8
    ends = content["contrasts"][0]
    assert ends["higher"]["measured"] or ends["lower"]["measured"]
    assert len(content["spots"]) == 30


def test_the_tables_show_averages_differences_and_what_they_are_worth(section):
    text = as_markdown(compare_regions(section, groups=["cancer", "fat"]))
    assert text.startswith("A1, Ridge on stain, ")
    for part in ("r over regions", "cancer > fat", "fat > cancer", "Averages have less noise"):
        assert part in text


def test_what_cannot_be_compared_is_said_in_a_sentence(section, make_section, tmp_path):
    with pytest.raises(SpotScopeError, match="no prediction 'run-9' on its spots; choose run-1"):
        compare_regions(section, "run-9")
    with pytest.raises(SpotScopeError, match="There is no region 'bone'; choose cancer"):
        compare_regions(section, groups=["bone"])
    with pytest.raises(SpotScopeError, match="'ELSEWHERE' is not among the 8 genes"):
        compare_regions(section, genes=["ELSEWHERE"])
    bare = write_section(make_section("B1", "B", 1), tmp_path / "B1.zarr")
    with pytest.raises(SpotScopeError, match="'B1' has no prediction on its spots; make one"):
        compare_regions(bare)
    write_run(bare, "run-1", predicted(bare), None)
    with pytest.raises(SpotScopeError, match="No spot of section 'B1' has a subtype; label"):
        compare_regions(bare)
    bare.measured().obs[SUBTYPE] = pd.Categorical(["cancer"] * 30)
    with pytest.raises(SpotScopeError, match="one subtype alone"):
        compare_regions(bare)
    alone = write_section(make_section("S1", "S", with_spots=False), tmp_path / "S1.zarr")
    with pytest.raises(SpotScopeError, match="a slide without spots"):
        compare_regions(alone)
