"""Whole-slide images: pyramids, micrometres per pixel, patches, tissue."""
