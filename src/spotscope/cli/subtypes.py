"""Commands about subtypes: train, predict and evaluate a classifier of patches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spotscope.cli.models import ENCODER_HELP
from spotscope.cli.running import console, note, progress_shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel

    from spotscope.data.cohort import Cohort
    from spotscope.methods.contrastive import ContrastiveMethod
    from spotscope.methods.subtypes import SubtypeClassifier, SubtypeSettings
    from spotscope.progress import Progress

IMAGE = "image"
"""Names the classifier that goes on from no pair in the scores."""

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
    after: Annotated[
        Path | None,
        typer.Option(help="A trained contrastive model, such as tpirbae, to go on from."),
    ] = None,
    encoder: EncoderName = "auto",
    set_: Settings = None,
) -> None:
    """Train a classifier on the labelled spots of sections.

    For example:

      spotscope subtypes train C2.zarr D1.zarr --out subtypes-model

      spotscope subtypes train *.zarr --out subtypes-model --after tpirbae-model --set head=mlp
    """
    from spotscope.jobs.opening import as_cohort
    from spotscope.jobs.training import check_new
    from spotscope.methods.subtypes import SubtypeClassifier

    settings = _settings(set_)
    check_new(out)
    pair = _pair(after) if after is not None else None
    cohort = as_cohort(sections)
    with progress_shown("Training the classifier") as progress:
        classifier = SubtypeClassifier(settings, encoder, pair).fit(cohort, progress)
        classifier.save(out)
    for sentence in classifier.notes:
        note(sentence)
    learnt = classifier.provenance
    console().print(
        f"{out}: {learnt.n_spots:,} labelled spots of {len(classifier.classes)} subtypes"
        f" ({', '.join(classifier.classes)})"
    )


def predict(
    model: Annotated[
        Path, typer.Argument(help="Folder that subtypes train wrote.", show_default=False)
    ],
    section: Annotated[Path, typer.Argument(help="A section with spots.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The table to write, .csv.", show_default=False)],
) -> None:
    """Tell the subtype of each spot from the image, and write a table.

    For example:

      spotscope subtypes predict subtypes-model C5.zarr --out C5-subtypes.csv
    """
    import pandas as pd

    from spotscope.data.places import Places
    from spotscope.files import written_beside
    from spotscope.jobs.opening import as_section
    from spotscope.jobs.training import check_writable
    from spotscope.methods.subtypes import SubtypeClassifier

    classifier = SubtypeClassifier.load(model)
    opened = as_section(section)
    check_writable(out.parent)
    opened.measured()
    with progress_shown(f"Telling the subtypes of {opened.name}") as progress:
        found = classifier.predict_subtypes(Places.on_spots(opened), progress)
    rows, cols = found.places.centres_px.T
    table = pd.DataFrame(
        {"row_px": rows, "col_px": cols, "subtype": found.labels},
        index=pd.Index(opened.barcodes, name="spot"),
    ).join(pd.DataFrame(found.probabilities, opened.barcodes, found.classes))
    with written_beside(out) as beside:
        table.to_csv(beside, float_format="%.6g")
    shares = table["subtype"].value_counts(normalize=True)
    told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    console().print(f"{out}: {len(table):,} spots, {told}")
    if opened.patient in classifier.provenance.training_patients:
        note(
            f"The classifier was trained on patient {opened.patient}, so these subtypes look"
            " better than a new patient's would."
        )


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
    from spotscope.methods.base import get_method
    from spotscope.methods.subtypes import SubtypeClassifier

    def make(cohort: Cohort, progress: Progress) -> SubtypeClassifier:
        pair = None
        if method is not None:
            made = get_method(method)(pair_settings, encoder)
            pair = _contrastive(made, method).fit(cohort, None, progress.part(0.0, 0.7))
        start = 0.0 if pair is None else 0.7
        return SubtypeClassifier(settings, encoder, pair).fit(cohort, progress.part(start, 1.0))

    return make


def _settings(pairs: list[str] | None) -> SubtypeSettings:
    from spotscope.cli.settings import checked, parse, split_pairs
    from spotscope.methods.subtypes import SubtypeSettings

    content = parse(SubtypeSettings, split_pairs(pairs or []), "subtypes")
    return checked(SubtypeSettings, content)


def _pair(folder: Path) -> ContrastiveMethod:
    from spotscope.methods.base import load_method

    return _contrastive(load_method(folder), str(folder))


def _contrastive(method: object, called: str) -> ContrastiveMethod:
    from spotscope.errors import SpotScopeError
    from spotscope.methods.contrastive import ContrastiveMethod

    if not isinstance(method, ContrastiveMethod):
        raise SpotScopeError(
            f"'{called}' trains no image side that a classifier could go on from; choose clip,"
            " bleep, mclstexp or tpirbae."
        )
    return method
