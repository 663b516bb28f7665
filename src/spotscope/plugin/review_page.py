"""The place that is looked at: what is told of it, and the buttons that decide."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from spotscope.errors import SpotScopeError
from spotscope.plugin.subtype_state import STRANGE, percent
from spotscope.plugin.widgets import Message, clear, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotscope.plugin.review_state import Target
    from spotscope.plugin.workspace import Workspace

_WHY = {
    "uncertain": "Uncertain",
    "disagreement": "Disagreement",
    "suggested": "Suggested",
}
_SUGGESTED = 20


class ReviewPage(QWidget):
    """Goes from place to place, and gives each its class.

    Parameters
    ----------
    workspace
        Whose review.
    """

    suggested = Signal(int)

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self._workspace = workspace
        self._classes: list[tuple[str, int | None, str]] = []
        self.uncertain = QPushButton("Next uncertain (N)")
        self.disagreement = QPushButton("Next disagreement (D)")
        self.uncertain.setToolTip("Where the classifier hesitates most")
        self.disagreement.setToolTip("Where prediction and annotation differ, the surest first")
        self.suggest = QPushButton("Suggest spots to annotate")
        self.suggest.setToolTip("Spots whose labels would teach the classifier most")
        self.count = QSpinBox()
        self.count.setRange(1, 500)
        self.count.setValue(_SUGGESTED)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(8)
        self.progress, self.here = wrapped(""), wrapped("")
        self.accept = QPushButton()
        self.back = QPushButton("Back")
        self.stop = QPushButton("Stop")
        self.stop.setToolTip("Take the outline away (Esc)")
        self.correct = wrapped("Or correct it with a number key:")
        self.classes = QGridLayout()
        self.message = Message()
        self._lay_out()
        review = workspace.review
        self.uncertain.clicked.connect(lambda: self._try(lambda: review.next("uncertain")))
        self.disagreement.clicked.connect(lambda: self._try(lambda: review.next("disagreement")))
        self.suggest.clicked.connect(lambda: self.suggested.emit(self.count.value()))
        self.accept.clicked.connect(lambda: self._try(review.accept))
        self.back.clicked.connect(lambda: self._try(review.back))
        self.stop.clicked.connect(lambda: self._try(review.stop))
        review.said.connect(self._on_said)

    def _lay_out(self) -> None:
        grow = QSizePolicy.Policy.Expanding
        for button in (self.uncertain, self.disagreement, self.suggest, self.accept):
            button.setSizePolicy(grow, QSizePolicy.Policy.Fixed)
        first, second, last = QHBoxLayout(), QHBoxLayout(), QHBoxLayout()
        first.addWidget(self.uncertain)
        first.addWidget(self.disagreement)
        second.addWidget(self.suggest)
        second.addWidget(self.count)
        last.addWidget(self.back)
        last.addWidget(self.stop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(first)
        layout.addLayout(second)
        for widget in (self.progress, self.bar, self.here, self.accept, self.correct):
            layout.addWidget(widget)
        layout.addLayout(self.classes)
        layout.addLayout(last)
        layout.addWidget(self.message)
        layout.addStretch(1)

    def update_from(self, what: frozenset[str]) -> None:
        """Follow the workspace."""
        if what & {"section", "subtypes", "review", "annotations"}:
            self._show()

    def _show(self) -> None:
        review = self._workspace.review
        queue, target = review.queue, review.current
        said = review.progress()
        if queue is not None and target is None:
            said += "; that was the last one." if queue.at > 0 else ""
        self.progress.setText(said or _HOW)
        self.bar.setVisible(queue is not None)
        if queue is not None:
            self.bar.setRange(0, len(queue.targets))
            self.bar.setValue(len(queue.looked))
        for widget in (self.here, self.accept, self.correct):
            widget.setVisible(target is not None)
        self.back.setVisible(queue is not None)
        self.stop.setVisible(queue is not None)
        self.back.setEnabled(queue is not None and queue.at > 0)
        self._show_classes(target is not None)
        if target is not None:
            self.here.setText(_said(target, review.annotated(target)))
            self.accept.setText(f"Accept {target.told} (A)")

    def _show_classes(self, shown: bool) -> None:
        classes = self._workspace.annotating.classes.listed if shown else []
        wanted = [(one.name, one.key, one.colour) for one in classes]
        if wanted == self._classes:
            return
        self._classes = wanted
        clear(self.classes)
        for place, (name, key, colour) in enumerate(wanted):
            button = QPushButton(f"{key}  {name}" if key else name)
            button.setIcon(_square(colour))
            button.setIconSize(QSize(12, 12))
            button.setStyleSheet("text-align: left; padding-left: 6px;")
            button.clicked.connect(self._corrects(name))
            self.classes.addWidget(button, place, 0)

    def _corrects(self, name: str) -> Callable[[], None]:
        return lambda: self._try(lambda: self._workspace.review.correct(name))

    def _on_said(self, sentence: str) -> None:
        if sentence:
            self.message.say(sentence)
        else:
            self.message.clear()

    def _try(self, act: Callable[[], Any]) -> None:
        self.message.clear()
        try:
            act()
        except SpotScopeError as error:
            self.message.say(str(error))


_HOW = (
    "Go to a place with N or D. A accepts what is predicted there as its label, a number key"
    " corrects it, and the next place follows. Ctrl-Z takes a label back, S hides the map for a"
    " look at the tissue, Esc ends the review."
)


def _said(target: Target, annotated: str | None) -> str:
    """Say what is known of a place."""
    lines = [f"<b>{target.told} {percent(target.probability)}</b>"]
    if target.strange:
        lines = [f"<b>{STRANGE}</b>, nearest {target.told}"]
    lines.append(f"annotated {annotated}" if annotated else "not annotated")
    count = len(target.spots)
    lines.append(f"{count} spots" if count != 1 else "1 spot")
    if not count:
        lines[-1] = "no spots here: deciding draws a region"
    return f"{_WHY[target.kind]}: " + "<br>".join([lines[0], " · ".join(lines[1:])])


def _square(colour: str) -> QIcon:
    made = QPixmap(12, 12)
    made.fill(QColor(colour))
    return QIcon(made)
