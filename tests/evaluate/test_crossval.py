from __future__ import annotations

import threading

import numpy as np
import pytest

from spotscope.data.cohort import Cohort
from spotscope.data.panels import PanelSettings, choose_panel, rank_genes
from spotscope.errors import Cancelled, SpotScopeError
from spotscope.evaluate.crossval import BASELINES, evaluate_methods
from spotscope.methods.base import Method
from spotscope.progress import Progress

PANEL = PanelSettings(n_genes=8)
RIDGE = {"ridge": {"context_um": (), "components": 6}, "knn": {}}


@pytest.fixture(scope="module")
def sections(make_section):
    names = [("A1", "A"), ("A2", "A"), ("B1", "B"), ("C1", "C")]
    return [make_section(name, patient, seed) for seed, (name, patient) in enumerate(names)]


@pytest.fixture(scope="module")
def evaluation(sections, colour_encoder):
    return evaluate_methods(
        ["ridge"],
        Cohort(tuple(sections)),
        encoder=colour_encoder,
        settings=RIDGE,
        panel=PANEL,
        markers=["G0", "G10"],
    )


def test_a_method_that_sees_the_tissue_beats_the_training_mean(evaluation):
    assert evaluation.value("ridge") > 0.3
    assert evaluation.value("mean") == 0
    assert evaluation.value("mean", "n_undefined") == 8
    assert evaluation.value("ridge", "r2") > evaluation.value("mean", "r2")
    assert evaluation.value("ridge", "mse") < evaluation.value("mean", "mse")


def test_the_null_baselines_are_always_scored(evaluation):
    assert {record.method for record in evaluation.records} == {"ridge", *BASELINES}


def test_every_section_and_their_mean_has_every_figure(evaluation):
    keys = {(r.method, r.section, r.patient, r.metric, r.panel) for r in evaluation.records}
    assert len(keys) == len(evaluation.records)
    metrics = {"pearson", "spearman", "mse", "mae", "r2", "ssim", "n_undefined"}
    panels = {
        "all", "top50_mean", "top50_variance", "top1000_variance",
        "top50_mean_test", "top50_variance_test", "markers",
    }  # fmt: skip
    where = {("A1", "A"), ("A2", "A"), ("B1", "B"), ("C1", "C"), ("all", "all")}
    assert keys == {
        (method, section, patient, metric, panel)
        for method in ("ridge", *BASELINES)
        for section, patient in where
        for metric in metrics
        for panel in panels
    }


def test_the_encoder_of_each_method_is_told(evaluation):
    encoders = {record.method: record.encoder for record in evaluation.records}
    assert encoders == {"ridge": "colour", "knn": "colour", "mean": "none"}


def test_the_mean_is_that_of_the_sections(evaluation):
    each = [evaluation.value("ridge", section=name) for name in ("A1", "A2", "B1", "C1")]
    assert evaluation.value("ridge") == pytest.approx(np.mean(each))


def spy_on_training(monkeypatch):
    """Keep each model that is trained, by method and training sections."""
    trained = {}
    fit = Method.fit

    def watched(self, cohort, validation=None, progress=None):
        fit(self, cohort, validation, progress)
        trained[self.name, tuple(cohort.names)] = self
        assert validation is None
        return self

    monkeypatch.setattr(Method, "fit", watched)
    return trained


def test_a_patient_is_left_out_with_all_its_sections(monkeypatch, sections, colour_encoder):
    trained = spy_on_training(monkeypatch)
    evaluate_methods(
        ["mean"], Cohort(tuple(sections)), "patient", colour_encoder, RIDGE, panel=PANEL
    )
    seen = {names for method, names in trained if method == "mean"}
    assert seen == {("B1", "C1"), ("A1", "A2", "C1"), ("A1", "A2", "B1")}


def test_all_methods_of_a_fold_learn_the_panel_of_its_training_sections(
    monkeypatch, sections, colour_encoder
):
    trained = spy_on_training(monkeypatch)
    evaluate_methods(
        ["ridge"], Cohort(tuple(sections)), "patient", colour_encoder, RIDGE, panel=PANEL
    )
    for (_, names), model in trained.items():
        train = Cohort(tuple(s for s in sections if s.name in names))
        assert model.genes == choose_panel(train, PANEL)


def test_noise_in_the_test_sections_changes_no_model_and_no_panel(
    monkeypatch, sections, make_section, colour_encoder
):
    arrays = []
    for held_out in (sections[3], make_section("C1", "C", 99, noise=True)):
        trained = spy_on_training(monkeypatch)
        cohort = Cohort((*sections[:3], held_out))
        found = evaluate_methods(
            ["ridge"], cohort, "patient", colour_encoder, RIDGE, panel=PANEL, markers=["G10"]
        )
        model = trained["ridge", ("A1", "A2", "B1")]
        arrays.append((model.genes, model.arrays(), found.value("ridge", section="C1")))
        monkeypatch.undo()
    (genes, first, score), (other_genes, second, noise_score) = arrays
    assert genes == other_genes
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert score > noise_score + 0.2  # the noise did reach the score


def test_panels_are_ranked_on_the_training_sections_and_test_ranked_ones_say_so(
    sections, make_section, colour_encoder, monkeypatch
):
    monkeypatch.setattr(
        "spotscope.evaluate.crossval.TRAINED_PANELS", {"top50_variance": ("variance", 2)}
    )
    monkeypatch.setattr(
        "spotscope.evaluate.crossval.TESTED_PANELS", {"top50_variance_test": ("variance", 2)}
    )
    test = make_section("T1", "T", 5, noise=True)
    train = Cohort(tuple(sections))
    found = evaluate_methods(
        ["ridge"], train, encoder=colour_encoder, settings=RIDGE, panel=PANEL, test=Cohort((test,))
    )
    (score,) = (score for score in found.genes if score.method == "ridge")
    for panel, cohort in (("top50_variance", train), ("top50_variance_test", Cohort((test,)))):
        top = rank_genes(cohort, "variance", score.genes)[:2]
        expected = np.mean([score.figures["mse"][score.genes.index(gene)] for gene in top])
        assert found.value("ridge", "mse", panel, "T1") == pytest.approx(expected)


def test_named_test_sections_are_scored_by_a_model_of_all_others(
    monkeypatch, sections, colour_encoder
):
    trained = spy_on_training(monkeypatch)
    found = evaluate_methods(
        ["ridge"],
        Cohort(tuple(sections[:3])),
        encoder=colour_encoder,
        settings=RIDGE,
        panel=PANEL,
        test=Cohort((sections[3],)),
    )
    assert {names for _, names in trained} == {("A1", "A2", "B1")}
    assert {record.section for record in found.records} == {"C1", "all"}
    assert {record.split for record in found.records} == {"test"}
    assert found.warnings == []


def test_a_known_patient_among_the_test_sections_is_warned_of(sections, colour_encoder):
    found = evaluate_methods(
        ["mean"], Cohort((sections[0],)), encoder=colour_encoder, panel=PANEL,
        test=Cohort((sections[1],)),
    )  # fmt: skip
    assert any("share the patient A" in warning for warning in found.warnings)
    with pytest.raises(SpotScopeError, match="both to train on and to test on"):
        evaluate_methods(
            ["mean"], Cohort((sections[0],)), encoder=colour_encoder, test=Cohort((sections[0],))
        )


def test_leaving_sections_out_warns_where_the_patient_is_known(sections, colour_encoder):
    found = evaluate_methods(
        ["mean"], Cohort(tuple(sections)), "section", colour_encoder, panel=PANEL
    )
    assert {w.split("'")[1] for w in found.warnings if "new patient" in w} == {"A1", "A2"}
    assert {record.split for record in found.records} == {"section"}


def test_genes_that_a_test_section_lacks_are_told(sections, make_section, colour_encoder):
    short = make_section("D1", "D", 7, n_genes=7)
    found = evaluate_methods(
        ["mean"], Cohort(tuple(sections)), encoder=colour_encoder, panel=PANEL,
        test=Cohort((short,)),
    )  # fmt: skip
    assert any("'D1' does not measure" in warning for warning in found.warnings)
    mouse = make_section("M1", "M", 7, prefix="Mm")
    with pytest.raises(SpotScopeError, match="measures none of the 8 genes"):
        evaluate_methods(
            ["mean"], Cohort(tuple(sections)), encoder=colour_encoder, panel=PANEL,
            test=Cohort((mouse,)),
        )  # fmt: skip


def test_what_is_wrong_is_said_before_any_training(monkeypatch, sections, colour_encoder):
    trained = spy_on_training(monkeypatch)
    cohort = Cohort(tuple(sections))
    with pytest.raises(SpotScopeError, match="no method 'rigde'"):
        evaluate_methods(["rigde"], cohort, encoder=colour_encoder)
    with pytest.raises(SpotScopeError, match="components"):
        evaluate_methods(
            ["ridge"], cohort, encoder=colour_encoder, settings={"ridge": {"components": "many"}}
        )
    with pytest.raises(SpotScopeError, match="markers NOPE"):
        evaluate_methods(["mean"], cohort, encoder=colour_encoder, markers=["NOPE"])
    with pytest.raises(SpotScopeError, match="one patient"):
        evaluate_methods(["mean"], Cohort(tuple(sections[:2])), encoder=colour_encoder)
    assert not trained


def test_cancel_stops_it(sections, colour_encoder):
    cancel = threading.Event()
    steps = []

    def listen(step):
        steps.append(step.fraction)
        if step.fraction > 0.5:
            cancel.set()

    with pytest.raises(Cancelled):
        evaluate_methods(
            ["ridge"], Cohort(tuple(sections)), "patient", colour_encoder, RIDGE,
            Progress(listen, cancel), panel=PANEL,
        )  # fmt: skip
    assert steps == sorted(steps)
