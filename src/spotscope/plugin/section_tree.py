"""Sections by patient, with a mark at those to train on and at patients to validate on."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QHeaderView, QTreeWidget, QTreeWidgetItem

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from spotscope.jobs.opening import Listed

_CHECKED, _UNCHECKED = Qt.CheckState.Checked, Qt.CheckState.Unchecked


class SectionTree(QTreeWidget):
    """A patient is trained on, validated on, or neither; never both."""

    edited = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setHeaderLabels(["Train on", "Validate on"])
        self.headerItem().setToolTip(
            1, "Spots of these patients are not learnt from; they show how well it goes"
        )
        self.header().setStretchLastSection(False)
        self.header().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.header().setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        self.setMinimumHeight(110)
        self.setRootIsDecorated(False)
        # napari's own empty boxes are hard to see on its dark ground.
        self.setStyleSheet(
            "QTreeView::indicator:unchecked, QCheckBox::indicator:unchecked"
            " { border: 1px solid #8a919e; }"
        )
        self._validate: dict[str, QCheckBox] = {}
        self._touched = False
        self.itemChanged.connect(self._on_touched)

    def show_sections(
        self, sections: Collection[Listed], active: Path, chosen: Collection[Path]
    ) -> None:
        """List sections afresh, those of `chosen` marked to train on.

        What the user has marked stands, whichever section is looked at meanwhile.
        """
        held = {patient for patient, box in self._validate.items() if box.isChecked()}
        if self._touched:
            chosen = {one.path for one in self.chosen()}
        before = self.blockSignals(True)
        self.clear()
        self._validate.clear()
        for one in sections:
            self._list(one, active, one.path in chosen)
        for patient in held & set(self._validate):
            self._validate[patient].setChecked(True)
        self.blockSignals(before)
        self.edited.emit()

    def add(self, section: Listed, active: Path) -> None:
        """List one more section, marked to train on."""
        before = self.blockSignals(True)
        self._list(section, active, True)
        self.blockSignals(before)
        self._on_touched()

    def chosen(self) -> list[Listed]:
        """Return the sections to train on."""
        return [
            item.data(0, Qt.ItemDataRole.UserRole)
            for item in self._items()
            if item.checkState(0) == _CHECKED and not item.isDisabled()
        ]

    def validating(self) -> list[Listed]:
        """Return the sections to validate on."""
        sections = [item.data(0, Qt.ItemDataRole.UserRole) for item in self._items()]
        return [one for one in sections if self._validate[one.patient].isChecked()]

    def choose(self, names: Collection[str], validate: Collection[str] = ()) -> None:
        """Mark the sections of these names, and the patients to validate on."""
        for patient, box in self._validate.items():
            box.setChecked(patient in validate)
        for item in self._items():
            known = item.data(0, Qt.ItemDataRole.UserRole)
            item.setCheckState(0, _CHECKED if known.name in names else _UNCHECKED)

    def _patients(self) -> list[Any]:
        return [self.topLevelItem(row) for row in range(self.topLevelItemCount())]

    def _items(self) -> list[Any]:
        return [one.child(row) for one in self._patients() for row in range(one.childCount())]

    def _list(self, section: Listed, active: Path, chosen: bool) -> None:
        known = [item.data(0, Qt.ItemDataRole.UserRole) for item in self._items()]
        if any(one.path == section.path for one in known):
            return
        said = f"{section.name} · {section.n_spots:,} spots"
        if any(one.name == section.name for one in known):
            said += f" · in {section.path.parent.name}"
        item = QTreeWidgetItem([said + "  (the one shown)" * (section.path == active)])
        item.setData(0, Qt.ItemDataRole.UserRole, section)
        item.setToolTip(0, str(section.path))
        item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
        item.setCheckState(0, _CHECKED if chosen else _UNCHECKED)
        self._patient(section.patient).addChild(item)

    def _patient(self, patient: str) -> QTreeWidgetItem:
        for known in self._patients():
            if known.data(0, Qt.ItemDataRole.UserRole) == patient:
                return known
        item = QTreeWidgetItem([f"Patient {patient}"])
        item.setData(0, Qt.ItemDataRole.UserRole, patient)
        item.setFlags(
            item.flags() | Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsAutoTristate
        )
        self.addTopLevelItem(item)
        item.setExpanded(True)
        box = QCheckBox()
        box.setToolTip(f"Validate on patient {patient}, and do not train on it")
        box.toggled.connect(lambda on: self._on_validate(item, on))
        self.setItemWidget(item, 1, box)
        self._validate[patient] = box
        return item

    def _on_validate(self, patient: QTreeWidgetItem, on: bool) -> None:
        before = self.blockSignals(True)
        for row in range(patient.childCount()):
            item = patient.child(row)
            if on:
                item.setCheckState(0, _UNCHECKED)
            item.setDisabled(on)
        self.blockSignals(before)
        self._on_touched()

    def _on_touched(self, *_: object) -> None:
        self._touched = True
        self.edited.emit()
