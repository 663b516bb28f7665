"""The tour: simulate a study, train without one patient, predict that patient, score it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spotscope import __version__
from spotscope.errors import SpotScopeError
from spotscope.files import write_json
from spotscope.progress import Progress

if TYPE_CHECKING:
    import os

    from rich.table import Table

    from spotscope.data.cohort import Cohort
    from spotscope.data.section import Section
    from spotscope.data.simulate import StudySettings
    from spotscope.evaluate.crossval import Evaluation
    from spotscope.evaluate.records import Record

METHOD = "ridge"
ENCODER = "stain"
HELD_OUT = "P1"
GENE = "ERBB2"
BEST = "best reachable"
"""Stands for a method that knows the noiseless truth: none can be expected to score higher."""

_ABOUT = "demo.json"
_SCORES = "scores.json"
_MADE = ("study", "model", _SCORES, _ABOUT)


@dataclass(frozen=True)
class DemoResult:
    """What the tour made.

    Attributes
    ----------
    folder
        Where all of it lies: `study/`, `model/` and `scores.json`, tidy records.
    sections
        The stores of all sections.
    held_out
        The store of a section whose patient the model has never seen; it holds the prediction.
    run_id
        Of that prediction.
    gene
        A gene that is worth drawing first.
    model
        The model's folder.
    evaluation
        Scores of leaving each patient out, the null baselines and the best reachable among them.
    """

    folder: Path
    sections: list[Path]
    held_out: Path
    run_id: str
    gene: str
    model: Path
    evaluation: Evaluation


def run_demo(
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    n_patients: int = 4,
    sections_per_patient: int = 2,
    settings: StudySettings | None = None,
    progress: Progress | None = None,
) -> DemoResult:
    """Make the tour in a folder; what an earlier call made there is kept, what is missing is made.

    Parameters
    ----------
    out
        The folder; new, empty, or of an earlier tour.
    seed
        Of the simulated study.
    n_patients, sections_per_patient, settings
        Its size.
    progress
        Reports and cancels; a tour that was stopped goes on where it was.

    Raises
    ------
    SpotScopeError
        When the folder holds something else, or cannot be written.
    """
    progress = progress or Progress()
    folder = Path(out)
    about = {
        "spotscope": __version__,
        "seed": seed,
        "patients": n_patients,
        "sections_per_patient": sections_per_patient,
        "settings": repr(settings),
    }
    _prepare(folder, about)
    sections = _study(folder, about, settings, progress.part(0.0, 0.25))
    model = _train(folder, sections, progress.part(0.25, 0.6))
    held_out = next(store for store in sections if _is_held_out(store))
    run_id = _predict(model, held_out, progress.part(0.6, 0.8))
    evaluation = _evaluate(folder, sections, progress.part(0.8, 1.0))
    progress.report(1.0, "Ready")
    return DemoResult(folder, sections, held_out, run_id, GENE, model, evaluation)


def _prepare(folder: Path, about: dict) -> None:
    """Start the folder, or sweep what another seed or version of SpotScope made there."""
    try:
        found = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found == about:
        return
    if found is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpotScopeError(
            f"'{folder}' is not empty and holds no demo; choose another folder with --out."
        )
    for name in _MADE:
        shutil.rmtree(folder / name, ignore_errors=True)
        if (folder / name).is_file():
            (folder / name).unlink()
    write_json(folder / _ABOUT, about)


def _is_held_out(store: Path) -> bool:
    return store.name.startswith(HELD_OUT)


def _study(
    folder: Path, about: dict, settings: StudySettings | None, progress: Progress
) -> list[Path]:
    from spotscope.jobs.study import make_study

    made = sorted((folder / "study").glob("*.zarr"))
    return made or make_study(
        folder / "study",
        about["seed"],
        n_patients=about["patients"],
        sections_per_patient=about["sections_per_patient"],
        settings=settings,
        progress=progress,
    )


def _train(folder: Path, sections: list[Path], progress: Progress) -> Path:
    from spotscope.jobs.training import train_model

    model = folder / "model"
    if model.exists():
        return model
    seen = [store for store in sections if not _is_held_out(store)]
    return train_model(METHOD, seen, model, encoder=ENCODER, progress=progress)


def _predict(model: Path, store: Path, progress: Progress) -> str:
    from spotscope.data.runs import list_runs
    from spotscope.data.store import open_section
    from spotscope.jobs.predicting import predict_section

    section = open_section(store)
    runs = list_runs(section)
    return runs[-1].id if runs else predict_section(model, section, progress=progress)


def _evaluate(folder: Path, sections: list[Path], progress: Progress) -> Evaluation:
    from spotscope.evaluate.crossval import Evaluation
    from spotscope.evaluate.records import from_json, to_json
    from spotscope.files import written_beside
    from spotscope.jobs.evaluating import evaluate
    from spotscope.jobs.opening import as_cohort

    scores = folder / _SCORES
    notes = folder / "study" / "protocol.json"
    if scores.exists() and notes.exists():
        return Evaluation(
            from_json(scores.read_text(encoding="utf-8")),
            "patient",
            **json.loads(notes.read_text(encoding="utf-8")),
        )
    cohort = as_cohort(sections)
    found = evaluate([METHOD], cohort.sections, encoder=ENCODER, progress=progress.part(0.0, 0.9))
    found.records += best_reachable_records(cohort)
    write_json(notes, {"protocol": found.protocol, "warnings": found.warnings})
    with written_beside(scores) as beside:
        beside.write_text(to_json(found.records), encoding="utf-8")
    return found


def score_table(evaluation: Evaluation) -> Table:
    """Return the scores in short, each beside the best that is reachable."""
    from rich.table import Table

    panels = {"top50_variance": "top 50 by variance", "all": "all genes"}
    table = Table(
        title="Mean Pearson correlation per gene, each patient left out in turn",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("method")
    for heading in (*panels.values(), "of the best"):
        table.add_column(heading, justify="right")
    for name in dict.fromkeys(record.method for record in evaluation.records):
        values = [evaluation.value(name, "pearson", panel) for panel in panels]
        part = values[-1] / evaluation.value(BEST, "pearson", "all")
        table.add_row(name, *(f"{value:.3f}" for value in values), f"{part:.0%}")
    return table


def best_reachable_records(cohort: Cohort) -> list[Record]:
    """Score the noiseless truth of a simulated study as if it were a method's prediction.

    Per patient left out, with the same genes and in the same figures as `evaluate_methods`.
    """
    from spotscope.data.cohort import folds_by_patient
    from spotscope.data.panels import PanelSettings, choose_panel
    from spotscope.evaluate.records import with_means

    found = []
    for fold in folds_by_patient(cohort):
        genes = choose_panel(fold.train, PanelSettings())
        for section in fold.test.sections:
            found += _best_of(section, fold.train, genes)
    return with_means(found)


def _best_of(section: Section, train: Cohort, genes: list[str]) -> list[Record]:
    from spotscope.data.panels import gene_moments, rank_genes
    from spotscope.data.simulate import Truth, truth_path
    from spotscope.evaluate.crossval import TRAINED_PANELS
    from spotscope.evaluate.metrics import Lattice, gene_metrics
    from spotscope.evaluate.records import section_records

    assert section.store is not None
    truth = Truth.load(truth_path(section.store))
    figures = gene_metrics(
        truth.expression(section.centres_px, genes),
        section.expression(genes),
        gene_moments(train, genes)[0],
        Lattice.of(section),
    )
    place = {gene: i for i, gene in enumerate(genes)}
    panels = {"all": list(place.values())}
    for name, (by, size) in TRAINED_PANELS.items():
        panels[name] = [place[gene] for gene in rank_genes(train, by, genes)[:size]]
    return section_records(
        figures,
        panels,
        method=BEST,
        encoder="none",
        split="patient",
        section=section.name,
        patient=section.patient,
    )
