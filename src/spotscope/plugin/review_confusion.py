"""Who was taken for whom: a small heat table whose names and numbers can be read."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QFont, QFontMetricsF, QPainter
from qtpy.QtWidgets import QSizePolicy, QWidget

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_CELL_HEIGHT, _LEAST_CELL, _MOST_CELL = 21, 22, 56
_NAMES_SHARE = 0.42  # of the width, at most, for the names at the left
_GAP = 4
# White to a dark blue that white numbers can be read on; the eye reads shares, not hues.
_LIGHT, _DARK = QColor("#f7fbff"), QColor("#08306b")
_WRAPS = Qt.TextFlag.TextWordWrap


class ConfusionTable(QWidget):
    """Rows are what was annotated, columns what was predicted; the shade is the row's share."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._names: list[str] = []
        self._counts: NDArray[np.int64] = np.zeros((0, 0), np.int64)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)

    def show_counts(self, names: list[str], counts: ArrayLike) -> None:
        """Show (K, K) spots; rows are the annotated classes."""
        self._names, self._counts = list(names), np.asarray(counts, np.int64)
        self.setMinimumWidth(min(240, 90 + _LEAST_CELL * len(names)))
        self._fit()
        self.update()

    def resizeEvent(self, event: Any) -> None:
        """Take the height that goes with the width: names wrap."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        top, _, _, heights = self._layout(self.width())
        self.setFixedHeight(int(top + sum(heights) + 2))

    def describe(self, row: int, col: int) -> str:
        """Say a cell in words."""
        count, of = int(self._counts[row, col]), int(self._counts[row].sum())
        share = f" ({100 * count / of:.0f} %)" if of else ""
        return (
            f"{count:,} of {of:,} spots annotated {self._names[row]}{share} were predicted"
            f" {self._names[col]}"
        )

    def paintEvent(self, event: Any) -> None:
        """Draw names, cells and numbers."""
        if not self._names:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(self.foregroundRole())
        top, left, cell, heights = self._layout(self.width())
        painter.setPen(text)
        for col, name in enumerate(self._names):
            painter.save()
            painter.translate(left + (col + 0.5) * cell, top - _GAP)
            painter.rotate(-90)
            box = QRectF(0, -cell / 2, top - _GAP, cell)
            painter.drawText(box, _flags(Qt.AlignmentFlag.AlignLeft), name)
            painter.restore()
        y = float(top)
        for row, name in enumerate(self._names):
            painter.setPen(text)
            painter.setFont(self.font())
            box = QRectF(0, y, left - _GAP, heights[row])
            painter.drawText(box, _flags(Qt.AlignmentFlag.AlignRight), name)
            self._draw_cells(painter, row, left, y, cell, heights[row])
            y += heights[row]
        painter.end()

    def _draw_cells(
        self, painter: QPainter, row: int, left: float, y: float, cell: float, height: float
    ) -> None:
        counts = self._counts[row]
        of = max(int(counts.sum()), 1)
        for col, count in enumerate(counts):
            share = float(count) / of
            box = QRectF(left + col * cell, y, cell, height).adjusted(1, 1, -1, -1)
            painter.fillRect(box, _shade(share))
            if row == col:
                painter.setPen(QColor("#e69f00"))
                painter.drawRect(box)
            if not count:
                continue
            painter.setPen(QColor("white" if share > 0.5 else "black"))
            painter.setFont(_fitting(self.font(), f"{count}", cell - 3))
            painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), f"{count}")

    def mouseMoveEvent(self, event: Any) -> None:
        """Say the cell under the mouse in words."""
        top, left, cell, heights = self._layout(self.width())
        place = event.position()
        col = int((place.x() - left) // cell) if cell else -1
        row = int(np.searchsorted(np.cumsum(heights), place.y() - top, side="right"))
        inside = place.x() >= left and place.y() >= top
        known = inside and 0 <= col < len(self._names) and row < len(self._names)
        self.setToolTip(self.describe(row, col) if known else "")

    def _layout(self, width: int) -> tuple[float, float, float, list[float]]:
        """Return the height of the head, the width of the names, a cell's width, rows' heights."""
        if not self._names:
            return 0.0, 0.0, 0.0, []
        measure = QFontMetricsF(self.font())
        widest = max(measure.horizontalAdvance(name) for name in self._names) + 2 * _GAP
        word = max(
            measure.horizontalAdvance(part) for name in self._names for part in name.split()
        )
        count = len(self._names)
        left = min(widest, max(_NAMES_SHARE * width, word + 2 * _GAP))
        left = max(left, min(width - count * _MOST_CELL, widest))
        cell = max(min((width - left) / count, _MOST_CELL), 1.0)
        heights = [
            max(_CELL_HEIGHT, _wrapped_height(measure, name, left - _GAP)) for name in self._names
        ]
        lines = max(int(cell // measure.height()), 1)
        # Names above wrap where a column is wide enough for more than one line.
        head = max(_wrapped_width(measure, name, lines) for name in self._names)
        return head + 2 * _GAP, left, cell, heights


def _flags(side: Qt.AlignmentFlag) -> int:
    return int(side | Qt.AlignmentFlag.AlignVCenter) | int(_WRAPS)


def _wrapped_height(measure: QFontMetricsF, name: str, width: float) -> float:
    box = measure.boundingRect(QRectF(0, 0, width, 1000), int(_WRAPS), name)
    return float(box.height()) + 2


def _wrapped_width(measure: QFontMetricsF, name: str, lines: int) -> float:
    """Return the least width at which a name takes no more than so many lines."""
    full = measure.horizontalAdvance(name) + 2
    word = max(measure.horizontalAdvance(part) for part in name.split() or [name]) + 2
    if lines < 2 or " " not in name:
        return float(full)
    for share in np.linspace(0.5, 1, 11):
        width = max(share * full, word)
        if _wrapped_height(measure, name, width) <= lines * measure.height() + 2:
            return float(width)
    return float(full)


def _fitting(font: QFont, text: str, width: float) -> QFont:
    """Return the font, smaller where a number would not fit its cell."""
    found = QFont(font)
    size = font.pointSizeF() if font.pointSizeF() > 0 else 9.0
    while size > 6 and QFontMetricsF(found).horizontalAdvance(text) > width:
        size -= 0.5
        found.setPointSizeF(size)
    return found


def _shade(share: float) -> QColor:
    low, high = np.array(_LIGHT.getRgb()[:3]), np.array(_DARK.getRgb()[:3])
    red, green, blue = (int(v) for v in np.rint(low + share * (high - low)))
    return QColor(red, green, blue)
