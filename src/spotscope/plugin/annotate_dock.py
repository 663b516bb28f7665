"""Annotate: classes, tools, undo, annotators, and whether everything is kept."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QButtonGroup,
    QColorDialog,
    QDockWidget,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QMenu,
    QMessageBox,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from spotscope.errors import SpotScopeError
from spotscope.plugin.annotation_classes import EXCLUDE
from spotscope.plugin.annotation_exchange import ClassFiles, Exchange
from spotscope.plugin.annotation_footer import Footer
from spotscope.plugin.annotation_keys import WindowKeys
from spotscope.plugin.annotation_people import Annotator, Compare
from spotscope.plugin.annotation_strokes import classify, unclassed
from spotscope.plugin.annotation_table import ClassTable, Tally
from spotscope.plugin.annotation_toolbar import ToolBar
from spotscope.plugin.widgets import Dock, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel

    from spotscope.annotate.document import AnnotationDocument

MARK, COMPARE = range(2)

_LOOK_EVERY_MS = 1_000
_AROUND_PITCHES = 16


class AnnotateDock(Dock):
    """Marks tissue on the slide, and the spots under it."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(napari_viewer, "Open a section to mark tissue and label its spots.")
        self._annotating = self.workspace.annotating
        self._keys = WindowKeys(self)
        self.title = wrapped("")
        self.body.addWidget(self.title)
        self._build_pages()
        self._build_tools()
        self._build_classes()
        self._build_people()
        self.exchange = Exchange(self)
        self.marking.addWidget(_line())
        self.marking.addWidget(self.exchange)
        self.marking.addStretch()
        self._build_footer()
        self._annotating.complained.connect(self._on_complained)
        self._timer = QTimer(self)
        self._timer.setInterval(_LOOK_EVERY_MS)
        self._timer.timeout.connect(self._look)
        self._timer.start()
        self.begin()

    def settle(self) -> None:
        """Take a place among the docks, and listen to the keys of the whole window."""
        super().settle()
        if self._settled and isalive(self):
            self._keys.listen()
            frame = self.parent()
            if isinstance(frame, QDockWidget):  # it alone is told when a tab covers it
                frame.visibilityChanged.connect(self._on_seen)

    def _on_seen(self, seen: bool) -> None:
        """Lay the tool down when another tab comes to the front: a drag there moves the slide."""
        window = self.window()
        if not seen and isalive(self) and not (window and window.isMinimized()):
            self._annotating.choose_tool(None)

    def update_from(self, what: frozenset[str]) -> None:
        """Follow the workspace."""
        document = self.workspace.annotations
        if what & {"section", "annotations", "annotator"}:
            self._show_classes()
            self.kept.update_from()
        if what & {"annotation class", "section", "annotations"}:
            self.table.mark(self._annotating.classes.chosen)
        if what & {"tool", "section", "annotation class", "selection"}:
            self.tools.update_from(what)
        if document is not None and what & {"section", "annotations", "annotator"}:
            self._show_people(document)
        if "section" in what:
            QTimer.singleShot(0, self._show_labels)
        if "tool" in what and self.workspace.tool == "grow":
            self._find_clusters()
        if what & {"tool", "section", "annotations"} and self.message.text:
            self.message.clear()

    def attempt(self, act: Callable[[], Any]) -> None:
        """Do something, or say why it cannot be done."""
        self.message.clear()
        try:
            act()
        except SpotScopeError as error:
            self.message.say(str(error))
            self._show_classes()

    def show_page(self, page: int) -> None:
        """Show MARK or COMPARE."""
        self.pages.button(page).setChecked(True)
        for place, widget in enumerate(self._pages):
            widget.setVisible(place == page)

    # -- parts ------------------------------------------------------------------------------

    def _build_pages(self) -> None:
        self.pages = QButtonGroup(self)
        self.compare = Compare(self.workspace)
        self.compare.spot_chosen.connect(self.go_to)
        page = QWidget()
        self.marking = QVBoxLayout(page)
        self.marking.setContentsMargins(0, 0, 0, 0)
        self._pages = (page, self.compare)
        row = QHBoxLayout()
        row.setSpacing(2)
        for place, name in enumerate(("Mark", "Compare annotators")):
            button = QPushButton(name)
            button.setCheckable(True)
            button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            self.pages.addButton(button, place)
            row.addWidget(button)
        self.pages.idClicked.connect(self.show_page)
        self.body.addLayout(row)
        for widget in self._pages:
            self.body.addWidget(widget, 1)
        self.show_page(MARK)

    def _build_tools(self) -> None:
        self.tools = ToolBar(self.workspace)
        self.tools.tool_chosen.connect(
            lambda tool: self.attempt(lambda: self._annotating.choose_tool(tool))
        )
        self.tools.growing_changed.connect(self._find_clusters)
        self.marking.addWidget(self.tools)

    def _build_people(self) -> None:
        self.annotator = Annotator(self.workspace)
        self.annotator.named.connect(
            lambda name: self.attempt(lambda: self._annotating.name_annotator(name))
        )
        self.annotator.whose.connect(self._annotating.show)
        self.marking.addWidget(_line())
        self.marking.addWidget(self.annotator)

    def _build_classes(self) -> None:
        classes = self._annotating.classes
        self.table = ClassTable()
        self.table.chosen.connect(lambda name: self.attempt(lambda: classes.choose(name)))
        self.table.renamed.connect(lambda old, new: self.attempt(lambda: classes.rename(old, new)))
        self.table.keyed.connect(self._on_key)
        self.table.colour_asked.connect(self._ask_colour)
        self.new = QLineEdit()
        self.new.setPlaceholderText("New class, such as invasive cancer")
        self.new.returnPressed.connect(self._on_add)
        self.add = QPushButton("Add")
        self.add.clicked.connect(self._on_add)
        self.more = QPushButton("More")
        self.more.setToolTip("Remove, leave out, import and export classes")
        self.files = ClassFiles(self)
        menu = QMenu(self)
        self.exclude = menu.addAction(f"Add the class “{EXCLUDE}”: left out of learning")
        self.exclude.triggered.connect(
            lambda: self.attempt(lambda: classes.add(EXCLUDE, exclude=True))
        )
        self.remove = menu.addAction("Remove the chosen class")
        self.remove.triggered.connect(self._on_remove)
        self.classify = menu.addAction("")
        self.classify.triggered.connect(self._on_classify)
        menu.addSeparator()
        menu.addAction("Import classes …").triggered.connect(self.files.ask_import)
        menu.addAction("Export classes …").triggered.connect(lambda: self.files.ask_export())
        menu.addAction("Export classes for QuPath …").triggered.connect(
            lambda: self.files.ask_export(qupath=True)
        )
        menu.aboutToShow.connect(self._prepare_menu)
        self.more.setMenu(menu)
        row = QHBoxLayout()
        row.addWidget(self.new, 1)
        row.addWidget(self.add)
        row.addWidget(self.more)
        self.marking.addWidget(self.table)
        self.marking.addLayout(row)

    def _build_footer(self) -> None:
        self.kept = Footer(self)
        self.footer.addWidget(_line())
        for widget in (self.message, self.job_bar, self.kept):
            self.footer.addWidget(widget)

    # -- showing ----------------------------------------------------------------------------

    def _show_classes(self) -> None:
        opened, document = self.workspace.section, self.workspace.annotations
        assert opened is not None
        alone = "slide alone" if opened.section.store is None else "no spots"
        spots = f"{opened.n_spots:,} spots" if opened.n_spots else alone
        self.title.setText(f"<b>{opened.name}</b> · patient {opened.section.patient} · {spots}")
        for widget in (self.tools, self.table, self.new, self.add, self.more, self.annotator):
            widget.setEnabled(document is not None and not document.read_only)
        tally = Tally.of_section(opened, self._annotating)
        self.table.show_classes(self._annotating.classes.listed, tally)

    def _show_people(self, document: AnnotationDocument) -> None:
        self.annotator.update_from(document)
        several = len(document.annotators) > 1
        button = self.pages.button(COMPARE)
        button.setEnabled(several)
        button.setToolTip(
            "How far annotators agree, and where they differ"
            if several
            else "Only one has annotated this section; write another name to annotate as another"
        )
        if not several:
            self.show_page(MARK)
        self.compare.update_from()

    def _show_labels(self) -> None:
        """Show the labels there are, unless the user looks at a gene or at predicted subtypes."""
        workspace = self.workspace
        if not isalive(self) or workspace.section is None or workspace.gene is not None:
            return
        if workspace.view == "predicted subtype":
            return
        known = self.workspace.section.subtypes
        if self._annotating.is_open and known is not None and (known[1] >= 0).any():
            self.workspace.show("subtype")

    def _look(self) -> None:
        """Write what waits for the disk when there is room again, and say so."""
        document = self.workspace.annotations if self._annotating.is_open else None
        if document is not None and document.trouble:
            document.flush()
            self.kept.update_from()

    def _on_complained(self, sentence: str) -> None:
        if isalive(self):
            self.message.say(sentence)

    # -- hands ------------------------------------------------------------------------------

    def go_to(self, spot: int) -> None:
        """Show a spot in the middle of the canvas, and select it for a number key."""
        opened = self.workspace.section
        assert opened is not None
        camera = self.viewer.scene.camera
        row, col = opened.centres_px[spot] * opened.mpp_um
        camera.center = (*camera.center[:-2], row, col)
        height = self.viewer.canvas.size[0]
        camera.zoom = height / (_AROUND_PITCHES * opened.pitch_px * opened.mpp_um)
        self._annotating.select([spot])

    def _on_add(self) -> None:
        name = self.new.text()
        if name.strip():
            self.attempt(lambda: self._annotating.classes.add(name))
            self.new.clear()

    def _on_key(self, name: str, text: str) -> None:
        if text and (not text.isdigit() or not 1 <= int(text) <= 9):
            self.message.say("A class has a key from 1 to 9, or none.")
            self._show_classes()
            return
        self.attempt(lambda: self._annotating.classes.set_key(name, int(text) if text else None))

    def _ask_colour(self, name: str) -> None:
        from qtpy.QtGui import QColor

        known = next(one for one in self._annotating.classes.listed if one.name == name)
        dialog = QColorDialog(QColor(known.colour), self)
        dialog.setWindowTitle(f"Colour of {name}")
        dialog.setOption(QColorDialog.ColorDialogOption.DontUseNativeDialog)
        dialog.colorSelected.connect(
            lambda colour: self.attempt(
                lambda: self._annotating.classes.recolour(name, colour.name())
            )
        )
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()

    def _prepare_menu(self) -> None:
        document = self.workspace.annotations
        chosen = self._annotating.classes.chosen
        self.remove.setText(f"Remove {chosen}" if chosen else "Remove the chosen class")
        self.remove.setEnabled(chosen is not None)
        self.exclude.setEnabled(document is not None and document.vocabulary.excluded is None)
        bare = len(unclassed(self._annotating))
        outlines = "1 outline" if bare == 1 else f"{bare:,} outlines"
        self.classify.setVisible(bare > 0)
        self.classify.setEnabled(chosen is not None)
        self.classify.setText(
            f"{outlines} without class: make {chosen}"
            if chosen
            else f"{outlines} without class: choose a class to give"
        )

    def _on_classify(self) -> None:
        name = self._annotating.classes.chosen
        if name is not None:
            self.attempt(lambda: classify(self._annotating, name))

    def _on_remove(self) -> None:
        name, document = self._annotating.classes.chosen, self.workspace.annotations
        if name is None or document is None:
            return
        spots = sum(int((document.labels(who) == name).sum()) for who in document.annotators)
        regions = sum(region.subtype == name for region in document.regions)
        if not spots and not regions:
            self.attempt(lambda: self._annotating.classes.remove(name))
            return
        box = QMessageBox(
            QMessageBox.Icon.Question,
            "SpotScope",
            f"Remove {name} from its {spots:,} spots and {regions:,} regions, of all annotators?"
            " Undo brings it back.",
            QMessageBox.StandardButton.Cancel,
            self,
        )
        box.addButton("Remove", QMessageBox.ButtonRole.AcceptRole).clicked.connect(
            lambda: self.attempt(lambda: self._annotating.classes.remove(name))
        )
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.open()

    def _find_clusters(self) -> None:
        growing = self._annotating.growing
        if not growing.ready and not self.job_bar.running:
            self.run_job(
                "Finding clusters",
                growing.find,
                lambda _: self.tools.update_from(frozenset({"tool"})),
            )


def _line() -> QFrame:
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    line.setFrameShadow(QFrame.Shadow.Sunken)
    return line
