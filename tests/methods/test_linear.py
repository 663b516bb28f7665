from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from spotscope.methods.linear import Projection, RidgePath


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(40, 7)) * np.arange(1, 8) + 3
    outputs = inputs @ rng.normal(size=(7, 5)) + rng.normal(size=(40, 5)) - 2
    return inputs, outputs


def predict(path, inputs, alpha):
    weights, intercept = path.coefficients(alpha)
    return inputs @ weights + intercept


def test_no_penalty_is_least_squares(data):
    inputs, outputs = data
    design = np.column_stack([inputs, np.ones(len(inputs))])
    wanted = design @ np.linalg.lstsq(design, outputs, rcond=None)[0]
    path = RidgePath.fit(inputs, outputs)
    np.testing.assert_allclose(predict(path, inputs, 1e-12), wanted, rtol=1e-9)


def test_an_endless_penalty_is_the_mean(data):
    inputs, outputs = data
    path = RidgePath.fit(inputs, outputs)
    wanted = np.tile(outputs.mean(0), (len(inputs), 1))
    np.testing.assert_allclose(predict(path, inputs, 1e15), wanted, rtol=1e-9)


@pytest.mark.parametrize("alpha", [1e-3, 0.1, 1.0, 30.0, 1e4])
def test_every_penalty_of_one_decomposition_is_scikit_learns_ridge(data, alpha):
    inputs, outputs = data
    wanted = Ridge(alpha=alpha).fit(inputs, outputs)
    weights, intercept = RidgePath.fit(inputs, outputs).coefficients(alpha)
    np.testing.assert_allclose(weights, wanted.coef_.T, rtol=1e-8)
    np.testing.assert_allclose(intercept, wanted.intercept_, rtol=1e-8)


def test_each_gene_may_have_its_own_penalty(data):
    inputs, outputs = data
    path = RidgePath.fit(inputs, outputs)
    alphas = np.array([0.01, 1.0, 10.0, 100.0, 1e4])
    together, _ = path.coefficients(alphas)
    for gene, alpha in enumerate(alphas):
        np.testing.assert_allclose(together[:, gene], path.coefficients(alpha)[0][:, gene])


def test_more_features_than_spots_are_no_trouble():
    rng = np.random.default_rng(1)
    inputs, outputs = rng.normal(size=(12, 30)), rng.normal(size=(12, 2))
    wanted = Ridge(alpha=2.0).fit(inputs, outputs).predict(inputs)
    path = RidgePath.fit(inputs, outputs)
    np.testing.assert_allclose(predict(path, inputs, 2.0), wanted, rtol=1e-8)


def test_leverage_is_the_diagonal_of_the_hat_matrix(data):
    inputs, outputs = data
    centred = inputs - inputs.mean(0)
    hat = centred @ np.linalg.inv(centred.T @ centred + 5.0 * np.eye(7)) @ centred.T
    path = RidgePath.fit(inputs, outputs)
    np.testing.assert_allclose(path.leverage(inputs, 5.0), np.diag(hat), rtol=1e-9)


@pytest.mark.parametrize("shape", [(60, 20), (20, 60)])
def test_the_projection_is_standardising_and_principal_components(shape):
    features = np.random.default_rng(2).normal(size=shape) * np.arange(1, shape[1] + 1)
    standard = (features - features.mean(0)) / features.std(0)
    wanted = PCA(5, svd_solver="full").fit_transform(standard)
    found = Projection.fit(features, 5).apply(features)
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), rtol=1e-6, atol=1e-8)


def test_without_standardising_it_is_plain_principal_components():
    features = np.random.default_rng(2).normal(size=(60, 20)) * np.arange(1, 21) + 7
    wanted = PCA(5, svd_solver="full").fit_transform(features)
    found = Projection.fit(features, 5, standardise=False).apply(features)
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), rtol=1e-6, atol=1e-8)


def test_a_large_projection_is_the_same_up_to_noise():
    rng = np.random.default_rng(3)
    hidden = rng.normal(size=(2101, 6)) * [40, 30, 20, 15, 12, 10]
    features = hidden @ rng.normal(size=(6, 2050)) + rng.normal(size=(2101, 2050))
    projection = Projection.fit(features, 6, seed=1)
    standard = (features - features.mean(0)) / features.std(0)
    held = np.square(projection.apply(features)).sum() / np.square(standard).sum()
    best = PCA(6, svd_solver="randomized", iterated_power=12, random_state=0).fit(standard)
    best = best.explained_variance_ratio_.sum()
    assert held == pytest.approx(best, abs=1e-3)


def test_features_that_do_not_vary_are_left_out_and_stay_finite():
    features = np.random.default_rng(4).normal(size=(30, 4))
    features[:, 2] = 1e6
    projection = Projection.fit(features, 4)
    moved = features + np.array([0, 0, 50.0, 0])
    assert np.isfinite(projection.apply(moved)).all()
    np.testing.assert_allclose(projection.apply(moved), projection.apply(features))


def test_no_more_components_are_kept_than_there_are():
    features = np.random.default_rng(5).normal(size=(6, 40))
    assert Projection.fit(features, 256).components.shape == (5, 40)
