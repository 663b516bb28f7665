"""Commands about models: train, predict, methods, encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from spotscope.cli.running import console, note, progress_shown, say

ENCODER_HELP = "Image encoder, see: spotscope encoders"
SET_HELP = "A setting of the method, name=value; see: spotscope methods METHOD"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (train, predict, methods, encoders):
        app.command()(command)


def train(
    method: Annotated[
        str, typer.Argument(help="A method, see: spotscope methods", show_default=False)
    ],
    sections: Annotated[
        list[Path],
        typer.Argument(help="Sections with spots to learn from.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="The model's folder to make.", show_default=False)],
    encoder: Annotated[str, typer.Option(help=ENCODER_HELP)] = "auto",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help=SET_HELP)
    ] = None,
    validate: Annotated[
        list[Path] | None,
        typer.Option(
            help="A section to tune on, may be repeated; without, the method sets some of its"
            " own apart."
        ),
    ] = None,
) -> None:
    """Train a model on sections.

    For example:

      spotscope train ridge C2.zarr C3.zarr C4.zarr --out ridge-model

      spotscope train ridge *.zarr --out her2-model --encoder resnet50 --set panel.n_genes=200
    """
    from spotscope.cli.settings import parse, split_pairs
    from spotscope.jobs.estimating import estimate_training
    from spotscope.jobs.opening import as_cohort
    from spotscope.jobs.training import check_new, train_model
    from spotscope.methods.base import get_method, read_record

    kind = get_method(method)
    settings = parse(kind.Settings, split_pairs(set_ or []), method)
    untrained = kind(settings, encoder)
    check_new(out)
    cohort = as_cohort(sections)
    say(f"Training {kind.title} on {estimate_training(untrained, cohort.sections)}.")
    with progress_shown(f"Training {method}") as progress:
        train_model(
            method,
            cohort.sections,
            out,
            encoder=encoder,
            settings=settings,
            validation=validate,
            progress=progress,
        )
    record = read_record(out)
    console().print(
        f"{out}: {record['title']}, trained on {record['n_spots']:,} spots of"
        f" {len(record['training_sections'])} sections{_told(record['scores'])}"
    )
    for remark in record.get("notes", []):
        note(remark)


def _told(scores: dict[str, float]) -> str:
    """Tell what was scored on spots set apart from what the training itself ended with."""
    held = [f"{name} {value:.3f}" for name, value in scores.items() if name == "pearson"]
    ended = [f"{name} {value:.3f}" for name, value in scores.items() if name != "pearson"]
    return (f"; on spots that it set apart: {', '.join(held)}" if held else "") + (
        f"; the training ended at {', '.join(ended)}" if ended else ""
    )


def predict(
    model: Annotated[Path, typer.Argument(help="Folder that train wrote.", show_default=False)],
    sections: Annotated[
        list[Path],
        typer.Argument(help="Sections, or slides alone with --out.", show_default=False),
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
        typer.Option(help="For one slide that was not imported: the store to make, .zarr."),
    ] = None,
) -> None:
    """Predict gene expression on the spots and on a grid over the tissue.

    The prediction goes into the section's store, beside those made before.

    For example:

      spotscope predict ridge-model C5.zarr --stride-um 100

      spotscope predict ridge-model slide.svs --out slide.zarr
    """
    from spotscope.data.prediction import flattery
    from spotscope.data.runs import list_runs
    from spotscope.errors import SpotScopeError
    from spotscope.jobs.estimating import estimate_prediction
    from spotscope.jobs.opening import as_section
    from spotscope.jobs.predicting import as_model, check_genes, predict_section, with_store

    if out is not None and len(sections) > 1:
        raise SpotScopeError("--out names one store; predict the slides one by one.")
    loaded = as_model(model)
    opened = [as_section(section) for section in sections]
    for section in opened:
        check_genes(loaded, section)
    for section in opened:
        with progress_shown(f"Opening {section.name}") as progress:
            section = with_store(section, out, progress)
        cost = estimate_prediction(loaded, section, stride_um, not spots_only)
        say(f"Predicting {len(loaded.genes):,} genes on {section.name}: {cost}.")
        with progress_shown(f"Predicting {section.name}") as progress:
            run_id = predict_section(
                loaded, section, stride_um=stride_um, on_grid=not spots_only, progress=progress
            )
        (run,) = (run for run in list_runs(section) if run.id == run_id)
        console().print(f"{section.store}: {run_id} ({run.protocol})")
        if sentence := flattery(run.protocol, section):
            note(sentence)


def methods(
    method: Annotated[
        str | None, typer.Argument(help="Show the settings of this one.", show_default=False)
    ] = None,
) -> None:
    """List the methods, or the settings of one.

    For example:

      spotscope methods

      spotscope methods ridge
    """
    from rich.table import Table

    from spotscope.cli.settings import fields
    from spotscope.methods import base

    if method is None:
        table = Table("method", "what it is")
        for name, kind in sorted(base.methods().items()):
            table.add_row(name, f"[bold]{kind.title}[/bold]: {kind.summary}")
        console().print(table)
        return
    kind = base.get_method(method)
    table = Table("setting", "default", "what it does", title=f"{kind.title}: {kind.summary}")
    for name, field in fields(kind.Settings).items():
        default = field.get_default(call_default_factory=True, validated_data={})
        table.add_row(name, _typed(default), field.description or field.title or "")
    console().print(table)


def _typed(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(str(part) for part in value)
    return "" if value is None else str(value)


def encoders() -> None:
    """List the image encoders, and which have their weights at hand."""
    from rich.table import Table

    from spotscope.encoders.base import encoders as known

    table = Table("encoder", "what it is", "ready")
    for info in known():
        table.add_row(info.spec, info.title, "yes" if info.at_hand else info.how)
    console().print(table)
