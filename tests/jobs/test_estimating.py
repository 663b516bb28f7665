from __future__ import annotations

from types import SimpleNamespace

import pytest
from torch import nn

from spotscope.jobs.estimating import estimate_training
from spotscope.methods.base import get_method


@pytest.fixture
def estimate(make_section, colour_encoder, monkeypatch):
    """A function that estimates BLEEP with a small network in the place of its encoder's."""
    trunk = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    network = SimpleNamespace(module=trunk, patch_px=12, mean=(0.5,) * 3, std=(0.5,) * 3)
    monkeypatch.setattr("spotscope.encoders.networks.load_network", lambda spec: network)
    monkeypatch.setattr("spotscope.methods.base.get_encoder", lambda spec: colour_encoder)
    sections = [make_section("A1", "A")]

    def estimate(name="bleep", **settings):
        method = get_method(name)({"panel": {"n_genes": 6}, **settings}, "colour")
        return estimate_training(method, sections)

    return estimate


def test_the_memory_of_a_trained_network_grows_with_the_batch(estimate):
    few, many = estimate(batch_size=10), estimate(batch_size=30)
    # 12 x 12 patches through 8 channels of float32, which the way back needs.
    assert many.memory_bytes - few.memory_bytes >= 20 * 12 * 12 * 8 * 4
    assert estimate(batch_size=500).memory_bytes == many.memory_bytes  # there are 30 spots


def test_a_frozen_network_takes_less_than_one_that_is_trained(estimate):
    trained, frozen = estimate(batch_size=30), estimate(batch_size=30, trainable="none")
    assert frozen.memory_bytes < trained.memory_bytes


def test_time_grows_with_the_epochs(estimate):
    short, long = estimate(trainable="none", epochs=1), estimate(trainable="none", epochs=1000)
    assert long.seconds > short.seconds + 20
    assert estimate(epochs=2000).seconds > 20 * estimate(epochs=1).seconds


@pytest.mark.parametrize("trainable", ["none", "all"])
def test_the_latent_spaces_passes_are_counted(estimate, trainable):
    def seconds(**settings):
        return estimate("tpirbae", trainable=trainable, epochs=1, **settings).seconds

    genes, few = seconds(latent="genes"), seconds(latent="scvi", latent_epochs=10)
    many, labels = seconds(latent="scvi", latent_epochs=20_000), seconds(latent_epochs=20_000)
    assert genes + 3 < few
    # 30 spots, 6 genes: 0.1 ms a spot and epoch and little more.
    assert many - few > 30
    assert labels < 1.5 * many
