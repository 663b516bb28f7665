"""A comparison by regions as tables: for the terminal, Markdown, JSON and files of values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spotscope.errors import SpotScopeError
from spotscope.evaluate.regions import REST, Contrast, RegionMeans
from spotscope.files import written_beside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray
    from rich.console import RenderableType

By = Literal["subtype", "leiden"]

GENES_SHOWN = 6
_NAMES_SHOWN = 8
AVERAGES = (
    "Averages have less noise than spots, so they correlate higher, over few regions by luck as"
    " well; pattern r is over the genes: whether what sets a region apart is predicted."
)
DIFFERENCES = (
    "Genes are ranked by Welch's t; chance is that of independent genes, and neighbouring spots"
    " are not independent, so p is too small. r is that of the log fold changes over all genes."
)

Table = tuple[str, list[str], list[list[str]]]


@dataclass(frozen=True)
class RegionComparison:
    """A prediction beside what was measured, by regions of one section.

    Attributes
    ----------
    section, patient
        Names.
    run, title, protocol
        Of the prediction.
    by
        What the regions are.
    barcodes, region_of
        (n,) each spot and the name of its region, "" for none.
    means
        Averages of all regions.
    contrasts
        Genes that tell regions apart.
    warnings
        Sentences on why the figures flatter.
    shown
        Genes whose averages the printed tables hold.
    """

    section: str
    patient: str
    run: str
    title: str
    protocol: str
    by: By
    barcodes: NDArray[np.str_]
    region_of: NDArray[np.str_]
    means: RegionMeans
    contrasts: list[Contrast] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)


def choose_shown(means: RegionMeans, asked: Sequence[str] = ()) -> list[str]:
    """Return the genes to print: those asked for, else those that differ most between regions.

    Raises
    ------
    SpotScopeError
        When one of those asked for was not compared.
    """
    if absent := [gene for gene in asked if gene not in means.genes]:
        raise SpotScopeError(
            f"'{absent[0]}' is not among the {len(means.genes):,} genes that are both predicted"
            " and measured here; name another."
        )
    most = np.argsort(-means.measured.std(axis=0), kind="stable")[:GENES_SHOWN]
    return list(asked) or [means.genes[gene] for gene in most]


def tables(comparison: RegionComparison) -> dict[str, pd.DataFrame]:
    """Return all values, one row a figure: regions, means, genes, differences, spots."""
    import pandas as pd

    means = comparison.means
    regions, genes = len(means.regions), len(means.genes)
    differences = [
        pd.DataFrame(
            {
                "group": each.group,
                "reference": each.reference,
                "gene": each.genes,
                **{
                    f"{kind}_{part}": getattr(getattr(each, kind), part)
                    for kind in ("measured", "predicted")
                    for part in ("fold", "score", "p")
                },
            }
        )
        for each in comparison.contrasts
    ]
    return {
        "regions": pd.DataFrame(
            {"region": means.regions, "n_spots": means.sizes, "pattern": means.pattern}
        ),
        "means": pd.DataFrame(
            {
                "region": np.repeat(means.regions, genes),
                "gene": np.tile(means.genes, regions),
                "measured": means.measured.ravel(),
                "predicted": means.predicted.ravel(),
            }
        ),
        "genes": pd.DataFrame(
            {
                "gene": means.genes,
                "pearson_spots": means.spots,
                "pearson_regions": means.correlation,
                "error": means.error,
            }
        ),
        "differences": pd.concat(differences, ignore_index=True)
        if differences
        else pd.DataFrame(columns=["group", "reference", "gene"]),
        "spots": pd.DataFrame({"barcode": comparison.barcodes, "region": comparison.region_of}),
    }


def to_json(comparison: RegionComparison) -> str:
    """Return all values as JSON; what does not exist is null."""
    head = ("section", "patient", "run", "title", "protocol", "by", "warnings")
    content: dict[str, Any] = {name: getattr(comparison, name) for name in head}
    content["contrasts"] = [_contrast_record(each) for each in comparison.contrasts]
    for name, table in tables(comparison).items():
        content[name] = json.loads(table.to_json(orient="records", double_precision=6))
    return json.dumps(content, indent=1, ensure_ascii=False)


def write_csv(comparison: RegionComparison, folder: Path) -> None:
    """Write each table of `tables` as a file of values in a folder, whole or not at all."""
    with written_beside(folder) as beside:
        beside.mkdir()
        for name, table in tables(comparison).items():
            table.to_csv(beside / f"{name}.csv", index=False, float_format="%.6g")


def as_markdown(comparison: RegionComparison) -> str:
    """Return the tables as Markdown."""
    lines = [_headline(comparison), ""]
    for title, head, rows in _printed(comparison):
        rule = ["---"] + ["---:"] * (len(head) - 1)
        lines += [f"**{title}**", ""]
        lines += [
            f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
            for cells in (head, rule, *rows)
        ]
        lines.append("")
    lines += [" ".join(_remarks(comparison)), ""]
    lines += [f"> Warning: {warning}" for warning in comparison.warnings]
    return "\n".join(lines).rstrip() + "\n"


def as_table(comparison: RegionComparison) -> RenderableType:
    """Return the tables for a rich console."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    parts: list[RenderableType] = [Text(_headline(comparison))]
    for title, head, rows in _printed(comparison):
        table = RichTable(
            title=title,
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        for place, heading in enumerate(head):
            worded = place == 0 or heading.startswith("shared")
            table.add_column(heading, justify="left" if worded else "right")
        for row in rows:
            table.add_row(*row)
        parts.append(table)
    parts.append(Text(" ".join(_remarks(comparison)), style="dim"))
    parts += [Text(f"Warning: {warning}", style="yellow") for warning in comparison.warnings]
    return Group(*parts)


def _headline(comparison: RegionComparison) -> str:
    means = comparison.means
    kind = {"subtype": "subtypes", "leiden": "Leiden clusters of the measured expression"}
    said = (
        f"{comparison.section}, {comparison.title} ({comparison.protocol}): {len(means.genes):,}"
        f" genes in {len(means.regions)} {kind[comparison.by]}; median r over the spots"
        f" {_figure(_median(means.spots))}"
    )
    if np.isfinite(means.correlation).any():
        said += f", over the averages of the regions {_figure(_median(means.correlation))}"
    return f"{said}; the averages are off by {_figure(float(means.error.mean()))} on average."


def _remarks(comparison: RegionComparison) -> list[str]:
    said = [AVERAGES]
    if comparison.by == "leiden":
        said.append("The clusters were found in the measured values themselves.")
    return said + ([DIFFERENCES] if comparison.contrasts else [])


def _printed(comparison: RegionComparison) -> list[Table]:
    found = [_means_table(comparison)]
    if comparison.contrasts:
        found.append(_contrasts_table(comparison.contrasts))
    if len(comparison.contrasts) == 1:
        found += [
            _genes_table(comparison.contrasts[0], sign)
            for sign in (1, -1)
            if comparison.contrasts[0].leading(sign)[0]
        ]
    return found


def _means_table(comparison: RegionComparison) -> Table:
    """Return regions down, genes across; the last two rows are each gene's correlations."""
    means = comparison.means
    columns = [means.genes.index(gene) for gene in comparison.shown]
    rows = [
        [
            region,
            f"{means.sizes[row]:,}",
            _figure(means.pattern[row]),
            *(f"{means.measured[row, c]:.2f} / {means.predicted[row, c]:.2f}" for c in columns),
        ]
        for row, region in enumerate(means.regions)
    ]
    for title, values in (("r over spots", means.spots), ("r over regions", means.correlation)):
        rows.append([title, "", "", *(_figure(values[c]) for c in columns)])
    title = "Averages, measured / predicted, log1p of counts per 10,000"
    return title, ["region", "spots", "pattern r", *comparison.shown], rows


def _contrasts_table(contrasts: Sequence[Contrast]) -> Table:
    rows = []
    for each in contrasts:
        for sign in (1,) if each.reference == REST else (1, -1):
            shared, (expected, p) = each.shared(sign), each.by_chance(sign)
            high, low = (each.group, each.reference)[::sign]
            more = ", …" if len(shared) > _NAMES_SHOWN else ""
            rows.append(
                [
                    f"{high} > {low}",
                    " : ".join(f"{size:,}" for size in each.sizes[::sign]),
                    _figure(each.correlation),
                    f"{each.same_sign:.0%}",
                    f"{len(shared)} of {len(each.leading(sign)[0])}",
                    f"{expected:.1f}",
                    f"{p:.2g}",
                    ", ".join(shared[:_NAMES_SHOWN]) + more,
                ]
            )
    head = ["higher in", "spots", "r", "same sign", "top genes shared", "by chance", "p"]
    return "Genes that tell regions apart", [*head, "shared genes"], rows


def _genes_table(each: Contrast, sign: int) -> Table:
    """Return the leading measured genes, and where the prediction has them."""
    order = np.argsort(-sign * each.predicted.score, kind="stable")
    rank = np.empty(len(order), dtype=int)
    rank[order] = 1 + np.arange(len(order))
    rows = [
        [
            each.genes[gene],
            f"{each.measured.fold[gene]:+.2f}",
            f"{each.predicted.fold[gene]:+.2f}",
            f"{each.measured.p[gene]:.2g}",
            f"{rank[gene]:,}",
        ]
        for gene in each.measured.leading(each.top, sign)
    ]
    high, low = (each.group, each.reference)[::sign]
    head = ["gene", "log2 fold, measured", "predicted", "p, measured", "rank when predicted"]
    return f"Measured higher in {high} than in {low}", head, rows


def _contrast_record(each: Contrast) -> dict[str, Any]:
    ends = {}
    for name, sign in (("higher", 1), ("lower", -1)):
        measured, predicted = each.leading(sign)
        expected, p = each.by_chance(sign)
        ends[name] = {
            "measured": measured,
            "predicted": predicted,
            "shared": each.shared(sign),
            "by_chance": expected,
            "p": p,
        }
    return {
        "group": each.group,
        "reference": each.reference,
        "n_spots": list(each.sizes),
        "correlation": None if np.isnan(each.correlation) else each.correlation,
        "same_sign": each.same_sign,
        **ends,
    }


def _median(values: NDArray[np.float64]) -> float:
    defined = values[np.isfinite(values)]
    return float(np.median(defined)) if len(defined) else float("nan")


def _figure(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00")
