from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from spotscope.data.cohort import Cohort, filter_spots, folds_by_patient, folds_by_section
from spotscope.data.normalise import log_normalise, log_normalise_sparse
from spotscope.data.panels import PanelSettings, choose_panel, rank_genes, unknown_markers
from spotscope.data.section import Section
from spotscope.data.spots import SpotTable, make_spots
from spotscope.errors import SpotScopeError


def section(name="A1", patient="A", genes=("G0", "G1", "G2", "G3"), n=30, seed=0, labels=None):
    counts = np.random.default_rng(seed).poisson(np.linspace(1, 8, len(genes)), (n, len(genes)))
    counts[:, 0] += 1
    centres = np.column_stack([np.arange(n), np.arange(n)]).astype(float)
    table = SpotTable(
        lambda: csr_matrix(counts), list(genes), [f"{name}-{i}" for i in range(n)], centres, labels
    )
    spots, _ = make_spots(table, (1000, 1000), name)
    slide = SimpleNamespace(name=name, mpp_um=0.5)
    return Section(name, patient, slide, spots, 100.0)


def cohort():
    return Cohort((section("A1", "A", seed=1), section("A2", "A", seed=2), section("B1", "B")))


def test_normalisation_divides_by_the_library_over_all_genes_before_genes_are_chosen():
    counts = csr_matrix(np.array([[1, 3, 6], [0, 0, 0], [2, 0, 2]]))
    expected = np.log1p(np.array([[1e3, 3e3, 6e3], [0, 0, 0], [5e3, 0, 5e3]]))
    np.testing.assert_allclose(log_normalise(counts), expected, rtol=1e-6)
    np.testing.assert_allclose(log_normalise(counts, [2, 0]), expected[:, [2, 0]], rtol=1e-6)
    np.testing.assert_allclose(log_normalise_sparse(counts).toarray(), expected, rtol=1e-6)
    assert log_normalise(counts).dtype == np.float32


def test_a_cohort_stacks_sections_in_order_and_genes_as_asked():
    sections = cohort()
    genes = ["G2", "G0"]
    stacked = sections.expression(genes)
    assert stacked.shape == (sections.n_spots, 2)
    second = sections.sections[1]
    np.testing.assert_array_equal(
        stacked[sections.section_of == 1], log_normalise(second.counts)[:, [2, 0]]
    )
    assert sections.patients == ["A", "B"]
    assert list(sections.patient_of[[0, 59, 60]]) == ["A", "A", "B"]


def test_genes_of_a_cohort_are_those_of_every_section():
    both = Cohort((section("A1"), section("B1", "B", genes=("G3", "X", "G1"))))
    assert both.genes == ["G1", "G3"]
    with pytest.raises(SpotScopeError, match=r"'B1' does not measure 1 of the 2 genes.*\(G0\)"):
        both.expression(["G0", "G1"])


def test_a_cohort_refuses_none_twins_and_slides_without_spots():
    with pytest.raises(SpotScopeError, match="No section"):
        Cohort(())
    with pytest.raises(SpotScopeError, match=r"same name \(A1\)"):
        Cohort((section("A1"), section("A1", "B")))
    bare = Section("C9", "C", SimpleNamespace(name="C9", mpp_um=0.5))
    with pytest.raises(SpotScopeError, match="No spots are known for C9"):
        Cohort((section(), bare))


def test_patients_are_never_on_both_sides_of_a_patient_fold():
    folds = folds_by_patient(cohort())
    assert [fold.name for fold in folds] == ["A", "B"]
    assert folds[0].test.names == ["A1", "A2"]
    assert all(not set(fold.train.patients) & set(fold.test.patients) for fold in folds)
    assert all(fold.warning == "" for fold in folds)


def test_one_patient_cannot_be_split_by_patient_and_is_told_how_else():
    with pytest.raises(SpotScopeError, match="one patient.*--split section"):
        folds_by_patient(Cohort((section("A1"), section("A2"))))


def test_a_section_fold_warns_when_its_patient_is_trained_on():
    folds = folds_by_section(cohort())
    assert [fold.name for fold in folds] == ["A1", "A2", "B1"]
    assert "patient A; a new patient will score lower" in folds[0].warning
    assert folds[2].warning == ""
    with pytest.raises(SpotScopeError, match="'A1' is the only section"):
        folds_by_section(Cohort((section(),)))


def test_spots_are_filtered_by_counts_genes_and_label():
    whole = section(labels=["tumour"] * 10 + [None] * 20)
    sizes = np.asarray(whole.counts.sum(axis=1)).ravel()
    kept = filter_spots(whole, min_counts=int(np.median(sizes)))
    assert list(kept.barcodes) == list(whole.barcodes[sizes >= int(np.median(sizes))])
    assert filter_spots(whole, labelled=True).n_spots == 10
    assert filter_spots(whole, min_counts=1) is whole
    with pytest.raises(SpotScopeError, match="No spot of section 'A1' passes"):
        filter_spots(whole, min_genes=5)


def test_the_panel_ranks_pooled_variance_and_mean_of_normalised_expression():
    train = cohort()
    dense = train.expression(train.genes)
    by_variance = [train.genes[i] for i in np.argsort(-dense.var(axis=0))]
    by_mean = [train.genes[i] for i in np.argsort(-dense.mean(axis=0))]
    assert choose_panel(train, PanelSettings(n_genes=3)) == by_variance[:3]
    assert choose_panel(train, PanelSettings(kind="mean", n_genes=2)) == by_mean[:2]


def test_the_panel_does_not_see_the_test_sections():
    (fold,) = [fold for fold in folds_by_patient(cohort()) if fold.name == "B"]
    panel = choose_panel(fold.train, PanelSettings(n_genes=3))
    held = fold.test.sections[0].spots
    held.X = csr_matrix(held.X.toarray()[:, ::-1] * 50)
    assert choose_panel(fold.train, PanelSettings(n_genes=3)) == panel


def test_genes_that_never_vary_are_not_in_a_panel():
    dull = section()
    dull.spots.X = csr_matrix(np.tile([1.0, 2.0, 0.0, 5.0], (dull.n_spots, 1)).astype(np.float32))
    assert rank_genes(Cohort((dull,)), "mean") == ["G3", "G1", "G0"]
    with pytest.raises(SpotScopeError, match="panel is empty"):
        choose_panel(Cohort((dull,)), PanelSettings())


def test_sections_without_a_shared_gene_give_a_sentence():
    strangers = Cohort((section("A1"), section("B1", "B", genes=("X", "Y"))))
    with pytest.raises(SpotScopeError, match="share no gene"):
        choose_panel(strangers, PanelSettings())


def test_markers_join_the_most_variable_genes_once_each():
    train = cohort()
    first = rank_genes(train, "variance")[0]
    last = rank_genes(train, "variance")[-1]
    settings = PanelSettings(n_genes=1, markers=[last, first, "ERBB2"])
    assert choose_panel(train, settings) == [first, last]
    assert unknown_markers(train, settings) == ["ERBB2"]


def test_marker_lists_report_unknown_names_and_refuse_when_all_are(tmp_path):
    train = cohort()
    settings = PanelSettings(kind="markers", markers=["G3", "ERBB2", " G1", "G3"])
    assert choose_panel(train, settings) == ["G3", "G1"]
    assert unknown_markers(train, settings) == ["ERBB2"]
    with pytest.raises(SpotScopeError, match=r"none of the 1 genes asked for \(ERBB2\)"):
        choose_panel(train, PanelSettings(kind="markers", markers=["ERBB2"]))
    with pytest.raises(SpotScopeError, match="panel is empty"):
        choose_panel(train, PanelSettings(kind="markers"))
    listed = tmp_path / "genes.txt"
    listed.write_text("# a comment\nG2\n\nG0,0.7\n", encoding="utf-8-sig")
    assert choose_panel(train, PanelSettings(kind="file", file=listed)) == ["G2", "G0"]
    with pytest.raises(SpotScopeError, match="cannot be read"):
        choose_panel(train, PanelSettings(kind="file", file=tmp_path / "none.txt"))
