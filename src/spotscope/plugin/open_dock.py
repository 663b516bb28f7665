"""Open: pick a source, look at what it is, and import or open it."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from spotscope.errors import SpotScopeError
from spotscope.plugin.preview import PreviewPicture, ScaleChoice
from spotscope.plugin.start import StartPanel
from spotscope.plugin.widgets import Dock, folding, wrapped
from spotscope.plugin.words import in_fields

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from superqt import QCollapsible

    from spotscope.data.importing import ImportPreview
    from spotscope.plugin.opened import OpenSection
    from spotscope.progress import Progress

_EXTRA = {
    "image": ("Slide", "The H&E picture, when it does not lie with the counts"),
    "spots": ("Spots", "The positions of the spots, when they do not lie with the counts"),
    "labels": ("Labels", "A table of subtypes by spot"),
}


class DropArea(QFrame):
    """Takes a file or a folder that is dropped on it."""

    def __init__(self, dropped: Any) -> None:
        super().__init__()
        self._dropped = dropped
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.setAcceptDrops(True)
        layout = QVBoxLayout(self)
        layout.addWidget(
            wrapped(
                "Drop a slide, a section store (.zarr), a Space Ranger folder, an .h5ad or a table"
                " of counts here, or choose"
            )
        )
        row = QHBoxLayout()
        self.file = QPushButton("File …")
        self.folder = QPushButton("Folder …")
        row.addWidget(self.file)
        row.addWidget(self.folder)
        layout.addLayout(row)

    def dragEnterEvent(self, event: Any) -> None:
        """Accept files from a file manager."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:
        """Take the first file."""
        urls = event.mimeData().urls()
        if urls and urls[0].isLocalFile():
            event.acceptProposedAction()
            self._dropped(Path(urls[0].toLocalFile()))


class OpenDock(Dock):
    """Imports what a laboratory hands over, or opens what was imported before."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(napari_viewer)
        self.source: Path | None = None
        self.preview: ImportPreview | None = None
        self.area = DropArea(self.pick)
        self.area.file.clicked.connect(self._on_file)
        self.area.folder.clicked.connect(self._on_folder)
        self.body.addWidget(self.area)
        self.body.addWidget(self.job_bar)
        self.body.addWidget(self.message)
        self.details = QWidget()
        self._build_details()
        self.body.addWidget(self.details)
        self.details.hide()
        self.start = StartPanel(self.viewer, "Or begin with", with_open=False)
        self.body.addWidget(self.start)
        self.body.addStretch(1)

    def pick(self, path: Path) -> None:
        """Look at a source; a section that was imported before is opened at once."""
        self.source, self.preview = Path(path), None
        self.details.hide()
        if self._is_store(self.source):
            self._open(self.source)
            return
        for line in self.extra.values():
            line.clear()
        self._look()

    # -- building ---------------------------------------------------------------------------

    def _build_details(self) -> None:
        layout = QVBoxLayout(self.details)
        layout.setContentsMargins(0, 0, 0, 0)
        self.picture = PreviewPicture()
        self.found = wrapped("")
        self.warnings = wrapped("")
        self.scale = ScaleChoice()
        self.patient, self.name, self.store = QLineEdit(), QLineEdit(), QLineEdit()
        self.patient.setPlaceholderText("whose tissue it is")
        self.link = QCheckBox("Leave the slide where it is")
        form = QFormLayout()
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Patient", self.patient)
        form.addRow("Name", self.name)
        form.addRow("Store", self.store)
        form.addRow(self.link)
        layout.addWidget(self.picture)
        layout.addWidget(self.found)
        layout.addWidget(self.warnings)
        layout.addWidget(QLabel("Micrometres per pixel"))
        layout.addWidget(self.scale)
        layout.addLayout(form)
        layout.addWidget(self._build_extra())
        row = QHBoxLayout()
        self.do_import = QPushButton("Import")
        self.do_import.clicked.connect(self._on_import)
        self.as_is = QPushButton("Only look")
        self.as_is.setToolTip("Open the slide as it is; predictions need an import")
        self.as_is.clicked.connect(self._on_as_is)
        row.addWidget(self.do_import, 1)
        row.addWidget(self.as_is)
        layout.addLayout(row)
        self.scale.changed.connect(self._check)
        self.store.textChanged.connect(lambda _: self._check())

    def _build_extra(self) -> QCollapsible:
        more = folding("More files")
        content = QWidget()
        form = QFormLayout(content)
        form.setContentsMargins(0, 0, 0, 0)
        self.extra: dict[str, QLineEdit] = {}
        for key, (title, tip) in _EXTRA.items():
            line, browse = QLineEdit(), QPushButton("…")
            line.setToolTip(tip)
            browse.setFixedWidth(30)
            browse.clicked.connect(lambda _, line=line: self._on_browse(line))
            row = QHBoxLayout()
            row.addWidget(line, 1)
            row.addWidget(browse)
            form.addRow(title, row)
            line.editingFinished.connect(self._look)
            self.extra[key] = line
        more.setContent(content)
        more.collapse(animate=False)
        self.more = more
        return more

    # -- looking ----------------------------------------------------------------------------

    def _files(self) -> dict[str, Any]:
        entered = {key: line.text().strip() for key, line in self.extra.items()}
        return {key: path for key, path in entered.items() if path}

    def _look(self) -> None:
        """Read what an import would make."""
        if self.source is None or self.job_bar.running:
            return
        source, files = self.source, self._files()

        def work(progress: Progress) -> ImportPreview:
            from spotscope.data.importing import preview_source

            try:
                return preview_source(source, **files)
            except SpotScopeError as error:
                raise SpotScopeError(in_fields(str(error))) from error

        job = self.run_job(f"Looking at {source.name}", work, self._on_preview)
        job.failed.connect(self._on_unseen)

    def _on_unseen(self, _: object) -> None:
        """Let the user name the files that were not found."""
        self.details.show()
        for widget in (self.picture, self.found, self.warnings, self.scale, self.as_is):
            widget.hide()
        self.do_import.setEnabled(False)
        self.do_import.setToolTip("The sentence above says what is missing.")
        self.more.expand(animate=False)

    def _on_preview(self, preview: ImportPreview) -> None:
        assert self.source is not None
        self.preview = preview
        self.picture.show_preview(preview)
        rows, cols = preview.shape_px
        lines = [f"{preview.kind[:1].upper()}{preview.kind[1:]}, {cols:,} × {rows:,} px"]
        if preview.n_spots:
            lines.append(f"{preview.n_spots:,} spots, {preview.n_genes:,} genes")
        if preview.labels:
            lines.append(f"{len(preview.labels)} subtypes: {', '.join(preview.labels)}")
        self.found.setText("\n".join(lines))
        self.warnings.setText("\n".join(f"⚠ {in_fields(said)}" for said in preview.warnings))
        self.warnings.setVisible(bool(preview.warnings))
        self.scale.show_sources(preview.mpp_sources, preview.mpp_um)
        self.patient.setText(preview.patient)
        self.name.setText(preview.name)
        self.store.setText(str(_free(self.source.absolute().parent / f"{preview.name}.zarr")))
        flat = preview.image.suffix.lower() in (".jpg", ".jpeg", ".png")
        self.link.setEnabled(not flat)
        self.link.setChecked(False)
        self.link.setToolTip(
            "A flat picture cannot be browsed where it lies; it is copied."
            if flat
            else "Saves space; the slide must then stay where it is or beside the store"
        )
        self.details.show()
        for widget in (self.picture, self.found, self.scale):
            widget.show()
        self.as_is.setVisible(not preview.n_spots)
        if not any(self._files().values()):
            self.more.collapse(animate=False)
        self._check()

    def _check(self) -> None:
        """Switch Import off, with the reason, while something is missing."""
        reason = None
        store = Path(self.store.text().strip() or ".")
        if self.scale.mpp_um() is None:
            reason = "Enter the micrometres per pixel first."
        elif store.suffix != ".zarr":
            reason = "The store's name must end in .zarr."
        elif store.exists():
            reason = f"{store.name} exists already; choose another name."
        self.do_import.setEnabled(reason is None and self.preview is not None)
        self.do_import.setToolTip(reason or "Make a section of it; the originals stay as they are")

    # -- importing and opening --------------------------------------------------------------

    def _on_import(self) -> None:
        if self.source is None:
            return
        source, out, files = self.source, Path(self.store.text().strip()), self._files()
        options: dict[str, Any] = {
            **files,
            "mpp_um": self.scale.chosen_by_user(),
            "patient": self.patient.text().strip() or None,
            "name": self.name.text().strip() or None,
            "link": self.link.isChecked(),
        }

        def work(progress: Progress) -> OpenSection:
            from spotscope.data.importing import import_section
            from spotscope.plugin.reader import load

            try:
                import_section(source, out, **options, progress=progress.part(0, 0.95))
            except SpotScopeError as error:
                raise SpotScopeError(in_fields(str(error))) from error
            return load(out)

        self.run_job(f"Importing {source.name}", work, self._show)

    def _on_as_is(self) -> None:
        if self.source is not None:
            self._open(self.source)

    def _open(self, path: Path) -> None:
        from spotscope.plugin.reader import load

        self.run_job(f"Opening {path.name}", lambda progress: load(path), self._show)

    def _show(self, opened: OpenSection) -> None:
        from spotscope.plugin.docks import find_dock, open_dock
        from spotscope.plugin.script import show_section

        show_section(self.viewer, opened)
        self.details.hide()
        self.message.say(f"{opened.name} is open.")
        if find_dock(self.viewer, "Genes") is not None:
            open_dock(self.viewer, "Genes")

    def _is_store(self, path: Path) -> bool:
        from spotscope.data.store import ATTRIBUTE, root_attributes

        try:
            return ATTRIBUTE in root_attributes(path)
        except SpotScopeError:
            return False

    def _on_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "A slide, an .h5ad or a table of counts")
        if path:
            self.pick(Path(path))

    def _on_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "A section store or a Space Ranger folder")
        if path:
            self.pick(Path(path))

    def _on_browse(self, line: QLineEdit) -> None:
        path, _ = QFileDialog.getOpenFileName(self, line.toolTip())
        if path:
            line.setText(path)
            self._look()


def _free(store: Path) -> Path:
    """Return the path, or one with a number when it is taken."""
    path, count = store, 1
    while path.exists():
        count += 1
        path = store.with_name(f"{store.stem}-{count}.zarr")
    return path
