from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from spotscope.slide.formats.vendor import OpenSlideLevel, _Area


class _Canvas:
    """OpenSlide's view of a scan at (x, y) = (300, 100) of a larger canvas, nothing around it."""

    def __init__(self, scan: np.ndarray) -> None:
        rows, cols = scan.shape[:2]
        rgba = np.zeros((900, 1600, 4), np.uint8)
        rgba[100 : 100 + rows, 300 : 300 + cols, :3] = scan
        rgba[100 : 100 + rows, 300 : 300 + cols, 3] = 255
        rgba[100:150, 300:350, 3] = 0  # a tile that was not scanned
        self.pictures = [Image.fromarray(rgba), Image.fromarray(rgba).reduce(4)]
        self.dimensions = (1600, 900)
        self.level_dimensions = tuple(picture.size for picture in self.pictures)
        self.level_downsamples = (1.0, 4.0)
        self.properties = {
            "openslide.bounds-x": "300",
            "openslide.bounds-y": "100",
            "openslide.bounds-width": str(cols),
            "openslide.bounds-height": str(rows),
            "openslide.level[0].tile-width": "256",
            "openslide.level[0].tile-height": "256",
        }

    def read_region(
        self, location: tuple[int, int], level: int, size: tuple[int, int]
    ) -> Image.Image:
        step = self.level_downsamples[level]
        left, top = round(location[0] / step), round(location[1] / step)
        return self.pictures[level].crop((left, top, left + size[0], top + size[1]))


def test_the_bounds_of_the_scan_are_taken_off_once_for_all_levels(picture):
    canvas = _Canvas(picture)
    area = _Area(canvas)
    levels = [OpenSlideLevel(Path("x"), canvas, area, index) for index in area.levels]
    assert [level.shape for level in levels] == [(700, 1100, 3), (175, 275, 3)]
    fine, coarse = levels
    np.testing.assert_array_equal(fine[130:171, 680:721], picture[130:171, 680:721])
    reduced = np.asarray(Image.fromarray(picture).reduce(4))
    np.testing.assert_array_equal(coarse[100:150, 60:275], reduced[100:150, 60:275])


def test_what_was_not_scanned_is_white(picture):
    canvas = _Canvas(picture)
    level = OpenSlideLevel(Path("x"), canvas, _Area(canvas), 0)
    assert (level[:50, :50] == 255).all()
    np.testing.assert_array_equal(level[50:60, :50], picture[50:60, :50])
