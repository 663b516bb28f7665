"""Retrieve: click on the slide and see the measured spots that the model goes by there."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.compat import isalive
from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtGui import QColor, QIcon, QImage, QPainter, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
)

from spotscope.errors import SpotScopeError
from spotscope.plugin import colours
from spotscope.plugin.asked_place import AskedPlace
from spotscope.plugin.model_pages import ModelPage
from spotscope.plugin.recent import recent
from spotscope.plugin.retrieve_words import PICTURES, said_here, said_of, said_used
from spotscope.plugin.running import Job
from spotscope.plugin.widgets import Dock, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari.components import ViewerModel
    from numpy.typing import NDArray

    from spotscope.data.section import Section
    from spotscope.jobs.retrieving import Answer, Neighbour
    from spotscope.methods.base import Method
    from spotscope.plugin.opened import OpenSection
    from spotscope.progress import Progress

_PICTURE = 80  # pixels on the screen
_STRIP = 8
_SLOW_MS = 700
_DRAG_PX = 4
_AROUND = 8  # patches across the view of a spot that was gone to


class RetrieveDock(Dock):
    """Answers why a model predicts what it does at a place."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(
            napari_viewer, "Open a section to ask which measured spots a prediction goes by."
        )
        self._model: tuple[Path, Method] | None = None
        self._sections: dict[str, Section] = {}
        self._asking: Job | None = None
        self._next: tuple[OpenSection, tuple[float, float]] | None = None
        self._asked: tuple[OpenSection, Answer] | None = None
        self._limits = (0.0, 1.0)
        self._square = AskedPlace(self.viewer)
        self.page = ModelPage(self.workspace)
        self.asks = QCheckBox("Ask the slide: click on the tissue")
        self.asks.setChecked(True)
        self.asks.setToolTip("Off: clicks on the slide ask nothing")
        self.picture = QLabel()
        self.picture.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.here = wrapped("")
        self.here.setAlignment(Qt.AlignmentFlag.AlignTop)
        asked = QHBoxLayout()
        asked.addWidget(self.picture)
        asked.addWidget(self.here, 1)
        self.used = wrapped("")
        self.list = QListWidget()
        self.list.setIconSize(QSize(_PICTURE + _STRIP, _PICTURE))
        self.list.setWordWrap(True)
        self.list.setMinimumHeight(120)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.itemActivated.connect(self._on_chosen)
        self.hint = wrapped("Double-click a spot to see it on its own slide.")
        self.body.addWidget(self.page)
        self.body.addWidget(self.asks)
        self.body.addLayout(asked)
        self.body.addWidget(self.used)
        self.body.addWidget(self.list, 1)
        self.back = QPushButton()
        self.back.clicked.connect(self._on_back)
        self.body.addWidget(self.hint)
        self.body.addWidget(self.back)
        self.body.addWidget(self.message)
        self.body.addStretch()
        self.footer.addWidget(self.job_bar)
        self.page.edited.connect(self._on_model)
        self.viewer.mouse_drag_callbacks.append(self._on_mouse)
        self.begin()

    def update_from(self, what: frozenset[str]) -> None:
        """Follow the workspace; an answer stays while its spots are looked at on other slides."""
        asked = self._asked
        if "model" in what or (asked is not None and asked[0] not in self.workspace.sections):
            asked = self._asked = None
        if what & {"section", "model"}:
            self.page.update_from(what)
            self._square.clear()
            self._on_model()
            self._show()
        if asked is None:
            return
        if asked[1].gene != self.workspace.gene and self.workspace.gene is not None:
            self.ask(asked[1].centre_px, asked[0])
        elif "range" in what:
            self._show()

    # -- asking -----------------------------------------------------------------------------

    def ask(self, centre_px: tuple[float, float], section: OpenSection | None = None) -> None:
        """Ask about a place (row, col) of a section, by default the active one."""
        section, folder = section or self.workspace.section, self.page.folder
        if section is None:
            return
        if reason := self._why_not(section):
            self.message.say(reason)
            return
        assert folder is not None
        if self._asking is not None:
            self._next = section, centre_px
            self._asking.cancel()
            return
        gene = self.workspace.gene
        opened = [one.section for one in self.workspace.sections]
        folders = {path.parent for path in (section.path, *recent())}

        def work(progress: Progress) -> tuple[OpenSection, Answer]:
            from spotscope.jobs.retrieving import neighbours_at

            method = self._loaded(folder, progress)
            known = self._at_hand(method, folders, opened)
            answer = neighbours_at(
                method,
                section.section,
                centre_px,
                gene,
                sections=known,
                pictures=PICTURES,
                progress=progress,
            )
            return section, answer

        self.message.clear()
        self.here.setText("Looking …")
        job = Job(f"Asking {section.name}", work, self)
        job.finished.connect(self._on_answer)
        job.failed.connect(self._on_failed)
        job.ended.connect(self._on_ended)
        job.ended.connect(job.deleteLater)
        self._asking = job.start()
        QTimer.singleShot(_SLOW_MS, lambda: self._show_slow(job))

    def _loaded(self, folder: Path, progress: Progress) -> Method:
        from spotscope.methods.base import load_method

        if self._model is None or self._model[0] != folder:
            progress.report(0.0, "Reading the model")
            self._model = (folder, load_method(folder))
        return self._model[1]

    def _at_hand(self, method: Method, folders: set[Path], opened: list[Section]) -> list[Section]:
        from spotscope.jobs.retrieving import sections_at_hand

        wanted = method.provenance.training_sections
        missing = [name for name in wanted if name not in self._sections]
        if missing:
            found = sections_at_hand(missing, sorted(folders), opened)
            self._sections |= {one.name: one for one in found}
        return [self._sections[name] for name in wanted if name in self._sections]

    def _show_slow(self, job: Job) -> None:
        if isalive(self) and self._asking is job:
            self.job_bar.watch(job)

    def _on_answer(self, found: tuple[OpenSection, Answer]) -> None:
        section, answer = found
        if section not in self.workspace.sections or self._next is not None:
            return
        self._asked = found
        if section is self.workspace.section:
            self._square.show(section, answer.centre_px, answer.patch_um)
        self._show()

    def _on_failed(self, failure: Any) -> None:
        self._forget()
        self.message.fail(failure)

    def _on_ended(self) -> None:
        self._asking, following = None, self._next
        self._next = None
        if following is not None:
            self.ask(following[1], following[0])

    def _why_not(self, section: OpenSection | None) -> str | None:
        from spotscope.jobs.retrieving import why_no_neighbours
        from spotscope.methods.base import get_method

        record = self.page.record
        if record is None or section is None:
            return "No model was trained here yet; train one that predicts by retrieval in Train."
        try:
            reason = why_no_neighbours(get_method(record["method"]))
        except SpotScopeError as error:
            return str(error)
        if reason is None and section.name in record.get("training_sections", []):
            return (
                f"This model has learnt from {section.name}, so it would find the place itself;"
                " open a section that it was not trained on."
            )
        return reason

    def _on_model(self) -> None:
        reason = self._why_not(self.workspace.section)
        self.asks.setEnabled(reason is None)
        self.asks.setToolTip(reason or "Off: clicks on the slide ask nothing")
        if reason and self._asked is None:
            self.message.say(reason)
        else:
            self.message.clear()

    def _on_mouse(self, viewer: Any, event: Any) -> Iterator[None]:
        """Take a click, but not a drag, which moves the slide."""
        active = viewer.layers.selection.active
        wanted = (
            isalive(self)
            and self.isVisible()
            and self.asks.isChecked()
            and self.workspace.tool is None
            and self.workspace.section is not None
            and getattr(event, "button", 1) == 1
            and not event.modifiers
            and str(getattr(active, "mode", "pan_zoom")) == "pan_zoom"
        )
        if not wanted:
            return
        start, place = np.array(event.pos), event.position[-2:]
        yield
        while event.type == "mouse_move":
            if np.abs(np.array(event.pos) - start).max() > _DRAG_PX:
                return
            yield
        section = self.workspace.section
        if section is not None:
            self.ask((place[0] / section.mpp_um, place[1] / section.mpp_um))

    # -- showing ----------------------------------------------------------------------------

    def _forget(self) -> None:
        self._asked = None
        self._square.clear()
        self._show()

    def _show(self) -> None:
        asked = self._asked
        for widget in (self.picture, self.used, self.list, self.hint):
            widget.setVisible(asked is not None)
        active, gene = self.workspace.section, self.workspace.gene
        self.back.setVisible(asked is not None and asked[0] is not active)
        self.list.clear()
        if asked is None:
            self.here.setText("")
            return
        section, answer = asked
        self.back.setText(f"Back to the place on {section.name}")
        if section is active and gene is not None:
            self._limits = section.limits(gene, self.workspace.run, self.workspace.percentiles)
        self.picture.setPixmap(self._pixmap(answer.patch, answer.predicted))
        self.here.setText(said_here(section, answer))
        self.used.setText(said_used(answer))
        for one in answer.neighbours[:PICTURES]:
            picture = self._pixmap(one.patch, one.measured)
            icon = QIcon(picture)
            icon.addPixmap(picture, QIcon.Mode.Selected)  # or tissue that is chosen turns blue
            item = QListWidgetItem(icon, said_of(one, answer))
            item.setData(Qt.ItemDataRole.UserRole, one)
            item.setToolTip(
                "Double-click to see it on its slide"
                if one.store
                else f"Section {one.section} is not at hand; open it to see its spots."
            )
            self.list.addItem(item)

    def _pixmap(self, patch: NDArray[np.uint8] | None, value: float | None) -> QPixmap:
        """Return a patch beside a strip in the colour that its value has on the slide."""
        made = QPixmap(_PICTURE + _STRIP, _PICTURE)
        made.fill(QColor(0, 0, 0, 0))
        painter = QPainter(made)
        if value is not None:
            one = np.array([value], np.float32)
            rgba = colours.rgba(one, self._limits, colours.expression_map())[0]
            painter.fillRect(0, 0, _STRIP - 2, _PICTURE, QColor.fromRgbF(*map(float, rgba)))
        if patch is None:
            painter.setPen(QColor("#888888"))
            painter.drawRect(_STRIP, 0, _PICTURE - 1, _PICTURE - 1)
            box = (_STRIP, 0, _PICTURE, _PICTURE)
            painter.drawText(*box, int(Qt.AlignmentFlag.AlignCenter), "not\nat hand")
        else:
            rows, cols, _ = patch.shape
            data = np.ascontiguousarray(patch).tobytes()
            image = QImage(data, cols, rows, 3 * cols, QImage.Format.Format_RGB888)
            smooth = Qt.TransformationMode.SmoothTransformation
            kept = Qt.AspectRatioMode.KeepAspectRatio
            painter.drawImage(_STRIP, 0, image.scaled(_PICTURE, _PICTURE, kept, smooth))
        painter.end()
        return made

    # -- going to a spot --------------------------------------------------------------------

    def _on_chosen(self, item: QListWidgetItem) -> None:
        self.go_to(item.data(Qt.ItemDataRole.UserRole))

    def _on_back(self) -> None:
        if self._asked is not None:
            section, answer = self._asked
            self._go(section, answer.centre_px, answer.patch_um)

    def go_to(self, spot: Neighbour) -> None:
        """Show a spot on its own slide, which is opened first when need be."""
        from spotscope.plugin.reader import load

        if self._asked is None:
            return
        if spot.store is None or spot.centre_px is None:
            self.message.say(
                f"Section {spot.section} is not at hand; open it, and ask again to see its spots."
            )
            return
        store, place, side = spot.store, spot.centre_px, self._asked[1].patch_um
        known = self.workspace.find(str(store))
        if known is not None:
            self._go(known, place, side)
            return
        self.run_job(
            f"Opening {spot.section}",
            lambda progress: load(store),
            lambda opened: self._go(opened, place, side),
        )

    def _go(self, opened: OpenSection, centre_px: tuple[float, float], side_um: float) -> None:
        from spotscope.plugin.script import show_section

        shown = show_section(self.viewer, opened)
        self._square.show(shown, centre_px, side_um)
        camera = self.viewer.camera
        camera.center = tuple(value * shown.mpp_um for value in centre_px)
        height = self.viewer.canvas.size[0] if hasattr(self.viewer, "canvas") else 600
        camera.zoom = height / (_AROUND * side_um)
