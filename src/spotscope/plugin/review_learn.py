"""What subtypes are learnt from, and with what: the form of the Review dock."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)

from spotscope.plugin.annotation_store import beside_for_people
from spotscope.plugin.labels_at_hand import Labels, labels_of
from spotscope.plugin.model_pages import let_shrink
from spotscope.plugin.pace import seconds_for
from spotscope.plugin.running import duration
from spotscope.plugin.widgets import wrapped

if TYPE_CHECKING:
    from spotscope.plugin.opened import OpenSection
    from spotscope.plugin.workspace import Workspace

LEARNERS = {
    "image": "Image classifier",
    "tpirbae": "Image classifier after TPIRBAE",
    "scanvi": "From counts (scANVI)",
}
_ABOUT = {
    "image": "Learns what the classes look like, and tells them anywhere on a slide.",
    "tpirbae": "Trains TPIRBAE's pair of image and counts first, then classifies; takes minutes.",
    "scanvi": "Learns from the spots' counts, those without a label as well; tells spots alone.",
}
_MOST_ROWS = 6
_SCANVI_SECONDS_A_SPOT, _PAIR_SECONDS_A_SPOT = 0.2, 0.1


@dataclass(frozen=True)
class LearnPlan:
    """What learning would do.

    Attributes
    ----------
    sections
        To learn from.
    labels
        Of their spots, as they are now.
    targets
        Sections that are predicted afterwards.
    learner, encoder
        What learns, from what.
    said
        The same as a sentence.
    why_not
        Why it cannot be started now, as a sentence.
    """

    sections: tuple[OpenSection, ...] = ()
    labels: tuple[Labels, ...] = ()
    targets: tuple[OpenSection, ...] = ()
    learner: str = "image"
    encoder: str = "auto"
    said: str = ""
    why_not: str | None = None


class LearnPage(QWidget):
    """Chooses sections, what learns, and what is done with it.

    Parameters
    ----------
    workspace
        Whose sections.
    """

    edited = Signal()

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self._workspace = workspace
        self.sections = QListWidget()
        self.sections.setToolTip("Sections whose labels are learnt from")
        # napari's own empty boxes are hard to see on its dark ground.
        self.sections.setStyleSheet(
            "QListView::indicator:unchecked { border: 1px solid #8a919e; }"
        )
        self.learner, self.encoder = QComboBox(), QComboBox()
        for name, title in LEARNERS.items():
            self.learner.addItem(title, name)
        self.encoder.setEditable(True)
        self.encoder.addItem("auto")
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for title, box in (("What learns", self.learner), ("Image encoder", self.encoder)):
            let_shrink(box)
            form.addRow(title, box)
        self.about = wrapped("")
        self.others = QCheckBox("Predict the other open slides too")
        self.keep = QCheckBox("Keep learning as labels change")
        self.keep.setToolTip(
            "A few seconds after the last label, learn again in the background and redraw the map"
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(wrapped("Learn from the labels of"))
        layout.addWidget(self.sections)
        layout.addLayout(form)
        layout.addWidget(self.about)
        layout.addWidget(self.others)
        layout.addWidget(self.keep)
        layout.addStretch(1)
        self.learner.currentIndexChanged.connect(self._on_learner)
        self.encoder.editTextChanged.connect(lambda _: self.edited.emit())
        self.sections.itemChanged.connect(lambda _: self.edited.emit())
        self.others.toggled.connect(lambda _: self.edited.emit())
        self._on_learner()

    def show_encoders(self, encoders: list[Any]) -> None:
        """List the encoders that can be used here."""
        before = self.encoder.blockSignals(True)
        chosen = self.encoder.currentText()
        self.encoder.clear()
        for info in encoders:
            if info.at_hand:
                self.encoder.addItem(info.spec)
                place = self.encoder.count() - 1
                self.encoder.setItemData(place, info.title, Qt.ItemDataRole.ToolTipRole)
        self.encoder.setCurrentText(chosen)
        self.encoder.blockSignals(before)

    def show_sections(self) -> None:
        """List the open sections; those that were chosen stay chosen, the active one at first."""
        active = self._workspace.section
        rows = [row for row in range(self.sections.count()) if self._enabled(row)]
        was = {self._at(row): self._item(row).checkState() for row in rows}
        before = self.sections.blockSignals(True)
        self.sections.clear()
        for opened in self._workspace.sections:
            count = labels_of(self._workspace, opened).count
            item = QListWidgetItem(
                f"{opened.name} · patient {opened.section.patient} · {count:,} labels"
                if count
                else f"{opened.name} · no labels"
            )
            item.setData(Qt.ItemDataRole.UserRole, opened.key)
            item.setToolTip(opened.key)
            on = Qt.CheckState.Checked if opened is active else Qt.CheckState.Unchecked
            item.setCheckState(was.get(opened.key, on))
            if not count:
                item.setCheckState(Qt.CheckState.Unchecked)
                item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEnabled)
            self.sections.addItem(item)
        self.sections.blockSignals(before)
        row = max(self.sections.sizeHintForRow(0), self.fontMetrics().height() + 2)
        shown = min(max(self.sections.count(), 1), _MOST_ROWS)
        self.sections.setFixedHeight(shown * row + 8)
        self.others.setEnabled(len(self._workspace.sections) > 1)
        self.others.setToolTip(
            "" if self.others.isEnabled() else "No other section is open; open one in Open."
        )
        self.edited.emit()

    def choose(self, names: list[str]) -> None:
        """Mark the sections of these names."""
        for row in range(self.sections.count()):
            opened = self._workspace.find(self._at(row))
            on = opened is not None and opened.name in names
            state = Qt.CheckState.Checked if on else Qt.CheckState.Unchecked
            self._item(row).setCheckState(state)

    def plan(self) -> LearnPlan:
        """Return what learning would do now, or why it cannot."""
        active = self._workspace.section
        if active is None:
            return LearnPlan(why_not="Open a section first.")
        chosen = [
            opened
            for row in range(self.sections.count())
            if self._item(row).checkState() == Qt.CheckState.Checked
            and (opened := self._workspace.find(self._at(row))) is not None
        ]
        found = [(opened, labels_of(self._workspace, opened)) for opened in chosen]
        found = [(opened, labels) for opened, labels in found if labels.count]
        if not found:
            return LearnPlan(
                why_not="Mark some spots in Annotate, at least two classes, to learn from."
            )
        classes = sorted(set().union(*(labels.classes for _, labels in found)))
        if len(classes) < 2:
            return LearnPlan(
                why_not=f"All labelled spots are {classes[0]}; mark a second class to tell apart."
            )
        others = self.others.isEnabled() and self.others.isChecked()
        targets = [active, *(one for one in self._workspace.sections if one is not active)]
        plan = LearnPlan(
            sections=tuple(opened for opened, _ in found),
            labels=tuple(labels for _, labels in found),
            targets=tuple(targets if others else targets[:1]),
            learner=self.learner.currentData(),
            encoder=self.encoder.currentText().strip() or "auto",
        )
        unfit = next(filter(None, (_why_unfit(plan, one) for one in plan.targets)), None)
        return LearnPlan(why_not=unfit) if unfit else _said(plan, classes)

    def _on_learner(self, *_: object) -> None:
        learner = self.learner.currentData()
        self.about.setText(_ABOUT[learner])
        self.encoder.setEnabled(learner != "scanvi")
        self.encoder.setToolTip(
            "scANVI looks at counts, not at the image." if learner == "scanvi" else ""
        )
        self.edited.emit()

    def _item(self, row: int) -> QListWidgetItem:
        item = self.sections.item(row)
        assert item is not None
        return item

    def _enabled(self, row: int) -> bool:
        return bool(self._item(row).flags() & Qt.ItemFlag.ItemIsEnabled)

    def _at(self, row: int) -> str:
        return str(self._item(row).data(Qt.ItemDataRole.UserRole))


def _why_unfit(plan: LearnPlan, target: OpenSection) -> str | None:
    """Say why a section cannot be predicted; None when it can."""
    if plan.learner == "scanvi" and not target.section.has_spots:
        return (
            f"scANVI tells spots alone, and {target.name} is a slide without spots; take the image"
            " classifier."
        )
    if target.section.mpp_um is None:
        return (
            f"Nothing states how many µm a pixel of {target.name} is, so its tissue cannot be"
            " compared; import the slide in Open, where the scale can be entered."
        )
    return None


def _said(plan: LearnPlan, classes: list[str]) -> LearnPlan:
    """Say a plan in a sentence."""
    from dataclasses import replace

    count = sum(labels.count for labels in plan.labels)
    patients = sorted({opened.section.patient for opened in plan.sections})
    where = (
        f"section {plan.sections[0].name}"
        if len(plan.sections) == 1
        else f"{len(plan.sections)} sections of {_patients(patients)}"
    )
    check = (
        "each patient held out in turn"
        if len(patients) > 1
        else "labels of whole blocks of tissue held out in turn"
    )
    names = ", ".join(one.name for one in plan.targets)
    seconds = duration(_seconds(plan, len(patients)))
    made = [beside_for_people(one) for one in plan.targets if one.section.store is None]
    also = f" Makes {' and '.join(made)}, to keep the map in." if made else ""
    return replace(
        plan,
        said=(
            f"Learns {len(classes)} classes from {count:,} labels of {where}, checks them with"
            f" {check}, then predicts {names}. Takes {seconds}; what was done before is reused."
            f"{also}"
        ),
    )


def _seconds(plan: LearnPlan, n_patients: int) -> float:
    from spotscope.evaluate.validation import FOLDS

    spots = sum(opened.n_spots for opened in plan.sections)
    if plan.learner == "scanvi":
        return _SCANVI_SECONDS_A_SPOT * spots
    labels = sum(labels.count for labels in plan.labels)
    cells = sum(_cells(opened) for opened in plan.targets)
    places = labels + sum(opened.n_spots for opened in plan.targets) + cells
    # The pair is trained once to be kept, and once without each part that is held out.
    trainings = 1 + (n_patients if n_patients > 1 else FOLDS)
    pair = trainings * _PAIR_SECONDS_A_SPOT * spots if plan.learner == "tpirbae" else 0.0
    return 3.0 + pair + seconds_for(plan.encoder, round(places))


def _cells(opened: OpenSection) -> float:
    """Estimate how many cells a map has."""
    from spotscope.data.places import default_stride_um

    if opened.section.mpp_um is None:
        return 0.0
    stride_px = default_stride_um(opened.section) / opened.mpp_um
    if opened.section.has_spots:
        return float(opened.n_spots * opened.pitch_px**2 / stride_px**2)
    return float(np.prod(opened.section.slide.shape_px) / 2 / stride_px**2)


def _patients(patients: list[str]) -> str:
    return f"patient {patients[0]}" if len(patients) == 1 else f"{len(patients)} patients"
