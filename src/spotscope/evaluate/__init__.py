"""Scores of methods on held-out sections, and the tables that show them."""
