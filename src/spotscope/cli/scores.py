"""The command that scores methods."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from spotscope.cli.models import ENCODER_HELP
from spotscope.cli.running import ManyValues, console, progress_shown


class SplitChoice(StrEnum):
    """What is left out in turn."""

    patient = "patient"
    section = "section"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(cls=ManyValues)(evaluate)


def evaluate(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="METHOD", help="Methods, see: spotscope methods", show_default=False
        ),
    ],
    sections: Annotated[
        list[Path],
        typer.Option(
            "--sections",
            metavar="SECTION...",
            help="Sections with spots, several in a row.",
            show_default=False,
        ),
    ],
    split: Annotated[
        SplitChoice,
        typer.Option(help="Leave out one patient in turn, or one section (which flatters)."),
    ] = SplitChoice.patient,
    test: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="SECTION...",
            help="Train on all of --sections and score on these, instead of leaving out in turn.",
        ),
    ] = None,
    encoder: Annotated[str, typer.Option(help=ENCODER_HELP)] = "auto",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting of all methods that have it, or METHOD.NAME=VALUE of one;"
            " panel.NAME chooses the genes.",
        ),
    ] = None,
    markers: Annotated[
        str, typer.Option(help="Genes to score as a panel of their own: ERBB2,CD3E")
    ] = "",
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every figure as tidy records.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the tables as Markdown.")
    ] = None,
) -> None:
    """Score methods on sections that they were not trained on.

    The training mean (mean) and the nearest training patches (knn) are always scored beside them:
    a method that is not above these has learnt nothing from the image.

    For example:

      spotscope evaluate ridge --sections study/*.zarr

      spotscope evaluate ridge --sections C2.zarr C3.zarr --split section --json scores.json

      spotscope evaluate ridge --sections C*.zarr --test B4.zarr --markers ERBB2,CD3E
    """
    from spotscope.cli.settings import checked, parse, parse_for_many, split_pairs
    from spotscope.evaluate.crossval import BASELINES
    from spotscope.evaluate.records import to_json
    from spotscope.evaluate.report import as_markdown, as_table
    from spotscope.files import written_beside
    from spotscope.jobs.evaluating import evaluate as score
    from spotscope.jobs.training import check_writable
    from spotscope.methods.base import MethodSettings, get_method

    pairs = split_pairs(set_ or [])
    of_panel = [pair for pair in pairs if pair[0].startswith("panel.")]
    panel = checked(MethodSettings, parse(MethodSettings, of_panel, "evaluate")).panel
    chosen = list(dict.fromkeys([*names, *BASELINES]))
    others = [pair for pair in pairs if pair not in of_panel]
    settings = parse_for_many({name: get_method(name).Settings for name in chosen}, others)
    for file in (json, markdown):
        if file is not None:
            check_writable(file.parent)
    with progress_shown("Scoring") as progress:
        evaluation = score(
            names,
            sections,
            split=split.value,
            test=test or (),
            encoder=encoder,
            settings=settings,
            panel=panel,
            markers=[gene.strip() for gene in markers.split(",") if gene.strip()],
            progress=progress,
        )
    console().print(as_table(evaluation))
    if json is not None:
        with written_beside(json) as beside:
            beside.write_text(to_json(evaluation.records), encoding="utf-8")
    if markdown is not None:
        with written_beside(markdown) as beside:
            beside.write_text(as_markdown(evaluation), encoding="utf-8")
