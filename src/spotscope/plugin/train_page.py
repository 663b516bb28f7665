"""What to train, on which sections, and how: the form of the Train dock."""

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
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from spotscope.errors import SpotScopeError
from spotscope.jobs.opening import Listed, listed, listed_in
from spotscope.plugin.forms import SettingsForm
from spotscope.plugin.model_pages import let_shrink, models_folder
from spotscope.plugin.section_tree import SectionTree
from spotscope.plugin.widgets import folding, wrapped

if TYPE_CHECKING:
    from pydantic import BaseModel

    from spotscope.plugin.opened import OpenSection


@dataclass(frozen=True)
class TrainPlan:
    """What a training would do.

    Attributes
    ----------
    method, encoder, settings
        As `train_model` takes them.
    title
        Of the method.
    sections, validation
        Stores.
    said
        The same as a sentence.
    why_not
        Why it cannot be started now, as a sentence.
    epochs
        Whether it learns in epochs, so that there are curves to watch.
    """

    method: str = ""
    title: str = ""
    encoder: str = "auto"
    settings: dict[str, Any] | None = None
    sections: tuple[Path, ...] = ()
    validation: tuple[Path, ...] = ()
    said: str = ""
    why_not: str | None = None
    epochs: bool = True

    def folder(self) -> Path:
        """Return where to keep the model."""
        return models_folder() / f"{self.method}-{datetime.now():%Y-%m-%d-%H%M%S}"


def presets(settings: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """Return the named starting points of a method's settings."""
    found: dict[str, dict[str, Any]] = {"Recommended": {}}
    if "trainable" in settings.model_fields:
        found["Quick (image network frozen)"] = {"trainable": "none"}
    if "paper_compat" in settings.model_fields:
        found["As published"] = {"paper_compat": True}
    return found


class TrainPage(QWidget):
    """Chooses method, settings, device and sections."""

    edited = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._methods: dict[str, Any] = {}
        self._active = Path()
        self.form: SettingsForm | None = None
        self.method, self.preset = QComboBox(), QComboBox()
        self.encoder, self.device = QComboBox(), QComboBox()
        self.encoder.setEditable(True)
        self.encoder.setToolTip("What the image is turned into; stain needs no weights")
        self.weights = QPushButton("File …")
        self.weights.setToolTip("Weights of your own: safetensors, or a state dict of PyTorch")
        encoder = QHBoxLayout()
        encoder.addWidget(self.encoder, 1)
        encoder.addWidget(self.weights)
        top = QFormLayout()
        top.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for name, box in (
            ("Method", self.method),
            ("Preset", self.preset),
            ("Image encoder", self.encoder),
            ("Device", self.device),
        ):
            let_shrink(box)
            top.addRow(name, encoder if box is self.encoder else box)
        self.summary = wrapped("")
        self.sections = SectionTree()
        self.add = QPushButton("Add section …")
        self.settings = folding("Settings")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(top)
        layout.addWidget(self.summary)
        layout.addWidget(self.sections, 1)
        layout.addWidget(self.add, 0, Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(self.settings)
        self.method.currentIndexChanged.connect(self._on_method)
        self.preset.currentIndexChanged.connect(self._on_preset)
        self.encoder.editTextChanged.connect(lambda _: self.edited.emit())
        self.device.currentIndexChanged.connect(lambda _: self.edited.emit())
        self.sections.edited.connect(self.edited.emit)
        self.add.clicked.connect(self._on_add)
        self.weights.clicked.connect(self._on_weights)

    def show_methods(
        self, methods: dict[str, Any], encoders: list[Any], devices: dict[str, str]
    ) -> None:
        """List the methods, and the encoders and devices that can be used here."""
        self._methods = methods
        for box in (self.method, self.encoder, self.device):
            box.blockSignals(True)
            box.clear()
        for name, method in methods.items():
            self.method.addItem(method.title, name)
        self.method.setCurrentIndex(max(self.method.findData("ridge"), 0))
        for info in encoders:
            if info.at_hand:
                self.encoder.addItem(info.spec)
                place = self.encoder.count() - 1
                self.encoder.setItemData(place, info.title, Qt.ItemDataRole.ToolTipRole)
        for spec, title in devices.items():
            self.device.addItem(title, spec)
        for box in (self.method, self.encoder, self.device):
            box.blockSignals(False)
        self._on_method()

    def show_sections(self, active: OpenSection, opened: list[OpenSection]) -> None:
        """List the sections to train on: those that are open, and those beside the active one.

        Chosen are those of other patients, so that the active section is a stranger to the model;
        where there is one patient only, the other sections.
        """
        self._active = active.path
        found = {
            one.path: Listed(one.path, one.name, one.section.patient, one.n_spots)
            for one in opened
            if one.section.has_spots
        }
        for one in listed_in(active.path.parent):
            found.setdefault(one.path, one)
        others = {path: one for path, one in found.items() if path != active.path}
        patient = active.section.patient
        strangers = {path for path, one in others.items() if one.patient != patient}
        listing = sorted(found.values(), key=lambda one: (one.patient, one.name))
        proposed = {others[path].name: path for path in sorted(strangers or others, reverse=True)}
        self.sections.show_sections(listing, active.path, set(proposed.values()))

    def add_section(self, path: Path) -> None:
        """List one more section, and choose it.

        Raises
        ------
        SpotScopeError
            When it is no store of a section with spots.
        """
        found = listed(path)
        if found is None:
            raise SpotScopeError(f"'{path.name}' is no section with spots; import it first.")
        self.sections.add(found, self._active)

    def plan(self) -> TrainPlan:
        """Return what a training would do."""
        name = self.method.currentData()
        if name is None:
            return TrainPlan(why_not="Looking for methods …")
        chosen, held = self.sections.chosen(), self.sections.validating()
        if not chosen:
            return TrainPlan(why_not="Choose at least one section to train on.")
        names = [one.name for one in (*chosen, *held)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            return TrainPlan(
                why_not=f"Two of the chosen sections are called {twice[0]}; choose one of them, or"
                " import the other under another name."
            )
        method = self._methods[name]
        said = f"Trains {method.title} on {_counted(chosen)}"
        if held:
            said += f", validates on {_counted(held)}"
        settings = self.form.values() if self.form else {}
        if "device" in method.Settings.model_fields:
            settings["device"] = self.device.currentData() or "auto"
        return TrainPlan(
            method=name,
            title=method.title,
            encoder=self.encoder.currentText().strip() or "auto",
            settings=settings,
            sections=tuple(one.path for one in chosen),
            validation=tuple(one.path for one in held),
            said=said,
            epochs="epochs" in method.Settings.model_fields,
        )

    def trains_on(self, path: Path) -> bool:
        """Whether the section of that store is chosen, to train or to validate on."""
        return any(
            one.path == path for one in (*self.sections.chosen(), *self.sections.validating())
        )

    def _on_method(self, *_: object) -> None:
        name = self.method.currentData()
        if name is None:
            return
        method = self._methods[name]
        self.summary.setText(method.summary[:1].upper() + method.summary[1:] + ".")
        for widget in (self.encoder, self.weights):
            widget.setEnabled(getattr(method, "uses_encoder", True))
        chooses = "device" in method.Settings.model_fields
        self.device.setEnabled(chooses and self.device.count() > 1)
        self.device.setToolTip(
            "No graphics card that can train was found."
            if chooses and self.device.count() < 2
            else ""
            if chooses
            else "This method is quick and runs on the processor."
        )
        self.preset.blockSignals(True)
        self.preset.clear()
        for title, values in presets(method.Settings).items():
            self.preset.addItem(title, values)
        self.preset.blockSignals(False)
        self._on_preset()

    def _on_preset(self, *_: object) -> None:
        method = self._methods[self.method.currentData()]
        if self.form is not None:  # or the forms of all methods pile up
            self.settings.layout().removeWidget(self.form)
            self.form.deleteLater()
        self.form = SettingsForm(method.Settings, self.preset.currentData(), without=("device",))
        self.form.edited.connect(self._on_settings)
        self.settings.setContent(self.form)
        self.settings.collapse(animate=False)
        self._on_settings()

    def _on_settings(self) -> None:
        assert self.form is not None
        changed = self.form.values() != self.preset.currentData()
        self.settings.setText("Settings" + " (changed)" * changed)
        self.edited.emit()

    def _on_weights(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Weights of an image network", filter="Weights (*.safetensors *.pt *.pth *.bin)"
        )
        if path:
            self.encoder.setEditText(f"local:{path}")

    def _on_add(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "A section's store (.zarr)")
        if not folder:
            return
        try:
            self.add_section(Path(folder))
        except SpotScopeError as error:
            self.summary.setText(str(error))


def _counted(sections: list[Listed]) -> str:
    """Say how many sections, patients and spots there are."""
    patients = sorted({one.patient for one in sections})
    spots = sum(one.n_spots for one in sections)
    on = f"{len(sections)} sections" if len(sections) > 1 else f"section {sections[0].name}"
    of = f"{len(patients)} patients" if len(patients) > 1 else f"patient {patients[0]}"
    return f"{on} of {of} ({spots:,} spots)"
