"""Whether everything is kept, undo and redo, and saving into the section, in the background."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from spotscope.errors import SpotScopeError
from spotscope.plugin.annotation_store import beside_for_people, exchange, made_beside
from spotscope.plugin.running import Job
from spotscope.plugin.widgets import wrapped

if TYPE_CHECKING:
    from spotscope.annotate.document import AnnotationDocument
    from spotscope.plugin.annotate_dock import AnnotateDock
    from spotscope.plugin.annotation_saving import Save
    from spotscope.plugin.opened import OpenSection
    from spotscope.plugin.running import Failure


class Footer(QWidget):
    """Says what is kept where; undoes, redoes and saves.

    Parameters
    ----------
    dock
        Where errors are said, and long work is shown.
    """

    def __init__(self, dock: AnnotateDock) -> None:
        super().__init__(dock)
        self._dock = dock
        self._annotating = dock.workspace.annotating
        self.state = wrapped("")
        self.undo = QPushButton("Undo")
        self.redo = QPushButton("Redo")
        self.save = QPushButton()
        self.again = QPushButton("Try again")
        self.again.setToolTip("Look whether the other window has let go of these annotations")
        self.undo.clicked.connect(self._annotating.undo)
        self.redo.clicked.connect(self._annotating.redo)
        self.save.clicked.connect(lambda: self.save_now())
        self.again.clicked.connect(self._annotating.open_again)
        self._annotating.saves.changed.connect(self._on_saves)
        row = QHBoxLayout()
        for button in (self.undo, self.redo, self.save, self.again):
            row.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.state)
        layout.addLayout(row)

    def update_from(self) -> None:
        """Show what is kept, and what can be done."""
        document, opened = self._dock.workspace.annotations, self._dock.workspace.section
        self.state.setText(self._annotating.state())
        writes = document is not None and not document.read_only
        self.again.setVisible(document is not None and document.read_only)
        undo, redo = (document.next_undo, document.next_redo) if document else (None, None)
        for button, title, what, key in (
            (self.undo, undo, "Undo", "Ctrl-Z"),
            (self.redo, redo, "Redo", "Ctrl-Shift-Z"),
        ):
            button.setVisible(writes)
            button.setEnabled(title is not None)
            button.setToolTip(
                f"{what}: {title} ({key})" if title else f"Nothing to {what.lower()}"
            )
        self.save.setVisible(writes)
        if opened is not None:
            self._show_save(document, opened)

    def _on_saves(self) -> None:
        if isalive(self):
            self.update_from()

    def _show_save(self, document: AnnotationDocument | None, opened: OpenSection) -> None:
        alone = opened.section.store is None
        busy = self._annotating.saves.busy(opened)
        unsaved = document is not None and document.unsaved > 0
        self.save.setText("Make section and save" if alone else "Save into section")
        self.save.setEnabled(unsaved and not busy and not (alone and self._dock.job_bar.running))
        if busy:
            tip = "They are being saved; go on drawing, and save again afterwards"
        elif not unsaved:
            tip = "There is nothing to save" if alone else "The section has everything already"
        elif alone:
            tip = f"Makes {beside_for_people(opened)}, and saves labels, regions and classes there"
        else:
            tip = "Write labels, regions and classes into the section's store"
        self.save.setToolTip(tip)

    def save_now(self, said: str = "") -> None:
        """Write the annotations into the section; of a slide alone a section is made first.

        Parameters
        ----------
        said
            A sentence for when they are written.
        """
        opened = self._dock.workspace.section
        self._dock.message.clear()
        if opened is not None and opened.section.store is None:
            self._make_section(opened)
            return
        try:
            save = self._annotating.saves.begin()
        except SpotScopeError as error:
            self._dock.message.say(str(error))
            return
        # Without the bar of jobs: it takes a moment, and there is nothing to cancel.
        job = Job("Saving annotations", lambda _: save.write(), self._dock)
        job.finished.connect(lambda _: self._on_saved(save, said))
        job.failed.connect(lambda failure: self._on_unsaved(save, failure))
        job.cancelled.connect(lambda: self._annotating.saves.end(save, written=False))
        job.ended.connect(job.deleteLater)
        job.start()

    def _on_saved(self, save: Save, said: str) -> None:
        self._annotating.saves.end(save, written=True)
        if said:
            self._dock.message.say(said)

    def _on_unsaved(self, save: Save, failure: Failure) -> None:
        self._annotating.saves.end(save, written=False)
        self._dock.message.fail(failure)

    def _make_section(self, opened: OpenSection) -> None:
        job = self._dock.run_job(
            f"Making a section of {opened.name}",
            lambda progress: made_beside(opened, progress),
            lambda made: self._on_made(opened, made),
        )
        job.ended.connect(self.update_from)
        self.update_from()

    def _on_made(self, opened: OpenSection, made: OpenSection) -> None:
        try:
            shown = exchange(self._dock.viewer, opened, made)
        except SpotScopeError as error:
            self._dock.message.say(str(error))
            return
        if self._dock.workspace.section is shown:
            self.save_now(f"The annotations are saved in {shown.path.name}, beside the slide.")
