"""What Open shows of a source: the slide with its spots, and where its scale comes from."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QPointF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPen, QPixmap
from qtpy.QtWidgets import (
    QButtonGroup,
    QDoubleSpinBox,
    QHBoxLayout,
    QRadioButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotscope.data.importing import ImportPreview
    from spotscope.slide.mpp import MppSource

_MOST_SPOTS_DRAWN = 20_000
_HEIGHT_PX = 220


class PreviewPicture(QWidget):
    """The slide, small, with its spots on it at their true size."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._preview: ImportPreview | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(_HEIGHT_PX)

    def sizeHint(self) -> QSize:
        """Return the size that suits a dock."""
        return QSize(300, _HEIGHT_PX)

    def show_preview(self, preview: ImportPreview) -> None:
        """Show what would be imported."""
        self._preview = preview
        self.update()

    def paintEvent(self, event: Any) -> None:
        """Draw the picture as large as fits, in the middle."""
        if self._preview is None:
            return
        shown = draw_preview(self._preview, self.size())
        painter = QPainter(self)
        painter.drawPixmap(
            (self.width() - shown.width()) // 2, (self.height() - shown.height()) // 2, shown
        )
        painter.end()


def draw_preview(preview: ImportPreview, fit: QSize) -> QPixmap:
    """Return the thumbnail as large as fits, with the spots drawn on it at their true size."""
    pixels = np.ascontiguousarray(preview.thumbnail)
    rows, cols = pixels.shape[:2]
    image = QImage(pixels.tobytes(), cols, rows, 3 * cols, QImage.Format.Format_RGB888)
    picture = QPixmap.fromImage(image).scaled(
        fit, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
    )
    scale = preview.thumbnail_scale * picture.width() / cols
    centres = (np.asarray(preview.centres_px) + 0.5) * scale
    if len(centres) > _MOST_SPOTS_DRAWN:
        centres = centres[:: len(centres) // _MOST_SPOTS_DRAWN + 1]
    radius = 1.5
    if preview.spot_diameter_um and preview.mpp_um:
        radius = max(preview.spot_diameter_um / preview.mpp_um * scale / 2, 1.0)
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(QColor("#0b5d1e"), 1.0))
    for row, col in centres:
        painter.drawEllipse(QPointF(float(col), float(row)), radius, radius)
    painter.end()
    return picture


class ScaleChoice(QWidget):
    """All that states micrometres per pixel, and the user's own figure."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._group = QButtonGroup(self)
        self._sources: dict[QRadioButton, float] = {}
        self._stated: float | None = None
        self.own = QRadioButton("another:")
        self.figure = QDoubleSpinBox()
        self.figure.setRange(0.0, 100.0)
        self.figure.setDecimals(4)
        self.figure.setSingleStep(0.01)
        self.figure.setSpecialValueText("enter it")
        row = QHBoxLayout()
        row.addWidget(self.own)
        row.addWidget(self.figure, 1)
        self._layout.addLayout(row)
        self._group.addButton(self.own)
        self.figure.valueChanged.connect(lambda _: self.own.setChecked(True))
        self.figure.valueChanged.connect(lambda _: self.changed.emit())
        self._group.buttonToggled.connect(lambda *_: self.changed.emit())

    def show_sources(self, sources: Sequence[MppSource], stated: float | None) -> None:
        """Show the sources, the chosen one first and marked."""
        for button in self._sources:
            self._group.removeButton(button)
            self._layout.removeWidget(button)
            button.deleteLater()
        self._sources, self._stated = {}, stated
        for place, source in enumerate(sources):
            button = QRadioButton(f"{source.mpp_um:.4g} µm · {source.name}")
            self._group.addButton(button)
            self._layout.insertWidget(place, button)
            self._sources[button] = source.mpp_um
            if stated is not None and source.mpp_um == stated:
                button.setChecked(True)
        if stated is None:
            self.own.setChecked(True)

    def mpp_um(self) -> float | None:
        """Return the choice; None while it is missing."""
        if self.own.isChecked():
            return self.figure.value() or None
        return next((um for button, um in self._sources.items() if button.isChecked()), None)

    def chosen_by_user(self) -> float | None:
        """Return the choice when it differs from what would be taken anyway."""
        chosen = self.mpp_um()
        return None if chosen == self._stated else chosen
