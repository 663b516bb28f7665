from __future__ import annotations

import io

import pytest
from rich.console import Console

from spotscope.evaluate.crossval import Evaluation
from spotscope.evaluate.records import Record, with_means
from spotscope.evaluate.report import as_markdown, as_table


@pytest.fixture
def evaluation():
    def record(method, section, metric, panel, value):
        patient = section[0]
        return Record(
            method=method, encoder="stain", split="section", section=section, patient=patient,
            metric=metric, panel=panel, value=value,
        )  # fmt: skip

    records = []
    for method, base in (("ridge", 0.4), ("mean", 0.0)):
        for section, more in (("C2", 0.1), ("D1", 0.0514)):
            for panel in ("all", "top50_variance"):
                records += [
                    record(method, section, "pearson", panel, base + more),
                    record(method, section, "r2", panel, -0.0004),
                    record(method, section, "n_undefined", panel, 3.0),
                ]
    return Evaluation(
        with_means(records), "section", "Leave one section out.", ["A known patient."]
    )


def shown(evaluation, width=160):
    file = io.StringIO()
    Console(file=file, width=width).print(as_table(evaluation))
    return file.getvalue()


def test_the_table_has_means_sections_protocol_and_warnings(evaluation):
    text = shown(evaluation)
    assert "0.476" in text  # the mean of 0.5 and 0.4514, to three decimals
    assert "0.451" in text
    assert "C2 (C)" in text
    assert "Leave one section out." in text
    assert "Warning: A known patient." in text


def test_undefined_genes_are_told_beside_the_figures(evaluation):
    assert "ridge: the correlation is undefined for 3 genes" in shown(evaluation)


def test_markdown_is_a_table_with_a_rule_and_figures_to_the_right(evaluation):
    lines = as_markdown(evaluation).splitlines()
    assert lines[2] == "| method | genes | Pearson | R² | undef. |"
    assert lines[3] == "| --- | --- | ---: | ---: | ---: |"
    assert lines[4] == "| ridge (stain) | all genes | 0.476 | 0.000 | 3 |"
    assert "> Warning: A known patient." in lines


def test_a_value_is_found_by_its_names(evaluation):
    assert evaluation.value("ridge", "pearson", "all", "C2") == pytest.approx(0.5)
    with pytest.raises(KeyError):
        evaluation.value("ridge", "spearman")


def test_no_figure_is_cut_in_a_narrow_terminal(evaluation):
    assert "…" not in shown(evaluation, width=80)
