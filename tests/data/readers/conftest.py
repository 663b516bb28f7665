from __future__ import annotations

import pytest

from spotscope.data.simulate import StudySettings, simulate_study


@pytest.fixture(scope="session")
def simulated():
    """One small simulated section, whose spots, genes, positions and labels are known."""
    settings = StudySettings(shape_px=(900, 1100))
    return simulate_study(3, n_patients=1, sections_per_patient=1, settings=settings)[0]
