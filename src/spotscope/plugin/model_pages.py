"""The two halves of Predict: a model from a folder, or one to be trained."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from spotscope.errors import SpotScopeError
from spotscope.plugin.forms import SettingsForm
from spotscope.plugin.recent import data_folder
from spotscope.plugin.widgets import wrapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotscope.plugin.opened import OpenSection
    from spotscope.progress import Progress


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes
    ----------
    said
        The beginning of the sentence that tells it.
    why_not
        Why it cannot be done now, as a sentence.
    encoder
        For the estimate of time.
    n_training_spots
        To be encoded first.
    model
        The folder of a model that there is.
    make
        Trains one and returns its folder.
    """

    said: str = ""
    why_not: str | None = None
    encoder: str = "auto"
    n_training_spots: int = 0
    model: Path | None = None
    make: Callable[[Progress], Path] | None = None

    @property
    def trains(self) -> bool:
        """Whether a model is trained first."""
        return self.make is not None


def models_folder() -> Path:
    """Return where models that are trained here are kept."""
    return data_folder() / "models"


class ModelPage(QWidget):
    """Chooses a model's folder."""

    edited = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._section: OpenSection | None = None
        self._records: dict[Path, dict[str, Any]] = {}
        self.models = QComboBox()
        _let_shrink(self.models)
        self.choose = QPushButton("Other …")
        self.choose.setToolTip("Choose a model's folder")
        self.about = wrapped("")
        row = QHBoxLayout()
        row.addWidget(self.models, 1)
        row.addWidget(self.choose)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.about)
        layout.addStretch(1)
        self.models.currentIndexChanged.connect(self._on_model)
        self.choose.clicked.connect(self._on_choose)
        self.show_models()

    def show_models(self) -> None:
        """List the models that were trained here, the newest first."""
        folders = [path for path in models_folder().glob("*") if path.is_dir()]
        for folder in sorted(folders, key=lambda path: path.stat().st_mtime):
            self._list(folder)
        self._on_model()

    def show_section(self, section: OpenSection) -> None:
        """Say how the models stand to this section."""
        self._section = section
        self._on_model()

    def add_model(self, folder: Path) -> None:
        """Choose the model in a folder.

        Raises
        ------
        SpotScopeError
            When it holds no model.
        """
        from spotscope.methods.base import read_record

        read_record(folder)
        self._list(folder)
        self.models.setCurrentIndex(self.models.findData(str(folder)))

    def plan(self) -> Plan:
        """Return what a run would do."""
        folder = self.models.currentData()
        if folder is None:
            return Plan(why_not="No model was trained here yet; train one, or choose a folder.")
        record = self._records[Path(folder)]
        return Plan(
            said=str(record.get("title") or record["method"]),
            encoder=str(record.get("encoder") or "auto"),
            model=Path(folder),
        )

    def _list(self, folder: Path) -> None:
        from spotscope.methods.base import read_record

        if folder in self._records:
            return
        try:
            record = read_record(folder)
        except SpotScopeError:
            return
        self._records[folder] = record
        self.models.insertItem(0, folder.name, str(folder))
        self.models.setItemData(0, str(folder), Qt.ItemDataRole.ToolTipRole)
        self.models.setCurrentIndex(0)

    def _on_model(self, *_: object) -> None:
        folder = self.models.currentData()
        record = self._records.get(Path(folder)) if folder else None
        self.about.setText("" if record is None else self._about(record))
        self.edited.emit()

    def _about(self, record: dict[str, Any]) -> str:
        from spotscope.data.prediction import protocol_of

        encoder = record.get("encoder")
        lines = [
            str(record.get("title") or record["method"]) + (f" on {encoder}" if encoder else ""),
            f"Trained on {', '.join(record.get('training_sections', []))}"
            f" (patients {', '.join(record.get('training_patients', []))})",
        ]
        if self._section is not None:
            lines.append(f"For this section: {protocol_of(record, self._section.section)}")
        return "\n".join(lines)

    def _on_choose(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "A model's folder")
        if not folder:
            return
        try:
            self.add_model(Path(folder))
        except SpotScopeError as error:
            self.about.setText(str(error))


class TrainPage(QWidget):
    """Chooses what to train, and on which sections."""

    edited = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._methods: dict[str, Any] = {}
        self._section: OpenSection | None = None
        self.form: SettingsForm | None = None
        self.method = QComboBox()
        self.encoder = QComboBox()
        self.encoder.setEditable(True)
        for box in (self.method, self.encoder):
            _let_shrink(box)
        self.summary = wrapped("")
        top = QFormLayout()
        top.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        top.addRow("Method", self.method)
        top.addRow("Image encoder", self.encoder)
        self.sections = QListWidget()
        self.sections.setMinimumHeight(60)
        self.add = QPushButton("Add section …")
        self.settings = QCollapsible("Settings")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(top)
        layout.addWidget(self.summary)
        layout.addWidget(wrapped("Train on"))
        layout.addWidget(self.sections, 1)
        layout.addWidget(self.add, 0, Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(self.settings)
        self.method.currentIndexChanged.connect(self._on_method)
        self.encoder.editTextChanged.connect(lambda _: self.edited.emit())
        self.sections.itemChanged.connect(lambda _: self.edited.emit())
        self.add.clicked.connect(self._on_add)

    def show_methods(self, methods: dict[str, Any], encoders: list[Any]) -> None:
        """List the methods and the encoders that can run here."""
        self._methods = methods
        self.method.blockSignals(True)
        self.method.clear()
        for name, method in methods.items():
            self.method.addItem(method.title, name)
        self.method.setCurrentIndex(max(self.method.findData("ridge"), 0))
        self.method.blockSignals(False)
        self.encoder.clear()
        for info in encoders:
            if info.at_hand:
                self.encoder.addItem(info.spec)
                place = self.encoder.count() - 1
                self.encoder.setItemData(place, info.title, Qt.ItemDataRole.ToolTipRole)
        self._on_method()

    def show_sections(self, active: OpenSection, opened: list[OpenSection]) -> None:
        """List the sections to train on: those that are open, and those beside the active one.

        Chosen are those of other patients, so that the active section is a stranger to the model;
        where there is one patient only, the other sections.
        """
        self._section = active
        found: dict[Path, dict[str, Any]] = {}
        for one in opened:
            if one.section.has_spots:
                found[one.path] = _said(one.name, one.section.patient, one.n_spots)
        for path in sorted(active.path.parent.glob("*.zarr")):
            about = _about_store(path)
            if about is not None:
                found.setdefault(path, about)
        others = {path: a for path, a in found.items() if path != active.path}
        patient = active.section.patient
        strangers = {path for path, a in others.items() if a["patient"] != patient}
        self.sections.blockSignals(True)
        self.sections.clear()
        for path, about in found.items():
            self._list(path, about, path in (strangers or set(others)))
        self.sections.blockSignals(False)
        self.edited.emit()

    def add_section(self, path: Path) -> None:
        """List one more section, and choose it.

        Raises
        ------
        SpotScopeError
            When it is no store of a section with spots.
        """
        about = _about_store(path)
        if about is None:
            raise SpotScopeError(f"'{path.name}' is no section with spots; import it first.")
        self._list(path, about, True)
        self.edited.emit()

    def chosen(self) -> list[dict[str, Any]]:
        """Return what is known of the chosen sections."""
        items = [self.sections.item(row) for row in range(self.sections.count())]
        return [
            item.data(Qt.ItemDataRole.UserRole)
            for item in items
            if item is not None and item.checkState() == Qt.CheckState.Checked
        ]

    def plan(self) -> Plan:
        """Return what a run would do."""
        name = self.method.currentData()
        if name is None:
            return Plan(why_not="Looking for methods …")
        chosen = self.chosen()
        if not chosen:
            return Plan(why_not="Choose at least one section to train on.")
        method, encoder = self._methods[name], self.encoder.currentText().strip() or "auto"
        spots = sum(one["n_spots"] for one in chosen)
        patients = {one["patient"] for one in chosen}
        settings = self.form.values() if self.form else {}
        paths = [one["path"] for one in chosen]
        out = models_folder() / f"{name}-{datetime.now():%Y-%m-%d-%H%M%S}"

        def make(progress: Progress) -> Path:
            from spotscope.jobs.training import train_model

            return train_model(
                name, paths, out, encoder=encoder, settings=settings, progress=progress
            )

        on = f"{len(chosen)} sections" if len(chosen) > 1 else f"section {chosen[0]['name']}"
        of = f"{len(patients)} patients" if len(patients) > 1 else f"patient {patients.pop()}"
        return Plan(
            said=f"Trains {method.title} on {on} of {of} ({spots:,} spots)",
            encoder=encoder,
            n_training_spots=spots,
            make=make,
        )

    def _list(self, path: Path, about: dict[str, Any], chosen: bool) -> None:
        active = self._section is not None and path == self._section.path
        name = f"{about['name']} · patient {about['patient']} · {about['n_spots']:,} spots"
        item = QListWidgetItem(name + active * "  (this one)")
        item.setData(Qt.ItemDataRole.UserRole, {**about, "path": path})
        item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
        item.setCheckState(Qt.CheckState.Checked if chosen else Qt.CheckState.Unchecked)
        item.setToolTip(str(path))
        self.sections.addItem(item)

    def _on_method(self, *_: object) -> None:
        name = self.method.currentData()
        if name is None:
            return
        method = self._methods[name]
        self.summary.setText(method.summary[:1].upper() + method.summary[1:] + ".")
        self.encoder.setEnabled(getattr(method, "uses_encoder", True))
        self.form = SettingsForm(method.Settings)
        self.form.edited.connect(self.edited.emit)
        self.settings.setContent(self.form)
        self.settings.collapse(animate=False)
        self.edited.emit()

    def _on_add(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "A section's store (.zarr)")
        if not folder:
            return
        try:
            self.add_section(Path(folder))
        except SpotScopeError as error:
            self.summary.setText(str(error))


def _about_store(path: Path) -> dict[str, Any] | None:
    """Return what the store of a section with spots says of itself, without opening it."""
    from spotscope.data.store import ATTRIBUTE, root_attributes

    try:
        about = root_attributes(path).get(ATTRIBUTE)
    except SpotScopeError:
        return None
    if not about or not about.get("n_spots"):
        return None
    return _said(about["name"], about["patient"], about["n_spots"])


def _said(name: str, patient: str, n_spots: int) -> dict[str, Any]:
    return {"name": name, "patient": patient, "n_spots": n_spots}


def _let_shrink(box: QComboBox) -> None:
    """Keep long entries from widening the dock."""
    box.setMinimumContentsLength(10)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
