"""A small study that the tests of this folder share."""

from __future__ import annotations

import pytest

from spotscope.data.simulate import SimulatedSection, StudySettings, simulate_study

SMALL = StudySettings(shape_px=(1100, 1300))


@pytest.fixture(scope="session")
def study() -> list[SimulatedSection]:
    """Two patients with two sections each."""
    return simulate_study(seed=3, n_patients=2, settings=SMALL)
