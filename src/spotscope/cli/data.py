"""Commands that make sections: import and simulate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spotscope.cli.running import console, note, progress_shown


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("import")(import_)
    app.command()(simulate)


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            help="A Space Ranger folder, a table of counts, an h5ad, a SpatialData store, or a"
            " slide alone.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(help="The store to make, ending in .zarr.", show_default=False),
    ],
    image: Annotated[Path | None, typer.Option(help="The slide, when it lies elsewhere.")] = None,
    spots: Annotated[
        Path | None, typer.Option(help="The file of spot positions, when it lies elsewhere.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="The pathologist's label of each spot.")
    ] = None,
    mpp: Annotated[
        float | None,
        typer.Option(help="Micrometres per pixel; taken before all that the files state."),
    ] = None,
    patient: Annotated[
        str | None,
        typer.Option(help="Whose tissue it is: sections of one patient are kept together."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the section; the store's without.")
    ] = None,
    link: Annotated[
        bool,
        typer.Option("--link", help="Leave a pyramidal slide where it is instead of copying it."),
    ] = False,
    full_width: Annotated[
        float | None,
        typer.Option(
            "--full-width",
            help="Width in pixels of the image on which spots were placed, when the one given is"
            " a smaller copy.",
        ),
    ] = None,
) -> None:
    """Make a section of a slide and its spots.

    For example:

      spotscope import outs/ --out P1A.zarr --image P1A.svs --patient P1

      spotscope import C2.tsv.gz --image C2.jpg --spots C2_selection.tsv --out C2.zarr --patient C

      spotscope import slide.svs --out slide.zarr --link
    """
    from spotscope.data.importing import import_section

    with progress_shown(f"Importing {source.name}") as progress:
        section = import_section(
            source,
            out,
            image=image,
            spots=spots,
            labels=labels,
            mpp_um=mpp,
            patient=patient,
            # Sources are often called alike, such as outs: two would be taken for one section.
            name=name or out.stem,
            link=link,
            full_width_px=full_width,
            progress=progress,
        )
    rows, cols = section.slide.shape_px
    scale = f"{section.mpp_um:.4g} µm per pixel" if section.mpp_um else "no scale stated"
    what = (
        f"{section.n_spots:,} spots, {len(section.genes):,} genes"
        if section.has_spots
        else ("a slide without spots")
    )
    console().print(
        f"{out}: section {section.name} of patient {section.patient}, {what}, {cols:,} × {rows:,}"
        f" pixels, {scale}."
    )
    for sentence in section.notes:
        note(sentence)


def simulate(
    out: Annotated[Path, typer.Argument(help="The folder to make.", show_default=False)],
    seed: Annotated[int, typer.Option(help="The same seed gives the same study again.")] = 0,
    patients: Annotated[int, typer.Option(help="Number of patients.")] = 4,
    sections: Annotated[int, typer.Option(help="Sections of each patient.")] = 2,
) -> None:
    """Make a simulated study to try everything on: sections of tissue with spots and counts.

    Example:

      spotscope simulate study
    """
    from spotscope.jobs.study import make_study

    with progress_shown("Simulating a study") as progress:
        stores = make_study(
            out,
            seed,
            n_patients=patients,
            sections_per_patient=sections,
            progress=progress,
        )
    console().print(f"{len(stores)} sections of {patients} patients in {out}")
    console().print(f"Next: spotscope evaluate ridge --sections {out}/*.zarr", style="dim")
