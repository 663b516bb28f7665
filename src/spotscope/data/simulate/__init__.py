"""The embedded sample study: H&E-like sections with spots, genes and their noiseless truth."""

from spotscope.data.simulate.settings import SUBTYPES, StudySettings
from spotscope.data.simulate.study import (
    SimulatedSection,
    best_reachable,
    best_reachable_per_gene,
    simulate_study,
    truth_path,
    write_study,
)
from spotscope.data.simulate.truth import Truth

__all__ = [
    "SUBTYPES",
    "SimulatedSection",
    "StudySettings",
    "Truth",
    "best_reachable",
    "best_reachable_per_gene",
    "simulate_study",
    "truth_path",
    "write_study",
]
