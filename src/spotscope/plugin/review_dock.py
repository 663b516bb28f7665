"""Review: learn subtypes from labels, see them on the slide, and correct where they are wrong."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QPushButton, QSizePolicy, QWidget

from spotscope.errors import SpotScopeError
from spotscope.plugin.annotation_store import exchange
from spotscope.plugin.labels_at_hand import labels_of
from spotscope.plugin.review_learn import LearnPage
from spotscope.plugin.review_learning import Learning, suggested
from spotscope.plugin.review_map import MapPage
from spotscope.plugin.review_page import ReviewPage
from spotscope.plugin.running import Job, duration
from spotscope.plugin.widgets import Dock, wrapped

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from spotscope.plugin.opened import OpenSection
    from spotscope.plugin.review_learning import Learnt
    from spotscope.progress import Progress

LEARN, MAP, REVIEW = range(3)
_EDITS_MS = 300


class ReviewDock(Dock):
    """Learns from the labels in hand, shows what was learnt, and asks where it is unsure."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(
            napari_viewer, "Open a section to learn subtypes from its labels and review them."
        )
        self._looking = False
        self.learn, self.map = LearnPage(self.workspace), MapPage(self.workspace)
        self.review = ReviewPage(self.workspace)
        self.pages: list[QWidget] = [self.learn, self.map, self.review]
        self.tabs = QButtonGroup(self)
        row = QHBoxLayout()
        row.setSpacing(2)
        for place, name in enumerate(("Learn", "Map", "Review")):
            button = QPushButton(name)
            button.setCheckable(True)
            button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            self.tabs.addButton(button, place)
            row.addWidget(button)
        self.body.addLayout(row)
        for page in self.pages:
            self.body.addWidget(page)
        self.body.addStretch(1)
        self.said = wrapped("")
        self.start = QPushButton("Learn")
        for widget in (self.said, self.start, self.job_bar, self.message):
            self.footer.addWidget(widget)
        self.learning = Learning(self.run_job, self.learn.plan, self)
        # A brush edits many times a second; what is said of labels follows when it rests.
        self._edits = QTimer(self)
        self._edits.setSingleShot(True)
        self._edits.setInterval(_EDITS_MS)
        self._edits.timeout.connect(self._on_edits)
        self.tabs.idClicked.connect(self._on_page)
        self.learn.edited.connect(self._say_plan)
        self.learn.keep.toggled.connect(self.learning.keep)
        self.learning.learnt.connect(self._on_learnt)
        self.learning.ended.connect(self._say_plan)
        self.start.clicked.connect(self._on_start)
        self.review.suggested.connect(self._on_suggest)
        self.show_page(LEARN)
        self.begin()

    def showEvent(self, event: Any) -> None:
        """Look for encoders when the dock is first seen: they bring torch, which takes seconds."""
        super().showEvent(event)
        if not self._looking:
            self._looking = True
            job = Job("Looking for image encoders", _encoders, self)
            job.finished.connect(self.learn.show_encoders)
            job.start()

    def show_page(self, page: int) -> None:
        """Show Learn, Map or Review."""
        reason = self.workspace.why_not("predicted subtype") if page != LEARN else None
        if reason is not None:
            self.message.say(reason)
            page = LEARN
        self.tabs.button(page).setChecked(True)
        for place, widget in enumerate(self.pages):
            widget.setVisible(place == page)
        self._say_plan()

    def _on_page(self, page: int) -> None:
        self.message.clear()
        self.show_page(page)

    @property
    def page(self) -> int:
        """Which page is shown."""
        return self.tabs.checkedId()

    def update_from(self, what: frozenset[str]) -> None:
        """Follow the workspace."""
        if what & {"section", "sections"}:
            self.learn.show_sections()
        if what & {"section", "subtype runs"}:
            reason = self.workspace.why_not("predicted subtype")
            for page in (MAP, REVIEW):
                self.tabs.button(page).setEnabled(reason is None)
                self.tabs.button(page).setToolTip(reason or "")
            if reason is not None:
                self.show_page(LEARN)
        if self.workspace.subtypes.run is not None:
            self.map.update_from(what)
            self.review.update_from(what)
        if "annotations" in what:
            self._edits.start()

    def _on_edits(self) -> None:
        if self.workspace.section is not None:
            self.learn.show_sections()
            self.learning.labels_changed()

    # -- learning ---------------------------------------------------------------------------

    def _say_plan(self) -> None:
        if self.workspace.section is None:
            return
        plan = self.learn.plan()
        for widget in (self.said, self.start):
            widget.setVisible(self.page == LEARN)
        reason = plan.why_not or ("A learning is going on." if self.learning.running else None)
        self.start.setEnabled(reason is None)
        self.start.setToolTip(reason or "")
        self.said.setText(plan.why_not or plan.said)

    def _on_start(self) -> None:
        plan = self.learn.plan()
        if plan.why_not is None and not self.learning.running:
            self.learning.start(plan)
            self._say_plan()

    def _on_learnt(self, made: Learnt) -> None:
        watched = self.workspace.view == "predicted subtype"
        for slide, section in made.moved:
            if slide in self.workspace.sections:
                exchange(self.viewer, slide, section)
        for opened, run_id in made.runs:
            if opened in self.workspace.sections:
                self.workspace.subtypes.refresh(show=run_id, opened=opened)
        if not made.again:
            self.show_page(MAP)
        if (watched or not made.again) and not self.workspace.why_not("predicted subtype"):
            self.workspace.show("predicted subtype")
        self.message.say(_said(made))

    # -- reviewing --------------------------------------------------------------------------

    def _on_suggest(self, count: int) -> None:
        section, told = self.workspace.section, self.workspace.subtypes.told()
        if section is None or told is None or self.job_bar.running:
            return
        names = labels_of(self.workspace, section).names
        self.run_job(
            "Looking for spots to annotate",
            lambda progress: suggested(section, told, names, count, progress),
            lambda spots: self._on_suggested(section, spots),
        )

    def _on_suggested(self, section: OpenSection, spots: list[int]) -> None:
        if section is not self.workspace.section:
            return
        try:
            self.workspace.review.suggest(spots)
        except SpotScopeError as error:
            self.message.say(str(error))


def _said(made: Learnt) -> str:
    """Say what a learning made."""
    names = ", ".join(opened.name for opened, _ in made.runs)
    said = "Learnt again" if made.again else "Learnt"
    whose = "its store" if len(made.runs) == 1 else "their stores"
    return f"{said} in {duration(made.seconds)}; the subtypes of {names} are in {whose}."


def _encoders(progress: Progress) -> list[Any]:
    from spotscope.encoders.base import encoders

    return encoders()
