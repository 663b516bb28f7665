"""Commands that show sections in a window: view and demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spotscope.cli.running import console, progress_shown

_SIZE = (1600, 1000)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(view)
    app.command()(demo)


def view(
    paths: Annotated[list[Path], typer.Argument(help="Sections or slides.", show_default=False)],
) -> None:
    """Open sections or slides in napari.

    Example:

      spotscope view C5.zarr
    """
    from spotscope.jobs.opening import as_section
    from spotscope.plugin.window import check_display, open_window, run_window

    check_display()
    for path in paths:  # what cannot be opened is said before a window comes up
        as_section(path)
    open_window(paths)
    run_window()


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the study, the model and the picture.")
    ] = Path("spotscope-demo"),
    window: Annotated[
        bool,
        typer.Option(
            "--window/--no-window", help="Open the window, or write its picture and stop."
        ),
    ] = True,
) -> None:
    """Show what SpotScope does, on a simulated study.

    It simulates sections, trains on some patients, predicts another one and shows the prediction
    and its error on the slide. Run again, it goes on from what is there.
    """
    from spotscope.jobs.demo import run_demo, score_table
    from spotscope.plugin.window import check_display, open_window, run_window

    check_display()
    with progress_shown("Preparing the demonstration") as progress:
        result = run_demo(out, progress=progress)
    console().print(score_table(result.evaluation))
    console().print(f"All figures: {result.folder / 'scores.json'}")

    from spotscope.plugin import capture_window, show_gene
    from spotscope.plugin.drawing import drawing_of

    viewer = open_window(
        [result.held_out],
        result.run_id,
        result.gene,
        view="error",
        docks=("Genes", "Quality"),
        size=_SIZE,
    )
    # Measured spots on the predicted map, in one colour range: they vanish where it is right.
    show_gene(viewer, result.gene, "predicted")
    drawing_of(viewer).toggle_spots()
    if window:
        run_window()
        return
    picture = result.folder / "demo.png"
    capture_window(viewer, picture)
    viewer.close()
    console().print(f"The picture of the window: {picture}")
