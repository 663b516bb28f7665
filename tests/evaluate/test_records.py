from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import ValidationError

from spotscope.evaluate.records import Record, from_json, section_records, to_json, with_means

FIGURES = {"pearson": np.array([0.2, np.nan, 0.6]), "mse": np.array([1.0, 2.0, 3.0])}


def records(section="S1", patient="P1", figures=FIGURES, panels=None):
    return section_records(
        figures,
        panels or {"all": [0, 1, 2], "markers": [2], "top50_mean": []},
        method="ridge",
        encoder="stain",
        split="patient",
        section=section,
        patient=patient,
    )


def value(found, metric, panel="all", section="S1"):
    (one,) = (r for r in found if (r.metric, r.panel, r.section) == (metric, panel, section))
    return one.value


def test_an_undefined_gene_counts_as_nothing_and_is_counted():
    found = records()
    assert value(found, "pearson") == pytest.approx(0.8 / 3)
    assert value(found, "mse") == pytest.approx(2)
    assert value(found, "n_undefined") == 1
    assert value(found, "n_undefined", "markers") == 0
    assert value(found, "pearson", "markers") == pytest.approx(0.6)


def test_an_empty_panel_makes_no_record():
    assert {record.panel for record in records()} == {"all", "markers"}


def test_the_mean_is_over_sections_whatever_their_size():
    other = {"pearson": np.array([1.0, 1.0, 1.0]), "mse": np.zeros(3)}
    found = with_means([*records(), *records("S2", "P2", other)])
    assert value(found, "pearson", section="all") == pytest.approx((0.8 / 3 + 1) / 2)
    assert value(found, "n_undefined", section="all") == 0.5
    assert {record.patient for record in found if record.section == "all"} == {"all"}


def test_json_has_exactly_the_promised_fields_and_is_read_back():
    found = with_means(records())
    text = to_json(found)
    assert list(json.loads(text)[0]) == [
        "method", "encoder", "split", "section", "patient", "metric", "panel", "value",
    ]  # fmt: skip
    assert from_json(text) == found


def test_a_record_of_another_shape_is_refused():
    with pytest.raises(ValidationError):
        Record.model_validate({"method": "ridge", "score": 1.0})
