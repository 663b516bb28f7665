"""What several docks are built of."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from qtpy.compat import isalive
from qtpy.QtCore import QRectF, Qt, QTimer
from qtpy.QtGui import QColor, QImage, QPainter
from qtpy.QtWidgets import (
    QFrame,
    QGridLayout,
    QLabel,
    QLayout,
    QMessageBox,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from spotscope.plugin.drawing import drawing_of
from spotscope.plugin.running import Failure, Job, JobBar
from spotscope.plugin.workspace import What

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from numpy.typing import NDArray

    from spotscope.plugin.workspace import Workspace
    from spotscope.progress import Progress, Step


class Dock(QWidget):
    """A dock: scrolls when it must, says errors in place, and shows how to begin when empty.

    Parameters
    ----------
    napari_viewer
        The viewer, which napari fills in.
    empty
        One sentence while no section is open; None for docks that need none.
    begin_here
        Whether the buttons that open something stand below the sentence.
    """

    def __init__(
        self, napari_viewer: ViewerModel, empty: str | None = None, begin_here: bool = True
    ) -> None:
        super().__init__()
        self.viewer: Any = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.workspace: Workspace = drawing_of(self.viewer).workspace
        self.body = QVBoxLayout()
        self.body.setContentsMargins(8, 8, 8, 8)
        self.message = Message()
        self.job_bar = JobBar()
        content = QWidget()
        content.setLayout(self.body)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        self._stack = QStackedWidget()
        grow = QSizePolicy.Policy.Expanding
        self._stack.setSizePolicy(grow, grow)
        outer.addWidget(self._stack, 1)
        # What must be in sight however far the dock is scrolled.
        self.footer = QVBoxLayout()
        self.footer.setContentsMargins(8, 0, 8, 4)
        outer.addLayout(self.footer)
        self._needs_section = empty is not None
        if empty is not None:
            self._stack.addWidget(scrolled(self._empty(empty, begin_here)))
        self._stack.addWidget(scrolled(content))
        self.workspace.changed.connect(self._on_workspace)
        self._settled = False

    def showEvent(self, event: Any) -> None:
        """Take a place among the other docks, however this one was opened."""
        super().showEvent(event)
        QTimer.singleShot(0, self.settle)

    def settle(self) -> None:
        """Take a place among the other docks, once; after that the user's wish stands."""
        from spotscope.plugin.docks import settle

        if isalive(self) and not self._settled:
            self._settled = settle(self)

    def _empty(self, sentence: str, begin_here: bool) -> QWidget:
        if begin_here:
            from spotscope.plugin.start import StartPanel

            return StartPanel(self.viewer, sentence)
        label = wrapped(sentence)
        label.setContentsMargins(8, 8, 8, 8)
        label.setAlignment(Qt.AlignmentFlag.AlignTop)
        return label

    def begin(self) -> None:
        """Show the workspace as it is; called once a dock is built."""
        self._on_workspace(frozenset(get_args(What)))

    def update_from(self, what: frozenset[str]) -> None:
        """Follow the workspace; a section is open, if the dock needs one."""

    def run_job(
        self,
        title: str,
        work: Callable[[Progress], Any],
        done: Callable[[Any], None],
        told: Callable[[Step], None] | None = None,
    ) -> Job:
        """Start long work, show it in the dock, hand its steps to `told`, its result to `done`."""
        self.message.clear()
        job = Job(title, work, self)
        self.job_bar.watch(job)
        if told is not None:
            job.stepped.connect(told)
        job.finished.connect(done)
        job.failed.connect(self.message.fail)
        job.cancelled.connect(lambda: self.message.say(f"{title} was stopped."))
        job.ended.connect(job.deleteLater)
        return job.start()

    def _on_workspace(self, what: frozenset[str]) -> None:
        if not isalive(self):
            return
        if self._needs_section:
            self._stack.setCurrentIndex(0 if self.workspace.section is None else 1)
            if self.workspace.section is None:
                return
        self.update_from(what)


class Message(QFrame):
    """A sentence in place; details, for the curious, behind a button."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._details = ""
        self.label = wrapped("")
        self.label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.button = QPushButton("Details")
        self.button.clicked.connect(self._on_details)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 4)
        layout.addWidget(self.label)
        layout.addWidget(self.button, 0, Qt.AlignmentFlag.AlignLeft)
        self.hide()

    @property
    def text(self) -> str:
        """What is said now."""
        return self.label.text()

    def say(self, sentence: str) -> None:
        """Say something that is no error."""
        self._set(sentence, "")

    def fail(self, failure: Failure) -> None:
        """Say what went wrong."""
        self._set(failure.sentence, failure.details)

    def clear(self) -> None:
        """Say nothing."""
        self.hide()
        self.label.clear()

    def _set(self, sentence: str, details: str) -> None:
        self._details = details
        self.label.setText(sentence)
        self.button.setVisible(bool(details))
        self.show()

    def _on_details(self) -> None:
        box = QMessageBox(QMessageBox.Icon.Information, "SpotScope", self.label.text())
        box.setParent(self, Qt.WindowType.Dialog)
        box.setDetailedText(self._details)
        box.open()


class ColourBar(QWidget):
    """A colour bar that says what it is of, and in which unit."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title = self._unit = ""
        self._ends = ("", "")
        self._limits = (0.0, 1.0)
        self._strip = QImage()
        self.setMinimumWidth(200)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_scale(
        self,
        title: str,
        unit: str,
        limits: tuple[float, float],
        colours: NDArray,
        ends: tuple[str, str] = ("", ""),
    ) -> None:
        """Show a scale.

        Parameters
        ----------
        title
            Gene and view.
        unit
            Of the values.
        limits
            Values at the ends.
        colours
            (n, 4) floats between 0 and 1, from low to high.
        ends
            What the ends mean, in words.
        """
        self._title, self._unit, self._limits, self._ends = title, unit, limits, ends
        steps = np.ascontiguousarray(np.rint(np.asarray(colours) * 255).astype(np.uint8))
        image = QImage(
            steps.tobytes(), len(steps), 1, 4 * len(steps), QImage.Format.Format_RGBA8888
        )
        self._strip = image.copy()
        lines = 3 if any(ends) else 2
        self.setFixedHeight(lines * self.fontMetrics().height() + 26)
        self.setToolTip(f"{title}, {unit}: {limits[0]:.2f} to {limits[1]:.2f}")
        self.update()

    def paintEvent(self, event: Any) -> None:
        """Draw title, unit, strip and ticks."""
        if self._strip.isNull():
            return
        painter = QPainter(self)
        painter.setPen(self.palette().color(self.foregroundRole()))
        height, width = self.fontMetrics().height(), self.width()
        left, right = Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight
        top = QRectF(0, 0, width, height)
        painter.drawText(top, left, self._title)
        painter.drawText(top, right, self._unit)
        strip = QRectF(0, height + 4, width, 14)
        painter.drawImage(strip, self._strip)
        low, high = self._limits
        below = QRectF(0, height + 21, width, height)
        middle = Qt.AlignmentFlag.AlignHCenter
        for where, value in ((left, low), (middle, (low + high) / 2), (right, high)):
            painter.drawText(below, where, number(value))
        words = QRectF(0, 2 * height + 22, width, height)
        painter.drawText(words, left, self._ends[0])
        painter.drawText(words, right, self._ends[1])
        painter.end()


class Legend(QWidget):
    """Names of classes beside their colours."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setColumnStretch(1, 1)

    def show_classes(self, classes: list[tuple[str, str, int]]) -> None:
        """Show (name, `#rrggbb`, number of spots)."""
        clear(self._grid)
        for row, (name, colour, count) in enumerate(classes):
            self._grid.addWidget(Swatch(colour), row, 0)
            self._grid.addWidget(wrapped(name), row, 1)
            number_of = QLabel(f"{count:,}")
            number_of.setToolTip(f"{count:,} spots")
            self._grid.addWidget(number_of, row, 2, Qt.AlignmentFlag.AlignRight)


class Swatch(QWidget):
    """A square of one colour."""

    def __init__(self, colour: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._colour = QColor(colour)
        self.setFixedSize(14, 14)

    def paintEvent(self, event: Any) -> None:
        """Fill the square."""
        painter = QPainter(self)
        painter.fillRect(self.rect(), self._colour)
        painter.end()


def clear(layout: QLayout) -> None:
    """Take all widgets out of a layout; none is seen until Qt deletes it."""
    while layout.count():
        widget = layout.takeAt(0).widget()
        widget.hide()
        widget.deleteLater()


def wrapped(text: str) -> QLabel:
    """Return a label that wraps instead of being cut."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setMinimumWidth(1)
    return label


def folding(title: str) -> QCollapsible:
    """Return a part that is folded away, and says by its arrow which way it goes."""
    return QCollapsible(title, expandedIcon="▾", collapsedIcon="▸")


def scrolled(content: QWidget) -> QScrollArea:
    """Return an area that scrolls up and down when the content is too high, never sideways."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(content)
    return area


def two_decimals(value: float) -> str:
    """Write a figure with two decimals and a true minus."""
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "−")


def number(value: float) -> str:
    """Write a value with two decimals at most, without a minus before zero."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text.replace("-", "−")
