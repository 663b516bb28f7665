"""Compare a prediction with what was measured by regions of the tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spotscope.data.prediction import flattery, protocol_of
from spotscope.data.runs import list_runs, read_spots
from spotscope.errors import SpotScopeError
from spotscope.evaluate.region_report import RegionComparison, choose_shown
from spotscope.evaluate.regions import (
    LEAST_SPOTS,
    REST,
    contrast,
    leiden_clusters,
    region_means,
)
from spotscope.jobs.opening import as_section
from spotscope.progress import Progress

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from spotscope.data.runs import Run
    from spotscope.data.section import Section
    from spotscope.evaluate.region_report import By


def compare_regions(
    section: Section | str | os.PathLike[str],
    run_id: str | None = None,
    *,
    by: By = "subtype",
    groups: Sequence[str] = (),
    genes: Sequence[str] = (),
    resolution: float = 1.0,
    top: int = 20,
    seed: int = 0,
    progress: Progress | None = None,
) -> RegionComparison:
    """Average a prediction over regions, and rank the genes that tell regions apart.

    Parameters
    ----------
    section
        With spots and a prediction on them; open, or a path.
    run_id
        Of the prediction; None takes the newest on the spots.
    by
        "subtype", the pathologist's labels, or "leiden", clusters of the measured expression.
    groups
        Two regions to tell apart, or one to tell from the rest. None: every subtype from the
        rest; clusters are not, since they were cut so that genes differ between them.
    genes
        To print the averages of; None takes those that differ most.
    resolution, seed
        Of the clusters; a higher resolution makes more of them.
    top
        How many leading genes are compared.

    Raises
    ------
    SpotScopeError
        When there is no such prediction, no spots, no labels, or a name is wrong.
    """
    progress = progress or Progress()
    opened = as_section(section)
    opened.measured()
    run = _chosen(opened, run_id)
    if len(groups) > 2:
        raise SpotScopeError(f"{len(groups)} regions were named; name one or two to tell apart.")
    measures = set(opened.genes)
    known = [gene for gene in run.genes if gene in measures]
    if not known:
        raise SpotScopeError(
            f"Section '{opened.name}' measures none of the genes of '{run.id}'; choose another"
            " prediction."
        )
    codes, names = (
        _subtypes(opened)
        if by == "subtype"
        else _clusters(opened, resolution, seed, progress.part(0.0, 0.4))
    )
    column = {gene: place for place, gene in enumerate(run.genes)}
    predicted = read_spots(opened, run.id)[:, [column[gene] for gene in known]]
    measured = opened.expression(known)
    means = region_means(measured, predicted, codes, names, known)
    pairs = _pairs(groups, means.regions if by == "subtype" else [])
    contrasts = [
        contrast(
            measured,
            predicted,
            codes,
            names,
            known,
            *pair,
            top=top,
            progress=progress.part(0.4 + 0.6 * at / len(pairs), 0.4 + 0.6 * (at + 1) / len(pairs)),
        )
        for at, pair in enumerate(pairs)
    ]
    protocol = protocol_of(run.provenance, opened)
    flatters = flattery(protocol, opened)
    progress.report(1.0, "Compared")
    return RegionComparison(
        section=opened.name,
        patient=opened.patient,
        run=run.id,
        title=run.title,
        protocol=protocol,
        by=by,
        barcodes=opened.barcodes,
        region_of=np.array([*names, ""])[codes],
        means=means,
        contrasts=contrasts,
        warnings=[flatters] if flatters else [],
        shown=choose_shown(means, genes),
    )


def _chosen(section: Section, run_id: str | None) -> Run:
    runs = [run for run in list_runs(section) if run.has_spots]
    if not runs:
        raise SpotScopeError(
            f"Section '{section.name}' has no prediction on its spots; make one with `spotscope"
            " predict`."
        )
    if run_id is None:
        return runs[0]
    for run in runs:
        if run.id == run_id:
            return run
    raise SpotScopeError(
        f"Section '{section.name}' has no prediction '{run_id}' on its spots; choose"
        f" {', '.join(run.id for run in runs)}."
    )


def _subtypes(section: Section) -> tuple[NDArray[np.intp], list[str]]:
    labels = section.labels
    if labels is None or not (labels.codes >= 0).any():
        raise SpotScopeError(
            f"No spot of section '{section.name}' has a subtype; label spots first, or compare"
            " clusters with --by leiden."
        )
    names = [str(name) for name in labels.categories]
    codes = labels.codes.astype(np.intp)
    enough = [name for code, name in enumerate(names) if (codes == code).sum() >= LEAST_SPOTS]
    if len(enough) < 2:
        raise SpotScopeError(
            f"Section '{section.name}' has one subtype alone with {LEAST_SPOTS} spots or more;"
            " label spots of another, or compare clusters with --by leiden."
        )
    return codes, names


def _clusters(
    section: Section, resolution: float, seed: int, progress: Progress
) -> tuple[NDArray[np.intp], list[str]]:
    codes = leiden_clusters(section.counts, resolution=resolution, seed=seed, progress=progress)
    return codes, [str(number) for number in range(1, codes.max() + 2)]


def _pairs(groups: Sequence[str], regions: Sequence[str]) -> list[tuple[str, str]]:
    if len(groups) == 2:
        return [(groups[0], groups[1])]
    return [(group, REST) for group in groups or regions]
