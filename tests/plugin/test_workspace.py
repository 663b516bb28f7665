from __future__ import annotations

import numpy as np
import pytest

from spotscope.errors import SpotScopeError
from spotscope.plugin.workspace import Workspace


@pytest.fixture
def workspace(c2):
    made = Workspace()
    made.add(c2)
    return made


def heard(workspace):
    calls = []
    workspace.changed.connect(calls.append)
    return calls


def test_opening_a_section_twice_shows_it_and_keeps_one(workspace, c2, c3):
    workspace.add(c3)
    assert workspace.add(type(c2)(c2.section)) is c2
    assert workspace.sections == [c2, c3]
    assert workspace.section is c2


def test_the_newest_run_is_chosen_on_opening(workspace):
    assert workspace.run.id == "ridge-stain-1"


def test_choosing_a_gene_tells_what_changed_once(workspace):
    calls = heard(workspace)
    workspace.show_gene("ERBB2")
    assert calls == [frozenset({"gene", "range"})]
    workspace.show_gene("ERBB2")
    assert len(calls) == 1


def test_a_gene_is_found_by_the_name_of_its_antibody(workspace):
    workspace.show_gene("her2")
    assert workspace.gene == "ERBB2"
    workspace.show_gene("CD20")
    assert workspace.gene == "MS4A1"


def test_an_unknown_gene_is_refused_and_nothing_changes(workspace):
    workspace.show_gene("ERBB2")
    calls = heard(workspace)
    with pytest.raises(SpotScopeError, match="no gene 'NOSUCH'"):
        workspace.show_gene("NOSUCH")
    assert workspace.gene == "ERBB2"
    assert calls == []


def test_a_gene_that_the_run_lacks_is_shown_as_measured(workspace):
    workspace.show_gene("ERBB2", "predicted")
    workspace.show_gene("ACTB")
    assert (workspace.gene, workspace.view) == ("ACTB", "measured")
    with pytest.raises(SpotScopeError, match="does not predict ACTB"):
        workspace.show_gene("ACTB", "error")
    assert (workspace.gene, workspace.view) == ("ACTB", "measured")


def test_without_a_prediction_the_reason_names_the_next_step(c3):
    workspace = Workspace()
    workspace.add(c3)
    assert "make one in Predict" in workspace.why_not("predicted")
    assert "no subtype" not in (workspace.why_not("measured") or "")
    with pytest.raises(SpotScopeError, match="Predict"):
        workspace.show("error")


def test_a_slide_alone_offers_the_prediction_and_its_genes(slide_alone):
    workspace = Workspace()
    workspace.add(slide_alone)
    assert workspace.view == "predicted"
    assert workspace.genes == sorted(slide_alone.runs[0].genes)
    assert "nothing was measured" in workspace.why_not("error")


def test_the_gene_stays_when_another_section_has_it_too(workspace, c3):
    workspace.show_gene("ERBB2", "predicted")
    workspace.add(c3)
    assert (workspace.gene, workspace.view, workspace.run) == ("ERBB2", "measured", None)


def test_measured_and_predicted_share_the_range_of_the_measured_values(workspace, c2):
    workspace.show_gene("ERBB2", "measured")
    measured = workspace.limits()
    workspace.show("predicted")
    assert workspace.limits() == measured
    assert measured == pytest.approx(tuple(np.percentile(c2.measured("ERBB2"), (1, 99))))


def test_the_range_of_the_error_is_symmetric_about_zero(workspace, c2):
    workspace.show_gene("ERBB2", "error")
    low, high = workspace.limits()
    assert low == -high
    error = c2.predicted(workspace.run, "ERBB2") - c2.measured("ERBB2")
    assert high == pytest.approx(np.percentile(np.abs(error), 99))


def test_percentiles_are_remembered_for_each_gene(workspace):
    workspace.show_gene("ERBB2")
    workspace.set_percentiles(5, 90)
    workspace.show_gene("MS4A1")
    assert workspace.percentiles == (1.0, 99.0)
    workspace.show_gene("ERBB2")
    assert workspace.percentiles == (5, 90)
    with pytest.raises(SpotScopeError, match="lower one first"):
        workspace.set_percentiles(90, 5)


def test_closing_the_active_section_shows_another(workspace, c2, c3):
    workspace.add(c3)
    workspace.remove(c3)
    assert workspace.section is c2
    workspace.remove(c2)
    assert workspace.section is None
    assert workspace.genes == []


def test_an_unknown_run_or_view_is_refused(workspace):
    with pytest.raises(SpotScopeError, match="it has ridge-stain-1"):
        workspace.show_run("nothing")
    with pytest.raises(SpotScopeError, match="choose one of"):
        workspace.show("upside-down")


def test_measured_values_are_log_counts_per_ten_thousand_of_all_genes(c2):
    counts = np.asarray(c2.section.counts.todense())
    column = list(c2.section.genes).index("ERBB2")
    wanted = np.log1p(counts[:, column] / counts.sum(axis=1) * 1e4)
    np.testing.assert_allclose(c2.measured("ERBB2"), wanted, rtol=1e-5)


def test_the_correlation_is_that_of_numpy(c2):
    run = c2.runs[0]
    wanted = np.corrcoef(c2.measured("ERBB2"), c2.predicted(run, "ERBB2"))[0, 1]
    assert c2.correlation(run, "ERBB2") == pytest.approx(wanted, abs=1e-6)


def test_a_view_that_a_section_lacks_comes_back_with_one_that_has_it(workspace, c2, c3):
    workspace.show_gene("ERBB2", "error")
    workspace.add(c3)
    assert workspace.view == "measured"
    workspace.activate(c2)
    assert workspace.view == "error"
    workspace.activate(c3)
    workspace.show("measured")
    workspace.activate(c2)
    assert workspace.view == "measured"
