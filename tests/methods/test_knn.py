from __future__ import annotations

import numpy as np
import pytest

from spotscope.data.cohort import Cohort
from spotscope.data.places import Places
from spotscope.encoders.features import pooled_features
from spotscope.methods.knn import KnnMethod
from spotscope.methods.mean import MeanMethod

BASE = {"panel": {"n_genes": 8}, "context_um": (), "components": 6}


@pytest.fixture(scope="module")
def sections(make_section):
    return [make_section(name, name[0], seed) for seed, name in enumerate(("A1", "B1", "C1"))]


def fitted(sections, encoder, **settings):
    return KnnMethod({**BASE, **settings}, encoder).fit(Cohort(tuple(sections)))


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_the_nearest_of_a_training_spot_is_that_spot(
    sections, colour_encoder, similarity, weights
):
    model = fitted(
        sections[:2], colour_encoder, neighbours=1, similarity=similarity, weights=weights
    )
    found = model.predict(Places.on_spots(sections[0]))
    np.testing.assert_allclose(found.expression, sections[0].expression(model.genes), rtol=1e-6)


def test_all_neighbours_alike_are_the_training_mean(sections, colour_encoder):
    model = fitted(sections[:2], colour_encoder, neighbours=5000, weights="uniform")
    found = model.predict(Places.on_spots(sections[2]))
    mean = MeanMethod({"panel": BASE["panel"]}).fit(Cohort(tuple(sections[:2])))
    wanted = mean.predict(Places.on_spots(sections[2]))
    np.testing.assert_allclose(found.expression, wanted.expression, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.uncertainty, wanted.uncertainty, rtol=1e-4, atol=1e-5)


def test_nearer_spots_weigh_more_and_weights_sum_to_one(sections, colour_encoder):
    model = fitted(sections[:2], colour_encoder, neighbours=10, similarity="euclidean")
    queries = model._keys[:5] + 0.1
    nearest, shares = model._nearest(queries)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    distance = np.take_along_axis(model._distances(queries), nearest, axis=1)
    for row in range(5):
        order = np.argsort(distance[row])
        assert (np.diff(shares[row][order]) <= 1e-6).all()


def test_the_neighbours_are_the_nearest(sections, colour_encoder):
    model = fitted(sections[:2], colour_encoder, neighbours=7, similarity="euclidean")
    queries = np.random.default_rng(0).normal(size=(20, model._keys.shape[1])).astype(np.float32)
    nearest, _ = model._nearest(queries)
    exact = np.linalg.norm(queries[:, None] - model._keys[None], axis=2)
    wanted = np.argsort(exact, axis=1)[:, :7]
    assert [set(row) for row in nearest] == [set(row) for row in wanted]


def test_uncertainty_is_the_spread_of_the_neighbours(sections, colour_encoder):
    model = fitted(sections[:2], colour_encoder, neighbours=4, weights="uniform")
    places = Places(sections[2], np.asarray(sections[2].centres_px)[:1])
    found = model.predict(places)
    seen = pooled_features(places, model.encoder, (), centred=True)
    queries = model._projection.apply(seen).astype(np.float32)
    nearest, _ = model._nearest(queries)
    known = model._expression[nearest[0]]
    np.testing.assert_allclose(found.uncertainty[0], known.std(axis=0), rtol=1e-4, atol=1e-6)


def test_a_single_neighbour_has_the_spread_of_all(sections, colour_encoder):
    model = fitted(sections[:2], colour_encoder, neighbours=1)
    found = model.predict(Places.on_spots(sections[2]))
    wanted = np.tile(model._expression.std(axis=0), (30, 1))
    np.testing.assert_allclose(found.uncertainty, wanted, rtol=1e-5)
