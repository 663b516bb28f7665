"""What the Review dock says of a subtype map: classes, areas, and how well they are told."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QSlider,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from spotscope.plugin.model_pages import let_shrink
from spotscope.plugin.review_confusion import ConfusionTable
from spotscope.plugin.widgets import Swatch, clear, two_decimals, wrapped

if TYPE_CHECKING:
    from spotscope.data.subtype_runs import SubtypeRun
    from spotscope.plugin.subtype_state import Told
    from spotscope.plugin.workspace import Workspace

_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop
_RADIUS_UM = 150


class MapPage(QWidget):
    """Chooses a subtype run and how it is read; shows its legend and its validation.

    Parameters
    ----------
    workspace
        Whose subtypes.
    """

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self._workspace = workspace
        self.runs = QComboBox()
        let_shrink(self.runs)
        self.runs.setToolTip("Whose subtypes are shown; earlier ones stay in the section's store")
        self.protocol = wrapped("")
        self.seen = QCheckBox("Show on the slide")
        self.threshold = _slider("Probability below which a place is unsure")
        self.opacity = _slider("How much the map hides the tissue")
        self.threshold_said, self.opacity_said = QLabel(), QLabel()
        self.smooth = QCheckBox("Smooth over")
        self.smooth.setToolTip("Average the probabilities of each place with its neighbours'")
        self.radius = QSpinBox()
        self.radius.setRange(10, 2000)
        self.radius.setSingleStep(50)
        self.radius.setValue(_RADIUS_UM)
        self.radius.setSuffix(" µm")
        self.legend = AreaLegend()
        self.pointed = wrapped("")
        self.scores = ScoreBoard()
        self._lay_out()
        self.runs.activated.connect(self._on_run)
        self.seen.toggled.connect(self._on_seen)
        self.threshold.valueChanged.connect(lambda value: self._change(threshold=value / 100))
        self.opacity.valueChanged.connect(lambda value: self._change(opacity=value / 100))
        self.smooth.toggled.connect(self._on_smooth)
        self.radius.valueChanged.connect(self._on_smooth)
        workspace.subtypes.pointed.connect(self.say_pointed)
        self.say_pointed(None)

    def _lay_out(self) -> None:
        sliders = QGridLayout()
        sliders.setColumnStretch(1, 1)
        rows = (
            ("Unsure below", self.threshold, self.threshold_said),
            ("Opacity", self.opacity, self.opacity_said),
        )
        for row, (name, slider, said) in enumerate(rows):
            sliders.addWidget(QLabel(name), row, 0)
            sliders.addWidget(slider, row, 1)
            sliders.addWidget(said, row, 2)
            said.setMinimumWidth(self.fontMetrics().horizontalAdvance("100 %"))
            said.setAlignment(Qt.AlignmentFlag.AlignRight)
        smoothing = QHBoxLayout()
        smoothing.addWidget(self.smooth)
        smoothing.addWidget(self.radius)
        smoothing.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for first in (self.runs, self.protocol, self.seen):
            layout.addWidget(first)
        layout.addLayout(sliders)
        layout.addLayout(smoothing)
        for widget in (self.legend, self.pointed, self.scores):
            layout.addWidget(widget)
        layout.addStretch(1)

    def update_from(self, what: frozenset[str]) -> None:
        """Follow the workspace."""
        if what & {"section", "subtype runs"}:
            self._fill_runs()
        if what & {"section", "view", "subtypes"}:
            self._show()

    def say_pointed(self, said: str | None) -> None:
        """Say what is told under the mouse."""
        self.pointed.setText(said or "Point at the map to read class and probability.")

    def _fill_runs(self) -> None:
        subtypes = self._workspace.subtypes
        self.runs.clear()
        for run in subtypes.runs:
            self.runs.addItem(_titled(run), run.id)
            place = self.runs.count() - 1
            self.runs.setItemData(place, run.title, Qt.ItemDataRole.ToolTipRole)
        if subtypes.run is not None:
            self.runs.setCurrentIndex(self.runs.findData(subtypes.run.id))

    def _show(self) -> None:
        subtypes, settings = self._workspace.subtypes, self._workspace.subtypes.settings
        widgets = (self.seen, self.threshold, self.opacity, self.smooth, self.radius)
        before = [widget.blockSignals(True) for widget in widgets]
        self.seen.setChecked(self._workspace.view == "predicted subtype")
        self.threshold.setValue(round(100 * settings.threshold))
        self.opacity.setValue(round(100 * settings.opacity))
        self.smooth.setChecked(settings.radius_um > 0)
        if settings.radius_um:
            self.radius.setValue(round(settings.radius_um))
        for widget, blocked in zip(widgets, before, strict=True):
            widget.blockSignals(blocked)
        self.threshold_said.setText(f"{self.threshold.value()} %")
        self.opacity_said.setText(f"{self.opacity.value()} %")
        self.radius.setEnabled(self.smooth.isChecked())
        told = subtypes.told()
        if told is not None:
            self.legend.show_told(told)
            self.protocol.setText(f"For this section: {told.run.protocol}.")
            self.scores.show_validation(told.run.validation)

    # -- hands

    def _on_run(self, place: int) -> None:
        self._workspace.subtypes.show_run(self.runs.itemData(place))

    def _on_seen(self, on: bool) -> None:
        if on:
            self._workspace.show("predicted subtype")
        else:
            self._workspace.show_values()

    def _on_smooth(self, *_: object) -> None:
        self._change(radius_um=float(self.radius.value()) if self.smooth.isChecked() else 0.0)

    def _change(self, **settings: float) -> None:
        self._workspace.subtypes.change(**settings)


class AreaLegend(QWidget):
    """Classes beside their colours, with the area and the spots of each."""

    def __init__(self) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setColumnStretch(1, 1)

    def show_told(self, told: Told) -> None:
        """Show what is told of the section."""
        clear(self._grid)
        for column, name in ((2, "mm²"), (3, "spots")):
            self._grid.addWidget(QLabel(name), 0, column, _RIGHT)
        for row, (name, colour, spots, area) in enumerate(told.legend(), 1):
            self._grid.addWidget(Swatch(colour), row, 0, Qt.AlignmentFlag.AlignTop)
            self._grid.addWidget(wrapped(name), row, 1)
            self._grid.addWidget(QLabel("–" if area is None else f"{area:.2f}"), row, 2, _RIGHT)
            self._grid.addWidget(QLabel("–" if spots is None else f"{spots:,}"), row, 3, _RIGHT)

    def rows(self) -> list[tuple[str, ...]]:
        """Return what is written: class, mm², spots."""
        return [
            tuple(self._grid.itemAtPosition(row, col).widget().text() for col in (1, 2, 3))
            for row in range(1, self._grid.rowCount())
            if self._grid.itemAtPosition(row, 1) is not None
        ]


class ScoreBoard(QWidget):
    """How well held-out labels are told, beside the commonest class; and who is taken for whom."""

    COLUMNS = (
        ("accuracy", "accuracy", "Share of the held-out labels that are told right"),
        ("balanced_accuracy", "balanced", "Mean over the classes of the share that is told right"),
        ("macro_f1", "macro-F1", "Mean over the classes of F1, which also counts false alarms"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.protocol = wrapped("")
        self._grid = QGridLayout()
        self._grid.setColumnStretch(0, 1)
        self.key = wrapped("Spots by class: rows annotated, columns predicted")
        self.confusion = ConfusionTable()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 8, 0, 0)
        layout.addWidget(self.protocol)
        layout.addLayout(self._grid)
        layout.addWidget(self.key)
        layout.addWidget(self.confusion)

    def show_validation(self, found: dict[str, Any] | None) -> None:
        """Show the validation of a classifier; None where nothing could be held out."""
        clear(self._grid)
        scored = found is not None and bool(found["scores"])
        for widget in (self.key, self.confusion):
            widget.setVisible(scored)
        notes = " ".join(found["notes"]) if found is not None else ""
        if found is None or not scored:
            self.protocol.setText(f"<b>Not validated.</b> {notes}")
            return
        self.protocol.setText(f"<b>Validation.</b> {found['protocol']} {notes}")
        for column, (_, name, tip) in enumerate(self.COLUMNS, 1):
            label = QLabel(name)
            label.setToolTip(tip)
            self._grid.addWidget(label, 0, column, _RIGHT)
        named = (("this classifier", "classifier"), ("commonest class", "majority"))
        for row, (name, which) in enumerate(named, 1):
            self._grid.addWidget(wrapped(name), row, 0)
            for column, (metric, _, _) in enumerate(self.COLUMNS, 1):
                said = two_decimals(found["scores"][which][metric])
                self._grid.addWidget(QLabel(said), row, column, _RIGHT)
        self.confusion.show_counts(found["classes"], found["confusion"])

    def rows(self) -> list[tuple[str, ...]]:
        """Return what is written in the table."""
        return [
            tuple(self._grid.itemAtPosition(row, col).widget().text() for col in range(4))
            for row in range(1, self._grid.rowCount())
            if self._grid.itemAtPosition(row, 0) is not None
        ]


def _titled(run: SubtypeRun) -> str:
    """Say a run in a few words, its time first: that is what tells it from the others."""
    made = datetime.fromisoformat(run.created)
    after = run.provenance.get("pretrained")
    title = run.title.split(", ")[0]
    if after:  # which of the image classifiers it is, where there is room for it
        title = title.replace("Subtype classifier", f"{after.upper()} classifier")
    return f"{made.day} {made:%b %H:%M} · {title}"


def _slider(tip: str) -> QSlider:
    slider = QSlider(Qt.Orientation.Horizontal)
    slider.setRange(0, 100)
    slider.setToolTip(tip)
    return slider
