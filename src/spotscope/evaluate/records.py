"""Scores as tidy records, one figure each; their fields and names are stable."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from spotscope.evaluate.metrics import mean_over

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

Split = Literal["patient", "section", "test"]

ALL_SECTIONS = "all"
"""Stands for section and patient in the record that holds the mean over the sections."""

UNDEFINED = "n_undefined"
"""Metric: genes of the panel whose correlation with the prediction does not exist."""


class Record(BaseModel):
    """One figure.

    Attributes
    ----------
    method, encoder
        Names.
    split
        "patient" or "section" for what was left out in turn; "test" for test sections that the
        user named.
    section, patient
        Of the held-out section; "all" for the mean over the sections.
    metric
        pearson, spearman, mse, mae, r2, ssim or n_undefined; a mean over the genes of the panel
        in which an undefined figure counts 0.
    panel
        all, top50_mean, top50_variance and top1000_variance (ranked on the training sections),
        top50_mean_test and top50_variance_test (ranked on the held-out section), markers.
    value
        The figure.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    encoder: str
    split: Split
    section: str
    patient: str
    metric: str
    panel: str
    value: float


_Records = TypeAdapter(list[Record])


def section_records(
    figures: Mapping[str, NDArray],
    panels: Mapping[str, Sequence[int]],
    *,
    method: str,
    encoder: str,
    split: Split,
    section: str,
    patient: str,
) -> list[Record]:
    """Summarise the figures of each gene of one section over panels of genes.

    Parameters
    ----------
    figures
        By metric, (G,) with NaN where undefined.
    panels
        By name, columns of the genes; an empty panel makes no record.
    method, encoder, split, section, patient
        See `Record`.
    """
    found = []
    for panel, genes in panels.items():
        if not len(genes):
            continue
        values = {name: mean_over(each[list(genes)])[0] for name, each in figures.items()}
        values[UNDEFINED] = float(mean_over(figures["pearson"][list(genes)])[1])
        found += [
            Record(
                method=method,
                encoder=encoder,
                split=split,
                section=section,
                patient=patient,
                metric=metric,
                panel=panel,
                value=value,
            )
            for metric, value in values.items()
        ]
    return found


def with_means(records: Iterable[Record]) -> list[Record]:
    """Add, after the records of each figure's sections, the mean over the sections."""
    groups: dict[tuple[str, str, Split, str, str], list[Record]] = {}
    for record in records:
        key = (record.method, record.encoder, record.split, record.metric, record.panel)
        groups.setdefault(key, []).append(record)
    complete = []
    for group in groups.values():
        mean = sum(record.value for record in group) / len(group)
        whole = {"section": ALL_SECTIONS, "patient": ALL_SECTIONS, "value": mean}
        complete += [*group, group[0].model_copy(update=whole)]
    return complete


def to_json(records: Sequence[Record]) -> str:
    """Return the records as a JSON list."""
    return json.dumps([record.model_dump() for record in records], indent=1, ensure_ascii=False)


def from_json(text: str) -> list[Record]:
    """Read what `to_json` wrote."""
    return _Records.validate_json(text)
