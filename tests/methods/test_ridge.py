from __future__ import annotations

import threading

import numpy as np
import pytest

from spotscope.data.cohort import Cohort
from spotscope.data.places import Places
from spotscope.data.section import Section
from spotscope.errors import Cancelled, SpotScopeError
from spotscope.methods.imaging import inner_groups, mean_pearson
from spotscope.methods.ridge import STRENGTHS, RidgeMethod
from spotscope.progress import Progress

SETTINGS = {"panel": {"n_genes": 8}, "context_um": (), "components": 6}


@pytest.fixture(scope="module")
def sections(make_section):
    names = [("A1", "A"), ("A2", "A"), ("B1", "B"), ("C1", "C")]
    return [make_section(name, patient, seed) for seed, (name, patient) in enumerate(names)]


@pytest.fixture(scope="module")
def model(sections, colour_encoder):
    return RidgeMethod(SETTINGS, colour_encoder).fit(Cohort(tuple(sections[:3])))


def correlation(prediction, section):
    measured = section.expression(prediction.genes)
    return mean_pearson(prediction.expression, measured, np.zeros(len(measured), int))


def test_a_new_patient_is_predicted(model, sections):
    prediction = model.predict(Places.on_spots(sections[3]))
    assert prediction.expression.shape == (30, 8)
    assert correlation(prediction, sections[3]) > 0.6


def test_the_counts_of_the_predicted_section_are_not_looked_at(model, sections):
    bare = Section("C1", "C", sections[3].slide)
    places = Places(bare, np.asarray(sections[3].centres_px))
    seen = model.predict(Places.on_spots(sections[3]))
    np.testing.assert_array_equal(model.predict(places).expression, seen.expression)


def test_the_transform_is_fitted_on_the_training_sections_alone(
    sections, colour_encoder, make_section, model
):
    # Whatever the other sections hold, the model is the same.
    noise = make_section("N1", "N", 9, noise=True)
    before = {name: array.copy() for name, array in model.arrays().items()}
    model.predict(Places.on_spots(noise))
    again = RidgeMethod(SETTINGS, colour_encoder).fit(Cohort(tuple(sections[:3])))
    for name, array in again.arrays().items():
        np.testing.assert_array_equal(array, before[name])
        np.testing.assert_array_equal(array, model.arrays()[name])


def test_genes_that_follow_no_tissue_get_the_strongest_penalty(colour_encoder, make_section):
    noise = [make_section(f"N{k}", f"N{k}", k, noise=True) for k in range(4)]
    blind = RidgeMethod(SETTINGS, colour_encoder).fit(Cohort(tuple(noise)))
    assert np.median(blind.arrays()["strength"]) >= STRENGTHS[-5]
    assert abs(blind.scores["pearson"]) < 0.2


def test_genes_that_follow_the_tissue_get_a_weaker_penalty(model):
    assert np.median(model.arrays()["strength"]) < STRENGTHS[-5]
    assert model.scores["pearson"] > 0.6
    assert model.provenance.scores == model.scores


def test_uncertainty_covers_the_errors_and_grows_away_from_training(model, sections):
    section = sections[3]
    prediction = model.predict(Places.on_spots(section))
    missed = np.abs(prediction.expression - section.expression(prediction.genes))
    within = (missed <= 2 * prediction.uncertainty).mean()
    assert 0.85 < within <= 1.0
    corner = Places(section, np.array([[0.0, 0.0]]))
    assert (model.predict(corner).uncertainty > prediction.uncertainty.mean(axis=0)).all()


def test_held_out_groups_are_patients_then_sections_then_bands(sections):
    three = Cohort(tuple(sections[:3]))
    np.testing.assert_array_equal(inner_groups(three), np.repeat([0, 1], [60, 30]))
    two = Cohort(tuple(sections[:2]))
    np.testing.assert_array_equal(inner_groups(two), np.repeat([0, 1], 30))
    one = inner_groups(Cohort((sections[0],)))
    cols = np.asarray(sections[0].centres_px)[:, 1]
    assert np.unique(one).tolist() == [0, 1, 2, 3]
    assert all(cols[one == k].max() <= cols[one == k + 1].min() for k in range(3))


def test_validation_sections_choose_the_penalty_and_are_not_trained_on(sections, colour_encoder):
    train, held = Cohort(tuple(sections[:2])), Cohort((sections[3],))
    model = RidgeMethod(SETTINGS, colour_encoder).fit(train, held)
    assert model.provenance.training_sections == ["A1", "A2"]
    prediction = model.predict(Places.on_spots(sections[3]))
    assert model.scores["pearson"] == pytest.approx(correlation(prediction, sections[3]), abs=0.05)


def test_a_section_in_training_and_validation_is_refused(sections, colour_encoder):
    cohort = Cohort(tuple(sections[:2]))
    with pytest.raises(SpotScopeError, match="'A2' is both for training and for validation"):
        RidgeMethod(SETTINGS, colour_encoder).fit(cohort, Cohort((sections[1],)))


def test_surroundings_are_features_too(sections, colour_encoder):
    settings = {**SETTINGS, "context_um": (80.0, 120.0)}
    model = RidgeMethod(settings, colour_encoder).fit(Cohort(tuple(sections[:2])))
    assert model.arrays()["mean"].shape == (18,)


def test_cancelling_stops_the_training(sections, colour_encoder):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        RidgeMethod(SETTINGS, colour_encoder).fit(
            Cohort(tuple(sections[:2])), progress=Progress(cancel=cancel)
        )


@pytest.mark.parametrize(
    ("setting", "value"), [("components", 0), ("context_um", (-3.0,)), ("alpha", 1.0)]
)
def test_a_setting_out_of_range_or_unknown_is_refused_by_name(setting, value):
    with pytest.raises(SpotScopeError, match=f"The setting '{setting}.*' of 'ridge' is not right"):
        RidgeMethod({setting: value})
