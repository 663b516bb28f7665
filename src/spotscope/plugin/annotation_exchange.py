"""Annotations and classes from files and to files, as the Annotate dock offers it."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qtpy.QtCore import QObject
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QMenu, QPushButton, QWidget

from spotscope.plugin.annotation_strokes import unclassed

if TYPE_CHECKING:
    from spotscope.annotate.geojson import Unit
    from spotscope.plugin.annotate_dock import AnnotateDock

Form = Literal["geojson", "csv"]

_IMPORTS = (
    "Annotations (*.geojson *.json *.csv *.tsv *.ndpa);;GeoJSON of QuPath (*.geojson *.json);;"
    "Labels by barcode (*.csv *.tsv);;All files (*)"
)


class ClassFiles(QObject):
    """Imports and exports the classes.

    Parameters
    ----------
    dock
        Where a file is asked for and errors are said.
    """

    def __init__(self, dock: AnnotateDock) -> None:
        super().__init__(dock)
        self._dock = dock

    def ask_import(self) -> None:
        """Ask for a file of classes and take it."""
        path, _ = QFileDialog.getOpenFileName(self._dock, "Import classes", "", "Classes (*.json)")
        if path:
            self.take(Path(path))

    def take(self, path: Path) -> None:
        """Take the classes of a file of SpotScope or QuPath."""
        from spotscope.annotate.vocabulary import read_vocabulary

        classes = self._dock.workspace.annotating.classes
        self._dock.attempt(lambda: classes.take(read_vocabulary(path), path.name))

    def ask_export(self, qupath: bool = False) -> None:
        """Ask where to and write the classes."""
        name = "classes.json" if qupath else "spotscope-classes.json"
        path, _ = QFileDialog.getSaveFileName(
            self._dock, "Export classes", name, "Classes (*.json)"
        )
        if path:
            self.write(Path(path), qupath)

    def write(self, path: Path, qupath: bool = False) -> None:
        """Write the classes in the colours that are shown."""
        from spotscope.annotate.vocabulary import checked_vocabulary, write_vocabulary

        classes = self._dock.workspace.annotating.classes.listed
        self._dock.attempt(
            lambda: write_vocabulary(checked_vocabulary(classes), path, qupath=qupath)
        )


class Exchange(QWidget):
    """Imports and exports annotations.

    Parameters
    ----------
    dock
        Where a file is asked for, and errors are said.
    """

    def __init__(self, dock: AnnotateDock) -> None:
        super().__init__(dock)
        self._dock = dock
        self.read, self.write = QPushButton("Import"), QPushButton("Export")
        self.read.setToolTip(
            "Annotations of a file, under the names that it gives, else yours; one undo step"
        )
        self.write.setToolTip("The annotations that are shown, for other programs")
        reading, writing = QMenu(self), QMenu(self)
        for menu, button in ((reading, self.read), (writing, self.write)):
            button.setMenu(menu)
        reading.addAction("Outlines or labels: GeoJSON, NDPA, CSV …").triggered.connect(
            lambda: self.ask_import()
        )
        reading.addAction("GeoJSON in µm …").triggered.connect(lambda: self.ask_import("um"))
        writing.addAction("Outlines as GeoJSON, for QuPath …").triggered.connect(
            lambda: self.ask_export("geojson")
        )
        writing.addAction("Areas around labelled spots as GeoJSON …").triggered.connect(
            lambda: self.ask_export("geojson", of_spots=True)
        )
        writing.addAction("Labels by barcode as CSV, for Loupe Browser …").triggered.connect(
            lambda: self.ask_export("csv")
        )
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.read)
        row.addWidget(self.write)

    def ask_import(self, unit: Unit | None = None) -> None:
        """Ask for a file and take its annotations."""
        path, _ = QFileDialog.getOpenFileName(self._dock, "Import annotations", "", _IMPORTS)
        if path:
            self.take(Path(path), unit)

    def ask_export(self, form: Form, of_spots: bool = False) -> None:
        """Ask where to and write the annotations."""
        opened = self._dock.workspace.section
        assert opened is not None
        path, _ = QFileDialog.getSaveFileName(
            self._dock, "Export annotations", f"{opened.name}.{form}", f"{form} (*.{form})"
        )
        if path:
            self.put(Path(path), form, of_spots)

    def take(self, path: Path, unit: Unit | None = None) -> None:
        """Take the annotations of a file, as one step to undo, and say what came."""
        from spotscope.jobs.annotating import import_annotations

        opened, annotating = self._dock.workspace.section, self._dock.workspace.annotating

        def act() -> None:
            assert opened is not None
            document = annotating.writable()
            found = import_annotations(
                path, opened.section, document, unit=unit, border=annotating.border
            )
            counted = ((found.n_regions, "region", ""), (found.n_spots, "spot", " labelled"))
            parts = [f"{n:,} {one}{'s' if n > 1 else ''}{end}" for n, one, end in counted if n]
            said = f"{path.name}: {', '.join(parts) or 'nothing new'}."
            bare = len(unclassed(annotating))
            if found.n_regions and bare:
                outlines = "1 outline has" if bare == 1 else f"{bare:,} outlines have"
                found.notes.append(f"{outlines} no class: choose one, then give it in More.")
            if parts and not self._dock.workspace.why_not("subtype"):
                self._dock.workspace.show("subtype")  # or what came would not be seen
            self._dock.message.say(" ".join([said, *found.notes]))

        self._dock.attempt(act)

    def put(self, path: Path, form: Form, of_spots: bool = False) -> None:
        """Write the annotations that are shown to a file, and say what went."""
        from spotscope.jobs.annotating import export_annotations

        opened, annotating = self._dock.workspace.section, self._dock.workspace.annotating

        def act() -> None:
            document = annotating.document
            assert opened is not None
            assert document is not None
            whose = annotating.whose
            said, notes = export_annotations(
                document, opened.section, path, form, annotator=whose, of_spots=of_spots
            )
            self._dock.message.say(" ".join([f"{path.name}: {said} written.", *notes]))

        self._dock.attempt(act)
