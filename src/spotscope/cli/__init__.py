"""The command line: what is typed, checked, shown while it runs and printed at the end."""

from __future__ import annotations

from typing import Annotated

import typer

from spotscope.cli import annotating, data, models, regions, scores, subtypes, system, windows
from spotscope.cli.running import Commands

app = typer.Typer(
    cls=Commands,
    help=(
        "Predict gene expression from H&E slides and see on the slide where it can be trusted.\n\n"
        "A first round on a simulated study:\n\n"
        "  spotscope simulate study\n\n"
        "  spotscope evaluate ridge --sections study/*.zarr\n\n"
        "  spotscope train ridge study/P1A.zarr study/P2A.zarr --out my-model\n\n"
        "  spotscope predict my-model study/P3A.zarr\n\n"
        "  spotscope view study/P3A.zarr\n\n"
        "Every command explains itself: spotscope import --help"
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

for module in (data, annotating, models, scores, regions, subtypes, windows, system):
    module.register(app)


def _print_version(asked: bool) -> None:
    if asked:
        from spotscope import __version__

        typer.echo(f"spotscope {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line."""
    app(prog_name="spotscope")
