"""Sections, cohorts, gene panels and what readers make them of."""
