"""Commands about subtypes: train, predict and evaluate a classifier of patches."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spotscope.cli.models import ENCODER_HELP
from spotscope.cli.running import console, note, progress_shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel

    from spotscope.data.cohort import Cohort
    from spotscope.data.subtype_runs import SubtypeRun
    from spotscope.methods.subtypes import SubtypeClassifier, SubtypeSettings
    from spotscope.methods.subtypes_counts import CountsSettings
    from spotscope.progress import Progress

IMAGE = "image"
"""Names the classifier that goes on from no pair in the scores."""


class Learn(enum.StrEnum):
    """What subtypes are learnt from."""

    image, tpirbae, counts = "image", "tpirbae", "counts"


group = typer.Typer(
    help="Learn the pathologist's subtypes from labelled spots and tell them from the image.",
    no_args_is_help=True,
)

Sections = Annotated[
    list[Path], typer.Argument(help="Sections with labelled spots.", show_default=False)
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of the classifier: trunk=last"),
]
EncoderName = Annotated[str, typer.Option(help=ENCODER_HELP)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (train, predict, evaluate):
        group.command()(command)
    app.add_typer(group, name="subtypes")


def train(
    sections: Sections,
    out: Annotated[
        Path, typer.Option(help="The classifier's folder to make.", show_default=False)
    ],
    learn: Annotated[
        Learn,
        typer.Option(
            help="From the image; from the image after a pair that counts and labels teach; or"
            " from counts with scANVI, for measured spots alone."
        ),
    ] = Learn.image,
    after: Annotated[
        Path | None,
        typer.Option(help="A trained contrastive model, such as tpirbae, to go on from."),
    ] = None,
    warm: Annotated[
        Path | None,
        typer.Option(help="An earlier classifier to go on from, after some more labels."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="A class that is not to be learnt; may be repeated."),
    ] = None,
    encoder: EncoderName = "auto",
    set_: Settings = None,
    pair: Annotated[
        list[str] | None,
        typer.Option("--pair", metavar="NAME=VALUE", help="A setting of the pair: epochs=20"),
    ] = None,
) -> None:
    """Train a classifier on the labelled spots of sections, and validate it on held-out ones.

    Patients are held out if several are labelled, and else blocks of tissue; the classifier that
    is kept has learnt from all.

    For example:

      spotscope subtypes train C2.zarr D1.zarr --out subtypes-model

      spotscope subtypes train *.zarr --out subtypes-model --learn tpirbae --pair epochs=40
    """
    from spotscope.errors import SpotScopeError
    from spotscope.evaluate.validation import Validation, as_markdown
    from spotscope.jobs.learning import as_classifier, learn_from_counts, learn_subtypes

    if learn is not Learn.image and (warm or after):
        raise SpotScopeError(f"--learn {learn.value} begins anew; leave out --warm and --after.")
    if learn is not Learn.tpirbae and pair:
        raise SpotScopeError("--pair sets the pair of --learn tpirbae; use --set otherwise.")
    with progress_shown("Training the classifier") as progress:
        if learn is Learn.counts:
            learn_from_counts(
                sections, out, exclude=exclude or (), settings=_counts(set_), progress=progress
            )
        else:
            learn_subtypes(
                sections,
                out,
                exclude=exclude or (),
                encoder=encoder,
                settings=_settings(set_),
                learn="tpirbae" if learn is Learn.tpirbae else "image",
                after=after,
                pair_settings=_pair_settings(pair),
                warm=warm,
                progress=progress,
            )
    made = as_classifier(out)
    for sentence in made.provenance.notes:
        note(sentence)
    if made.validation is not None:
        console().print(as_markdown(Validation.from_dict(made.validation)), markup=False)
    console().print(
        f"{out}: {made.provenance.n_spots:,} labelled spots of {len(made.classes)} subtypes"
        f" ({', '.join(made.classes)})"
    )


def predict(
    model: Annotated[
        Path, typer.Argument(help="Folder that subtypes train wrote.", show_default=False)
    ],
    section: Annotated[
        Path, typer.Argument(help="A section, or a slide alone.", show_default=False)
    ],
    stride_um: Annotated[
        float | None,
        typer.Option(
            "--stride-um", help="Step of the grid over the tissue; half the spot pitch without."
        ),
    ] = None,
    spots_only: Annotated[
        bool, typer.Option("--spots-only", help="Leave out the grid over the tissue.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A table of the spots to write as well, .csv; for a slide alone, the store to"
            " make, .zarr."
        ),
    ] = None,
) -> None:
    """Tell the subtypes of a section, on its spots and on a grid over its tissue.

    They go into the section's store, beside the predictions made before.

    For example:

      spotscope subtypes predict subtypes-model C5.zarr --out C5-subtypes.csv

      spotscope subtypes predict subtypes-model slide.svs --out slide.zarr
    """
    from spotscope.annotate.learnt import areas, decide
    from spotscope.data.prediction import flattery
    from spotscope.data.subtype_runs import list_subtype_runs
    from spotscope.jobs.learning import as_classifier, predict_subtypes
    from spotscope.jobs.opening import as_section
    from spotscope.jobs.predicting import with_store
    from spotscope.jobs.training import check_writable

    classifier, opened = as_classifier(model), as_section(section)
    table = out if out is not None and out.suffix != ".zarr" else None
    if table is not None:
        check_writable(table.parent)
        opened.measured()
    with progress_shown(f"Opening {opened.name}") as progress:
        place = with_store(opened, None if table is not None else out, progress)
    with progress_shown(f"Telling the subtypes of {opened.name}") as progress:
        run_id = predict_subtypes(
            classifier, place, stride_um=stride_um, on_grid=not spots_only, progress=progress
        )
    (run,) = (run for run in list_subtype_runs(place) if run.id == run_id)
    console().print(f"{place.store}: {run_id} ({run.protocol})")
    for found in (run.on_spots(), run.on_grid()):
        if found is not None:
            sizes = areas(found, decide(found))
            unit = "spots" if found.places.grid is None else "mm²"
            figures = (f"{n:,}" if mm2 is None else f"{mm2:.2f}" for n, mm2 in sizes.values())
            told = ", ".join(
                f"{name} {figure}" for name, figure in zip(sizes, figures, strict=True)
            )
            console().print(f"{unit}: {told}", markup=False)
    if table is not None:
        _write_table(table, run)
        console().print(f"{table}: {place.n_spots:,} spots")
    if sentence := flattery(run.protocol, place):
        note(sentence)


def _write_table(out: Path, run: SubtypeRun) -> None:
    """Write the spots' most probable class and all probabilities."""
    import pandas as pd

    from spotscope.files import written_beside

    found = run.on_spots()
    assert found is not None  # asked for before anything was predicted
    rows, cols = found.places.centres_px.T
    barcodes = found.places.section.barcodes
    table = pd.DataFrame(
        {"row_px": rows, "col_px": cols, "subtype": found.labels, "distance": found.distance},
        index=pd.Index(barcodes, name="spot"),
    ).join(pd.DataFrame(found.probabilities, barcodes, found.classes))
    with written_beside(out) as beside:
        table.to_csv(beside, float_format="%.6g")


def evaluate(
    sections: Sections,
    after: Annotated[
        list[str] | None,
        typer.Option(
            help="A contrastive method to train first, such as tpirbae; may be repeated."
        ),
    ] = None,
    encoder: EncoderName = "auto",
    set_: Settings = None,
    pair: Annotated[
        list[str] | None,
        typer.Option(
            "--pair", metavar="NAME=VALUE", help="A setting of the methods in --after: epochs=20"
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every figure as tidy records.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the tables as Markdown.")
    ] = None,
) -> None:
    """Hold each labelled patient out in turn, and score what is told of the spots.

    The commonest class and the image without a pair are always scored beside.

    For example:

      spotscope subtypes evaluate study/*.zarr

      spotscope subtypes evaluate study/*.zarr --after tpirbae --pair latent=scvi
    """
    from spotscope.cli.settings import parse_for_many, split_pairs
    from spotscope.evaluate.subtypes import as_markdown, evaluate_subtypes
    from spotscope.files import written_beside
    from spotscope.jobs.opening import as_cohort
    from spotscope.jobs.training import check_writable
    from spotscope.methods.base import get_method

    settings = _settings(set_)
    names = list(dict.fromkeys(after or []))
    kinds: dict[str, type[BaseModel]] = {name: get_method(name).Settings for name in names}
    pairs = parse_for_many(kinds, split_pairs(pair or []))
    makers = {IMAGE: _maker(settings, encoder)}
    makers |= {name: _maker(settings, encoder, name, pairs[name]) for name in names}
    for file in (json, markdown):
        if file is not None:
            check_writable(file.parent)
    cohort = as_cohort(sections)
    with progress_shown("Scoring") as progress:
        evaluation = evaluate_subtypes(makers, cohort, progress)
    text = as_markdown(evaluation)
    console().print(text, markup=False)
    for file, content in ((json, evaluation.to_json()), (markdown, text)):
        if file is not None:
            with written_beside(file) as beside:
                beside.write_text(content, encoding="utf-8")


def _maker(
    settings: SubtypeSettings,
    encoder: str,
    method: str | None = None,
    pair_settings: dict[str, Any] | None = None,
) -> Callable[[Cohort, Progress], SubtypeClassifier]:
    """Return what trains a classifier on a cohort, after a pair when a method is named."""
    from spotscope.jobs.learning import as_pair
    from spotscope.methods.base import get_method
    from spotscope.methods.subtypes import SubtypeClassifier

    def make(cohort: Cohort, progress: Progress) -> SubtypeClassifier:
        pair = None
        if method is not None:
            made = get_method(method)(pair_settings, encoder)
            pair = as_pair(made).fit(cohort, None, progress.part(0.0, 0.7))
        start = 0.0 if pair is None else 0.7
        return SubtypeClassifier(settings, encoder, pair).fit(cohort, progress.part(start, 1.0))

    return make


def _settings(pairs: list[str] | None) -> SubtypeSettings:
    from spotscope.cli.settings import checked, parse, split_pairs
    from spotscope.methods.subtypes import SubtypeSettings

    content = parse(SubtypeSettings, split_pairs(pairs or []), "subtypes")
    return checked(SubtypeSettings, content)


def _counts(pairs: list[str] | None) -> CountsSettings:
    from spotscope.cli.settings import checked, parse, split_pairs
    from spotscope.methods.subtypes_counts import CountsSettings

    content = parse(CountsSettings, split_pairs(pairs or []), "subtypes-counts")
    return checked(CountsSettings, content)


def _pair_settings(pairs: list[str] | None) -> dict[str, Any]:
    from spotscope.cli.settings import parse_for_many, split_pairs
    from spotscope.methods.base import get_method

    return parse_for_many({"tpirbae": get_method("tpirbae").Settings}, split_pairs(pairs or []))[
        "tpirbae"
    ]
