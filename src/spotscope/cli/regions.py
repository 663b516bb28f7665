"""The command that compares a prediction with what was measured, region by region."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from spotscope.cli.running import ManyValues, console, progress_shown


class ByChoice(StrEnum):
    """What the regions are."""

    subtype = "subtype"
    leiden = "leiden"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(cls=ManyValues)(compare)


def compare(
    section: Annotated[
        Path, typer.Argument(help="A section with spots and a prediction.", show_default=False)
    ],
    run: Annotated[
        str | None, typer.Option(help="The prediction by its id; the newest without.")
    ] = None,
    by: Annotated[
        ByChoice,
        typer.Option(help="Regions: the pathologist's subtypes, or clusters of the measurement."),
    ] = ByChoice.subtype,
    groups: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REGION...",
            help="Two regions to tell apart, or one to tell from the rest; every subtype without.",
        ),
    ] = None,
    genes: Annotated[str, typer.Option(help="Genes whose averages are shown: ERBB2,CD3E")] = "",
    resolution: Annotated[
        float, typer.Option(min=0.01, help="Of the clusters; higher makes more of them.")
    ] = 1.0,
    top: Annotated[
        int, typer.Option(min=1, help="How many leading genes of each region are compared.")
    ] = 20,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure.")] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write every figure as tables, .csv.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the tables as Markdown.")
    ] = None,
) -> None:
    """Compare a prediction with the measurement by regions: averages, and genes that differ.

    For example:

      spotscope compare C2.zarr

      spotscope compare C2.zarr --groups "invasive cancer" "connective tissue" --csv c2-regions

      spotscope compare C2.zarr --by leiden --genes ERBB2,CD3E
    """
    from spotscope.evaluate.region_report import as_markdown, as_table, to_json, write_csv
    from spotscope.files import written_beside
    from spotscope.jobs.comparing import compare_regions
    from spotscope.jobs.training import check_new, check_writable

    for file in (json, markdown):
        if file is not None:
            check_writable(file.parent)
    if csv is not None:
        check_new(csv, "tables")
    with progress_shown(f"Comparing {section.name}") as progress:
        found = compare_regions(
            section,
            run,
            by=by.value,
            groups=groups or (),
            genes=[gene.strip() for gene in genes.split(",") if gene.strip()],
            resolution=resolution,
            top=top,
            progress=progress,
        )
    console().print(as_table(found))
    for path, text in ((json, to_json), (markdown, as_markdown)):
        if path is not None:
            with written_beside(path) as beside:
                beside.write_text(text(found), encoding="utf-8")
    if csv is not None:
        write_csv(found, csv)
