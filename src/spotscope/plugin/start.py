"""How to begin: what a dock shows while nothing is open."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtWidgets import QMenu, QPushButton, QVBoxLayout, QWidget

from spotscope.plugin.drawing import workspace_of
from spotscope.plugin.recent import recent
from spotscope.plugin.running import Job, JobBar
from spotscope.plugin.widgets import Message, wrapped

if TYPE_CHECKING:
    from pathlib import Path

    from spotscope.plugin.opened import OpenSection
    from spotscope.progress import Progress


class StartPanel(QWidget):
    """One sentence and three buttons.

    Parameters
    ----------
    viewer
        Where sections are opened.
    sentence
        What the dock is for.
    with_open
        Whether to offer the dock Open.
    """

    def __init__(self, viewer: Any, sentence: str, with_open: bool = True) -> None:
        super().__init__()
        self._viewer = viewer
        self.message = Message()
        self.job_bar = JobBar()
        self.open = QPushButton("Open slide or section …")
        self.open.clicked.connect(self._on_open)
        self.sample = QPushButton("Open sample study")
        self.sample.setToolTip(
            "A small simulated study: tissue, spots and counts, made in seconds"
        )
        self.sample.clicked.connect(self.open_sample)
        self.recent = QPushButton("Recent")
        self._menu = QMenu(self)
        self._menu.aboutToShow.connect(self._fill_recent)
        self._menu.setToolTipsVisible(True)
        self.recent.setMenu(self._menu)
        workspace_of(viewer).changed.connect(self._on_workspace)
        layout = QVBoxLayout(self)
        layout.addWidget(wrapped(sentence))
        for button in (self.open, self.sample, self.recent):
            layout.addWidget(button)
        layout.addWidget(self.job_bar)
        layout.addWidget(self.message)
        self.open.setVisible(with_open)
        if with_open:
            layout.addStretch(1)

    def showEvent(self, event: Any) -> None:
        """Say whether there is anything recent."""
        super().showEvent(event)
        self._say_recent()

    def _on_workspace(self, what: frozenset[str]) -> None:
        if isalive(self) and "sections" in what:
            self._say_recent()

    def _say_recent(self) -> None:
        known = bool(recent())
        self.recent.setEnabled(known)
        self.recent.setToolTip("" if known else "Nothing was opened yet.")

    def open_path(self, path: Path) -> None:
        """Open a store or a slide in the background and show it."""
        from spotscope.plugin.reader import load

        self._run(f"Opening {path.name}", lambda progress: load(path))

    def open_sample(self) -> None:
        """Open the sample study, made first when it is not there."""
        self._run("Making the sample study", load_sample)

    def make_sample(self) -> Job:
        """Make the sample study and open nothing."""
        from spotscope.plugin.samples import sample_sections

        return self._start(Job("Making the sample study", sample_sections, self))

    def _run(self, title: str, work: Any) -> None:
        from spotscope.plugin.script import show_section

        job = Job(title, work, self)
        job.finished.connect(lambda opened: show_section(self._viewer, opened))
        self._start(job)

    def _start(self, job: Job) -> Job:
        self.message.clear()
        self.job_bar.watch(job)
        job.failed.connect(self.message.fail)
        job.ended.connect(job.deleteLater)
        return job.start()

    def _on_open(self) -> None:
        from spotscope.plugin.docks import open_dock

        open_dock(self._viewer, "Open")

    def _fill_recent(self) -> None:
        self._menu.clear()
        known = recent()
        names = [path.name for path in known]
        for path in known:
            alone = names.count(path.name) == 1
            action = self._menu.addAction(path.name if alone else f"{path.name} in {path.parent}")
            action.setToolTip(str(path))
            action.triggered.connect(partial(self.open_path, path))


def load_sample(progress: Progress) -> OpenSection:
    """Make the sample study, unless it is there, and open its first section."""
    from spotscope.plugin.reader import load
    from spotscope.plugin.samples import sample_sections

    return load(sample_sections(progress)[0])
