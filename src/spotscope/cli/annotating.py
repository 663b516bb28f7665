"""Commands about the pathologist's annotations: import, export and list."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spotscope.cli.running import console, note

if TYPE_CHECKING:
    from spotscope.annotate.document import AnnotationDocument
    from spotscope.annotate.summary import ClassSummary, Summary
    from spotscope.data.section import Section

group = typer.Typer(
    help="Bring annotations in from QuPath, Loupe Browser and others, take them out, list them.",
    no_args_is_help=True,
)

SectionPath = Annotated[
    Path,
    typer.Option("--section", help="The section's store, or a slide.", show_default=False),
]


class FormChoice(StrEnum):
    """What is written."""

    geojson = "geojson"
    csv = "csv"


class UnitChoice(StrEnum):
    """Unit of GeoJSON coordinates."""

    px = "px"
    um = "um"


class BorderChoice(StrEnum):
    """When a spot on a region's border is in it."""

    centre = "centre"
    half = "half"
    touch = "touch"


class OverlapChoice(StrEnum):
    """Which of overlapping regions a spot belongs to."""

    last = "last"
    smallest = "smallest"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group.command("import")(import_)
    group.command()(export)
    group.command("list")(list_)
    app.add_typer(group, name="annotations")


def import_(
    file: Annotated[
        Path,
        typer.Argument(
            help="GeoJSON of QuPath, NDPA, a category of Loupe Browser (CSV), a label table of"
            " first-generation ST, or classes of QuPath (JSON).",
            show_default=False,
        ),
    ],
    section: SectionPath,
    as_: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="NAME", help="Whose they are; without it whom the file names, or you."
        ),
    ] = None,
    unit: Annotated[
        UnitChoice | None,
        typer.Option(help="Of GeoJSON coordinates; pixels of the full picture without."),
    ] = None,
    border: Annotated[
        BorderChoice,
        typer.Option(help="A spot is in a region by its centre, by half of it, or by a touch."),
    ] = BorderChoice.centre,
    overlap: Annotated[
        OverlapChoice,
        typer.Option(help="Where regions overlap, the last or the smallest one counts."),
    ] = OverlapChoice.last,
) -> None:
    """Bring annotations into a section, as one step that undo takes back, and save them.

    For example:

      spotscope annotations import C2.geojson --section C2.zarr --as Ada

      spotscope annotations import categories.csv --section P1.zarr
    """
    from spotscope.annotate.saving import save_annotations
    from spotscope.jobs.annotating import import_annotations

    with _opened(section, as_) as (opened, document):
        done = import_annotations(
            file,
            opened,
            document,
            annotator=as_,
            unit=unit.value if unit else None,
            border=border.value,
            overlap=overlap.value,
        )
        what = [f"{done.n_regions:,} regions"] if done.n_regions else []
        if opened.has_spots and done.kind != "classes":
            what.append(f"{done.n_spots:,} spots labelled anew")
        if done.kind == "classes":
            what = [f"{len(document.vocabulary.classes)} classes"]
        console().print(f"{section}: {', '.join(what)} for {document.annotator}", markup=False)
        for sentence in done.notes:
            note(sentence)
        if document.trouble:
            note(document.trouble)
        if opened.store is None:
            note(
                f"'{section.name}' is a slide without a store, so they are kept in"
                f" '{document.journal}'; import the slide to save them with it."
            )
        else:
            save_annotations(opened, document)


def export(
    section: SectionPath,
    form: Annotated[
        FormChoice,
        typer.Option("--format", help="Regions for QuPath, or a class a spot for Loupe Browser."),
    ],
    out: Annotated[Path, typer.Option(help="The file to write.", show_default=False)],
    as_: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Of this annotator alone; of all without."),
    ] = None,
    spots: Annotated[
        bool,
        typer.Option("--spots", help="GeoJSON of areas around labelled spots, not of regions."),
    ] = False,
) -> None:
    """Write a section's annotations for QuPath or Loupe Browser.

    For example:

      spotscope annotations export --section C2.zarr --format geojson --out C2.geojson
    """
    from spotscope.jobs.annotating import export_annotations

    with _opened(section) as (opened, document):
        what, notes = export_annotations(
            document, opened, out, form.value, annotator=as_, of_spots=spots
        )
        console().print(f"{out}: {what}", markup=False)
        for sentence in notes:
            note(sentence)


def list_(section: SectionPath) -> None:
    """List who annotated a section, and what: classes with spots and areas.

    For example:

      spotscope annotations list --section C2.zarr
    """
    from spotscope.annotate.summary import summarise

    with _opened(section) as (opened, document):
        for line in _lines(summarise(document, opened)):
            console().print(line, markup=False, soft_wrap=True)


@contextmanager
def _opened(
    path: Path, annotator: str | None = None
) -> Iterator[tuple[Section, AnnotationDocument]]:
    """Open a section and its annotations, and let go of them at the end."""
    from spotscope.annotate.opening import open_annotations
    from spotscope.jobs.opening import as_section

    opened = as_section(path)
    document = open_annotations(opened, annotator)
    for sentence in document.notes:
        note(sentence)
    try:
        yield opened, document
    finally:
        document.close()


def _lines(summary: Summary) -> Iterator[str]:
    if not summary.annotators:
        yield "Nothing is annotated."
    for who, spots, regions in summary.annotators:
        yield f"{who}: {spots:,} of {summary.n_spots:,} spots labelled, {regions:,} regions"
    for one, other, found in summary.pairs:
        kappa = "not defined" if found.kappa != found.kappa else f"{found.kappa:.2f}"
        yield (
            f"{one} and {other}: {found.n_shared:,} spots labelled by both, {found.share:.0%} the"
            f" same, Cohen's kappa {kappa}"
        )
    width = max([len("class"), *(len(c.name) for c in summary.classes)])
    if summary.classes:
        yield f"{'class':{width}}  colour   key   spots  regions       mm²"
    for c in summary.classes:
        yield _line(c, width)
    if summary.unsaved:
        yield f"{summary.unsaved:,} steps are in the journal and not yet saved in the store."


def _line(c: ClassSummary, width: int) -> str:
    area = "-" if c.regions_mm2 is None else f"{c.regions_mm2:.3f}"
    excluded = "  excluded from learning" if c.exclude else ""
    return (
        f"{c.name:{width}}  {c.colour}  {c.key or '-':>3}  {c.n_spots:>6,}  {c.n_regions:>7,}"
        f"  {area:>8}{excluded}"
    )
