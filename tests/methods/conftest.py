"""A small simulated cohort that the methods' tests share."""

from __future__ import annotations

import pytest

from spotscope.data.cohort import Cohort
from spotscope.data.simulate import StudySettings, simulate_study


@pytest.fixture(scope="session")
def three_patients() -> Cohort:
    """Three patients with one section of about 150 spots each."""
    settings = StudySettings(shape_px=(1200, 1500), mpp_um=1.0)
    study = simulate_study(seed=3, n_patients=3, sections_per_patient=1, settings=settings)
    return Cohort(tuple(s.section() for s in study))


@pytest.fixture(scope="session")
def split(three_patients: Cohort) -> tuple[Cohort, Cohort]:
    """Two patients to train on and one to test on."""
    return Cohort(three_patients.sections[:2]), Cohort(three_patients.sections[2:])
