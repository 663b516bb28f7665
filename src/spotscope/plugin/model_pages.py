"""The choice of a model."""

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
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from spotscope.errors import SpotScopeError
from spotscope.plugin.recent import data_folder
from spotscope.plugin.widgets import wrapped

if TYPE_CHECKING:
    from spotscope.plugin.workspace import Workspace


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
    model
        Its folder.
    """

    said: str = ""
    why_not: str | None = None
    encoder: str = "auto"
    model: Path | None = None


def models_folder() -> Path:
    """Return where models that are trained here are kept."""
    return data_folder() / "models"


class ModelPage(QWidget):
    """Chooses the workspace's model."""

    edited = Signal()

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self._workspace = workspace
        self._records: dict[Path, dict[str, Any]] = {}
        self.models = QComboBox()
        let_shrink(self.models)
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
        self.show_models()
        self.models.currentIndexChanged.connect(self._on_model)
        self.choose.clicked.connect(self._on_choose)

    @property
    def folder(self) -> Path | None:
        """The model that is chosen."""
        folder = self.models.currentData()
        return None if folder is None else Path(folder)

    @property
    def record(self) -> dict[str, Any] | None:
        """What the model says of itself."""
        return None if self.folder is None else self._records[self.folder]

    def show_models(self) -> None:
        """List the models that were trained here, the newest first."""
        folders = [path for path in models_folder().glob("*") if path.is_dir()]
        for folder in sorted(folders, key=lambda path: path.stat().st_mtime):
            self._list(folder)
        self.models.setCurrentIndex(0)

    def update_from(self, what: frozenset[str]) -> None:
        """Follow the workspace: its section, and its model where one is chosen."""
        folder = self._workspace.model
        if folder is not None and folder != self.folder:
            self._list(folder)
            self.models.setCurrentIndex(self.models.findData(str(folder)))
        self._say()

    def add_model(self, folder: Path) -> None:
        """Choose the model in a folder.

        Raises
        ------
        SpotScopeError
            When it holds no model.
        """
        from spotscope.methods.base import read_record

        read_record(folder)
        self._workspace.show_model(folder)

    def plan(self) -> Plan:
        """Return what a run would do."""
        record = self.record
        if record is None:
            return Plan(why_not="No model was trained here yet; train one, or choose its folder.")
        return Plan(
            said=str(record.get("title") or record["method"]),
            encoder=str(record.get("encoder") or "auto"),
            model=self.folder,
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
        before = self.models.blockSignals(True)
        self.models.insertItem(0, _name(record), str(folder))
        self.models.setItemData(0, str(folder), Qt.ItemDataRole.ToolTipRole)
        self.models.blockSignals(before)

    def _on_model(self, *_: object) -> None:
        self._workspace.show_model(self.folder)
        self._say()
        self.edited.emit()

    def _say(self) -> None:
        record = self.record
        self.about.setText("" if record is None else self._about(record))
        self.about.setToolTip("" if record is None else str(record.get("encoder") or ""))
        self.about.setVisible(record is not None)

    def _about(self, record: dict[str, Any]) -> str:
        from spotscope.data.prediction import made_with, protocol_of

        patients = record.get("training_patients", [])
        lines = [
            made_with(record),
            f"Trained on {', '.join(record.get('training_sections', []))}"
            f" (patient{'s' * (len(patients) != 1)} {', '.join(patients)})",
        ]
        if self._workspace.section is not None:
            protocol = protocol_of(record, self._workspace.section.section)
            lines.append(f"For this section: {protocol}")
        lines += record.get("notes", [])
        return "\n".join(lines)

    def _on_choose(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "A model's folder")
        if not folder:
            return
        try:
            self.add_model(Path(folder))
        except SpotScopeError as error:
            self.about.setText(str(error))
            self.about.show()


def _name(record: dict[str, Any]) -> str:
    """Say a model in a few words: when it was made, which a long title must not hide, and what."""
    title = str(record.get("title") or record["method"])
    try:
        made = datetime.fromisoformat(str(record.get("created")))
    except ValueError:  # of another program
        return title
    return f"{made.astimezone():%d %b %H:%M} · {title}"


def let_shrink(box: QComboBox) -> None:
    """Keep long entries from widening the dock."""
    box.setMinimumContentsLength(10)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
