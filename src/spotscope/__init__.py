"""Predict gene expression and tissue subtype from H&E slides and draw it on the slide."""

__version__ = "0.1.0"
