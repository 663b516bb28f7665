"""Subtype annotation without a window: classes, labels, regions, journal, exchange files."""
