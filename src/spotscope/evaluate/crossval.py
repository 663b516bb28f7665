"""Score methods on sections that they have not seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

from spotscope.data.cohort import Cohort, Fold, folds_by_patient, folds_by_section
from spotscope.data.panels import PanelSettings, choose_panel, gene_moments, rank_genes
from spotscope.data.places import Places
from spotscope.data.section import some
from spotscope.encoders.base import Encoder, get_encoder
from spotscope.errors import SpotScopeError
from spotscope.evaluate.metrics import Lattice, gene_metrics
from spotscope.evaluate.records import section_records, with_means
from spotscope.methods.base import get_method
from spotscope.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from spotscope.data.section import Section
    from spotscope.evaluate.records import Record, Split
    from spotscope.methods.base import Method

BASELINES = ("mean", "knn")
"""Scored beside whatever is asked: the training mean, and the nearest training patches."""

Panels = dict[str, tuple[Literal["mean", "variance"], int]]

TRAINED_PANELS: Panels = {
    "top50_mean": ("mean", 50),
    "top50_variance": ("variance", 50),
    "top1000_variance": ("variance", 1000),
}
TESTED_PANELS: Panels = {"top50_mean_test": ("mean", 50), "top50_variance_test": ("variance", 50)}


@dataclass(frozen=True)
class GeneScores:
    """The figures of each gene that one method reached on one held-out section.

    Attributes
    ----------
    method, encoder, section, patient
        Names.
    genes
        (G,) in the order of the figures.
    figures
        By metric, (G,) with NaN where undefined.
    """

    method: str
    encoder: str
    section: str
    patient: str
    genes: list[str]
    figures: dict[str, NDArray[np.float64]]


@dataclass
class Evaluation:
    """Scores of methods on held-out sections.

    Attributes
    ----------
    records
        Tidy figures, see `Record`.
    split
        What was left out.
    protocol
        One sentence: what was trained on, what was held out, how genes and sections are pooled.
    warnings
        Sentences that belong beside the figures.
    genes
        The figures gene by gene.
    """

    records: list[Record]
    split: Split
    protocol: str
    warnings: list[str] = field(default_factory=list)
    genes: list[GeneScores] = field(default_factory=list)

    def value(
        self, method: str, metric: str = "pearson", panel: str = "all", section: str = "all"
    ) -> float:
        """Return one figure."""
        wanted = (method, metric, panel, section)
        for record in self.records:
            if (record.method, record.metric, record.panel, record.section) == wanted:
                return record.value
        raise KeyError(wanted)


def evaluate_methods(
    names: Sequence[str],
    cohort: Cohort,
    split: Literal["patient", "section"] = "patient",
    encoder: str | Encoder = "auto",
    settings: Mapping[str, dict[str, Any]] | None = None,
    progress: Progress | None = None,
    *,
    test: Cohort | None = None,
    panel: PanelSettings | None = None,
    markers: Sequence[str] = (),
) -> Evaluation:
    """Train on some sections and score on the others, for each method alike.

    In each fold the gene panel is chosen on the training sections and is the same for all methods;
    what a method tunes it tunes within the training sections. The baselines `mean` and `knn` are
    always scored too.

    Parameters
    ----------
    names
        Methods.
    cohort
        Sections with spots.
    split
        Leave one patient out (all its sections), or one section.
    encoder
        Of the image, see `get_encoder`.
    settings
        By method, what differs from its defaults; its panel is overruled by `panel`.
    progress
        Reports and cancels.
    test
        Score on these sections instead, with one model trained on the whole cohort.
    panel
        How genes are chosen; None takes the default of `PanelSettings`.
    markers
        Genes to score as a panel of their own; they join the genes that are trained.

    Raises
    ------
    SpotScopeError
        When there is nothing to hold out, a name or setting is wrong, or the panel is empty.
    """
    progress = progress or Progress()
    kind: Split = "test" if test is not None else split
    folds = _folds(cohort, split, test)
    names = list(dict.fromkeys([*names, *BASELINES]))
    seen = get_encoder(encoder)
    for name in names:  # what is wrong with a name or a setting is said before any work
        get_method(name)((settings or {}).get(name), seen)
    records: list[Record] = []
    scores: list[GeneScores] = []
    warnings = [fold.warning for fold in folds if fold.warning]
    shares = _shares(names, len(folds))
    for fold in folds:
        genes = choose_panel(fold.train, panel or PanelSettings())
        _check_markers(fold.train, markers)
        held_out = [_hold_out(one, fold.train, genes, markers) for one in fold.test.sections]
        warnings += [held.warning for held in held_out if held.warning]
        trained = fold.train.n_spots / (fold.train.n_spots + fold.test.n_spots)
        for name in names:
            part = progress.part(*next(shares))
            part.report(0.0, f"{name}, without {fold.name}")
            method = _make(name, seen, (settings or {}).get(name, {}), [*genes, *markers])
            method.fit(fold.train, progress=part.part(0.0, trained))
            rest = part.part(trained, 1.0)
            for k, held in enumerate(held_out):
                share = rest.part(k / len(held_out), (k + 1) / len(held_out))
                score = _score(name, method, held, share)
                scores.append(score)
                records += section_records(
                    score.figures,
                    held.panels,
                    method=name,
                    encoder=score.encoder,
                    split=kind,
                    section=score.section,
                    patient=score.patient,
                )
    progress.report(1.0, "Scored")
    return Evaluation(
        with_means(records),
        kind,
        _protocol(cohort, split, test),
        list(dict.fromkeys(warnings)),
        scores,
    )


def _shares(names: Sequence[str], n_folds: int) -> Iterator[tuple[float, float]]:
    """Yield where each method of each fold begins and ends on the bar.

    The first one that looks at images encodes them for all that follow, so it takes most.
    """
    looking = [get_method(name).uses_encoder for name in names] * n_folds
    weights = [1.0] * len(looking)
    if any(looking):
        weights[looking.index(True)] = 8.0 * len(weights)
    ends = list(accumulate(weights))
    for weight, end in zip(weights, ends, strict=True):
        yield (end - weight) / ends[-1], end / ends[-1]


def _make(name: str, encoder: Encoder, settings: dict[str, Any], genes: Sequence[str]) -> Method:
    """Return an untrained method that will learn exactly these genes."""
    panel = PanelSettings(kind="markers", markers=list(genes))
    return get_method(name)({**settings, "panel": panel}, encoder)


@dataclass(frozen=True)
class _HeldOut:
    """One held-out section, ready to be compared with: the same for all methods of a fold."""

    section: Section
    genes: list[str]
    measured: NDArray[np.float32]
    training_mean: NDArray[np.float64]
    lattice: Lattice | None
    panels: dict[str, list[int]]
    warning: str


def _hold_out(
    section: Section, train: Cohort, panel: Sequence[str], markers: Sequence[str]
) -> _HeldOut:
    known = set(section.genes)
    scored = [gene for gene in panel if gene in known]
    if not scored:
        raise SpotScopeError(
            f"Section '{section.name}' measures none of the {len(panel)} genes that the training"
            " sections share; check that both name genes alike (symbols or Ensembl numbers)."
        )
    chosen = {"all": scored, "markers": [gene for gene in dict.fromkeys(markers) if gene in known]}
    for panels, cohort in ((TRAINED_PANELS, train), (TESTED_PANELS, Cohort((section,)))):
        orders = {by: rank_genes(cohort, by, scored) for by, _ in panels.values()}
        chosen |= {name: orders[by][:size] for name, (by, size) in panels.items()}
    genes = list(dict.fromkeys([*scored, *chosen["markers"]]))
    place = {gene: i for i, gene in enumerate(genes)}
    absent = len(panel) - len(scored)
    return _HeldOut(
        section,
        genes,
        section.expression(genes),
        gene_moments(train, genes)[0],
        Lattice.of(section),
        {name: [place[gene] for gene in some_genes] for name, some_genes in chosen.items()},
        f"Section '{section.name}' does not measure {absent} of the {len(panel)} genes; they are"
        " left out of its scores."
        if absent
        else "",
    )


def _check_markers(train: Cohort, markers: Sequence[str]) -> None:
    known = set(train.genes)
    if absent := [gene for gene in markers if gene not in known]:
        raise SpotScopeError(
            f"The training sections do not all measure the markers {some(absent)}; leave them out"
            " or check the spelling."
        )


def _score(name: str, method: Method, held: _HeldOut, progress: Progress) -> GeneScores:
    prediction = method.predict(Places.on_spots(held.section), progress=progress)
    figures = gene_metrics(
        prediction.columns(held.genes), held.measured, held.training_mean, held.lattice
    )
    return GeneScores(
        name,
        str(prediction.provenance.get("encoder") or "none"),
        held.section.name,
        held.section.patient,
        held.genes,
        figures,
    )


def _folds(cohort: Cohort, split: str, test: Cohort | None) -> list[Fold]:
    if test is None:
        return folds_by_patient(cohort) if split == "patient" else folds_by_section(cohort)
    if both := sorted(set(cohort.names) & set(test.names)):
        raise SpotScopeError(
            f"{some(both)} is named both to train on and to test on; name it once."
        )
    known = sorted(set(cohort.patients) & set(test.patients))
    warning = (
        f"Test and training sections share the patient {some(known)}; a new patient will score"
        " lower."
    )
    return [Fold(some(test.names), cohort, test, warning if known else "")]


def _protocol(cohort: Cohort, split: str, test: Cohort | None) -> str:
    if test is not None:
        held = f"trained on {_count(cohort)}, scored on {_count(test)} named to test on"
    elif split == "patient":
        held = f"leave one patient out over {_count(cohort)}"
    else:
        held = f"leave one section out over {_count(cohort)}"
    return (
        f"{held[0].upper()}{held[1:]}. Genes are chosen on the training sections. Each figure is"
        " taken gene by gene over the spots of one section, then averaged over genes, an undefined"
        " one as 0, then over sections."
    )


def _count(cohort: Cohort) -> str:
    def number(count: int, noun: str) -> str:
        return f"{count:,} {noun}{'' if count == 1 else 's'}"

    return (
        f"{number(len(cohort.sections), 'section')} of {number(len(cohort.patients), 'patient')}"
        f" ({number(cohort.n_spots, 'spot')})"
    )
