"""An evaluation as tables that are read by people: in the terminal or as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotscope.evaluate.metrics import METRICS
from spotscope.evaluate.records import ALL_SECTIONS, UNDEFINED

if TYPE_CHECKING:
    from rich.console import RenderableType

    from spotscope.evaluate.crossval import Evaluation

HEADINGS = {
    "pearson": "Pearson",
    "spearman": "Spearman",
    "mse": "MSE",
    "mae": "MAE",
    "r2": "R²",
    "ssim": "SSIM",
    UNDEFINED: "undef.",
}
PANELS = {
    "all": "all genes",
    "top50_variance": "top 50 var",
    "top1000_variance": "top 1000 var",
    "top50_mean": "top 50 mean",
    "top50_variance_test": "top 50 var*",
    "top50_mean_test": "top 50 mean*",
    "markers": "markers",
}
RANKING = (
    "The top genes by mean or variance are ranked on the training sections; with * on the held-out"
    " section itself, as some papers do."
)
_PER_SECTION = ("top50_variance", "all")


def as_table(evaluation: Evaluation) -> RenderableType:
    """Return the evaluation for a rich console."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for title, head, rows in _tables(evaluation):
        table = Table(
            title=title,
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        for i, heading in enumerate(head):
            left = not rows or not _is_number(rows[0][i])
            table.add_column(heading, justify="left" if left else "right", no_wrap=i > 0)
        last = None
        for row in rows:
            if last not in (None, row[0]):
                table.add_row()
            table.add_row(row[0] if row[0] != last else "", *row[1:])
            last = row[0]
        parts.append(table)
    parts.append(Text(f"{evaluation.protocol} {RANKING}", style="dim"))
    parts += [Text(f"Warning: {warning}", style="yellow") for warning in _warnings(evaluation)]
    return Group(*parts)


def as_markdown(evaluation: Evaluation) -> str:
    """Return the evaluation as Markdown."""
    lines: list[str] = []
    for title, head, rows in _tables(evaluation):
        rule = ["---" if not rows or not _is_number(cell) else "---:" for cell in rows[0]]
        lines += [f"**{title}**", ""]
        lines += [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]
        lines.append("")
    lines += [f"{evaluation.protocol} {RANKING}".replace("*", "\\*"), ""]
    lines += [f"> Warning: {warning}" for warning in _warnings(evaluation)]
    return "\n".join(lines).rstrip() + "\n"


def _tables(evaluation: Evaluation) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return title, heading and rows: first the means, then the sections one by one."""
    values = {
        (record.method, record.panel, record.metric, record.section): record.value
        for record in evaluation.records
    }
    methods = list(dict.fromkeys(record.method for record in evaluation.records))
    names = {
        record.method: f"{record.method} ({record.encoder})"
        if record.encoder != "none"
        else record.method
        for record in evaluation.records
    }
    metrics = [name for name in (*METRICS, UNDEFINED) if any(key[2] == name for key in values)]
    means = [
        [names[method], PANELS[panel]]
        + [_figure(name, values.get((method, panel, name, ALL_SECTIONS))) for name in metrics]
        for method in methods
        for panel in PANELS
        if (method, panel, metrics[0], ALL_SECTIONS) in values
    ]
    tables = [
        (
            "Mean over the held-out sections",
            ["method", "genes", *(HEADINGS[name] for name in metrics)],
            means,
        )
    ]
    sections = {
        record.section: f"{record.section} ({record.patient})"
        for record in evaluation.records
        if record.section != ALL_SECTIONS
    }
    each = [
        [names[method], PANELS[panel]]
        + [_figure("pearson", values.get((method, panel, "pearson", name))) for name in sections]
        for method in methods
        for panel in _PER_SECTION
    ]
    heading = ["method", "genes", *sections.values()]
    return [*tables, ("Pearson, by held-out section (patient)", heading, each)]


def _warnings(evaluation: Evaluation) -> list[str]:
    """Return the warnings of the evaluation and what is undefined in it."""
    warnings = list(evaluation.warnings)
    sizes = {len(score.genes) for score in evaluation.genes}
    of = f" of {max(sizes):,}" if sizes else ""
    for record in evaluation.records:
        named = record.metric == UNDEFINED and record.panel == "all"
        if named and record.section == ALL_SECTIONS and record.value > 0:
            warnings.append(
                f"{record.method}: the correlation is undefined for {record.value:,.4g}{of} genes"
                " a section, which are the same in every spot, measured or predicted; they count"
                " as 0."
            )
    return warnings


def _figure(metric: str, value: float | None) -> str:
    if value is None:
        return ""
    if metric == UNDEFINED:
        return f"{value:,.4g}"
    return f"{value:.3f}".replace("-0.000", "0.000")


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").replace(".", "").replace("-", "").replace("e+", "").isdigit()
