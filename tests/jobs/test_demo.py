from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spotscope.data.runs import list_runs, read_gene
from spotscope.data.simulate import StudySettings
from spotscope.data.store import open_section
from spotscope.errors import Cancelled, SpotScopeError
from spotscope.jobs.demo import BEST, GENE, METHOD, run_demo
from spotscope.progress import Progress

if TYPE_CHECKING:
    from spotscope.jobs.demo import DemoResult

SMALL = {
    "n_patients": 3,
    "sections_per_patient": 1,
    "settings": StudySettings(shape_px=(700, 800), mpp_um=1.5),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return run_demo(tmp_path_factory.mktemp("tour") / "demo", seed=3, **SMALL)


def _times(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_shown_section_is_of_a_patient_that_the_model_has_not_seen(made: DemoResult) -> None:
    section = open_section(made.held_out)
    (run,) = list_runs(section)
    assert run.id == made.run_id
    assert run.provenance["training_patients"] == ["P2", "P3"]
    assert section.patient == "P1"
    assert len(made.sections) == 3


def test_the_gene_to_draw_is_measured_and_predicted_on_spots_and_grid(made: DemoResult) -> None:
    section = open_section(made.held_out)
    assert made.gene == GENE
    assert made.gene in section.genes
    assert read_gene(section, made.run_id, made.gene, "spots").shape == (section.n_spots,)
    assert read_gene(section, made.run_id, made.gene, "grid").ndim == 2


def test_the_scores_hold_the_method_the_null_baselines_and_the_best_reachable(
    made: DemoResult,
) -> None:
    panels = ("all", "top50_variance", "top50_mean")
    for name in (METHOD, "mean", "knn", BEST):
        for panel in panels:
            assert math.isfinite(made.evaluation.value(name, "pearson", panel))
    for panel in panels:
        method, best = (made.evaluation.value(n, "pearson", panel) for n in (METHOD, BEST))
        assert 0.0 < method < best < 1.0
    assert made.evaluation.value("mean", "pearson", "all") == 0.0


def test_a_second_call_makes_nothing_again_and_answers_the_same(made: DemoResult) -> None:
    before = _times(made.folder)
    again = run_demo(made.folder, seed=3, **SMALL)
    assert _times(made.folder) == before
    assert again.run_id == made.run_id
    assert again.sections == made.sections
    assert again.evaluation.records == made.evaluation.records
    assert again.evaluation.protocol == made.evaluation.protocol


def test_what_is_missing_is_made_again_with_the_same_result(
    made: DemoResult, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made.folder, folder)
    shutil.rmtree(folder / "model")
    (folder / "scores.json").unlink()
    again = run_demo(folder, seed=3, **SMALL)
    assert again.model.is_dir()
    assert again.evaluation.records == made.evaluation.records


def test_another_seed_replaces_the_study(made: DemoResult, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made.folder, folder)
    stop = Progress()

    def listener(step) -> None:
        stop.cancel.set()

    stop.listener = listener
    with pytest.raises(Cancelled):
        run_demo(folder, seed=4, progress=stop, **SMALL)
    assert not (folder / "model").exists()
    assert not list(folder.glob("study/*.zarr"))


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(SpotScopeError, match="choose another folder"):
        run_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
