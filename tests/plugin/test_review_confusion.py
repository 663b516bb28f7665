from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QRectF
from qtpy.QtGui import QFontMetricsF

from spotscope.plugin.review_confusion import ConfusionTable

NAMES = ["adipose tissue", "breast glands", "connective tissue", "immune infiltrate", "invasive"]


@pytest.fixture
def table(qtbot):
    made = ConfusionTable()
    qtbot.addWidget(made)
    counts = np.full((5, 5), 3)
    np.fill_diagonal(counts, 1234)
    made.show_counts(NAMES, counts)
    made.show()
    return made


@pytest.mark.parametrize("width", [240, 330, 700])
def test_no_class_name_is_cut(table, width):
    table.resize(width, 10)
    head, left, cell, heights = table._layout(width)
    measure = QFontMetricsF(table.font())
    for name, height in zip(NAMES, heights, strict=True):
        box = measure.boundingRect(QRectF(0, 0, left - 4, 1000), 0x1000, name)
        assert box.width() <= left
        assert box.height() <= height
    assert head >= max(measure.horizontalAdvance(name) for name in NAMES) / 2
    assert left + cell * len(NAMES) <= width + 1
    assert table.minimumHeight() >= head + sum(heights)


def test_the_right_calls_are_darkest_and_rows_are_shares(table):
    table.resize(400, 10)
    table.show_counts(NAMES[:2], [[90, 10], [1, 1]])
    picture = table.grab().toImage()
    head, left, cell, heights = table._layout(table.width())

    def shade(row, col):
        place = round(left + col * cell + 4), round(head + sum(heights[:row]) + heights[row] - 5)
        return picture.pixelColor(*place).lightness()

    assert shade(0, 0) < shade(1, 0) == shade(1, 1) < shade(0, 1)


def test_a_cell_is_said_in_words(table):
    table.show_counts(NAMES[:2], [[90, 10], [0, 0]])
    said = table.describe(0, 1)
    assert said == "10 of 100 spots annotated adipose tissue (10 %) were predicted breast glands"
    assert table.describe(1, 1).startswith("0 of 0 spots")
