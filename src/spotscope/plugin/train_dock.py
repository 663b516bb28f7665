"""Train: choose what to learn from, see what it will take, watch it learn."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from spotscope.plugin.curves import Curves
from spotscope.plugin.docks import open_dock
from spotscope.plugin.estimator import Estimator, said_to_take
from spotscope.plugin.plots import colour_plots, make_plot
from spotscope.plugin.running import duration
from spotscope.plugin.train_page import TrainPage
from spotscope.plugin.widgets import Dock, wrapped

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel

    from spotscope.jobs.estimating import Estimate
    from spotscope.plugin.train_page import TrainPlan
    from spotscope.progress import Progress, Step

_LOSS, _HELD, _CHANCE, _FIVE = "#56b4e9", "#e69f00", "#999999", "#009e73"
_BY_NAME = {"loss": _LOSS, "val_loss": _HELD, "top1": _LOSS, "top5": _FIVE}


@dataclass(frozen=True)
class Trained:
    """What a training made."""

    folder: Path
    seconds: float
    notes: list[str]


class TrainDock(Dock):
    """Trains a model, shows how it learns, and hands it to Predict."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(napari_viewer, "Open a section to train a model on it or on others.")
        self._loading = False
        self._stopped: TrainPlan | None = None
        self.page = TrainPage()
        self.board = CurveBoard(self.viewer)
        self.pages = QStackedWidget()
        self.pages.addWidget(self.page)
        self.pages.addWidget(self.board)
        self.body.addWidget(self.pages, 1)
        self.said = wrapped("")
        self.then = QCheckBox()
        self.then.setChecked(True)
        self.start = QPushButton("Train")
        self.again = QPushButton("Back to the settings")
        self.again.hide()
        buttons = QHBoxLayout()
        buttons.addWidget(self.again)
        buttons.addWidget(self.start)
        self.footer.addWidget(self.said)
        self.footer.addWidget(self.then)
        self.footer.addLayout(buttons)
        self.footer.addWidget(self.job_bar)
        self.footer.addWidget(self.message)
        self.estimator = Estimator(_estimated, self.page)
        self.estimator.started.connect(
            lambda plan: self.said.setText(f"{plan.said}. Working out how long it takes …")
        )
        self.estimator.found.connect(
            lambda plan, found: self.said.setText(f"{plan.said}. {said_to_take(found)}")
        )
        self.estimator.failed.connect(
            lambda plan, sentence: self.said.setText(f"{plan.said}. {sentence}")
        )
        self.page.edited.connect(self._on_edited)
        self.start.clicked.connect(self._on_start)
        self.again.clicked.connect(self._on_again)
        self.begin()

    def showEvent(self, event: Any) -> None:
        """Look for methods when the dock is first seen: they bring torch, which takes seconds."""
        super().showEvent(event)
        if not self._loading:
            self._loading = True
            self.run_job("Looking for methods", _what_there_is, self._on_found)

    def update_from(self, what: frozenset[str]) -> None:
        """Follow the workspace."""
        section = self.workspace.section
        assert section is not None
        if what & {"section", "sections"}:
            self.page.show_sections(section, self.workspace.sections)

    # -- before a training ------------------------------------------------------------------

    def _say_plan(self) -> None:
        section, plan = self.workspace.section, self.page.plan()
        if section is None:
            return
        reason = plan.why_not or ("A training is going on." if self.job_bar.running else None)
        self.start.setEnabled(reason is None)
        self.start.setToolTip(reason or "")
        self.start.setText("Go on training" if plan == self._stopped else "Train")
        known = self.page.trains_on(section.path)
        self.then.setText(f"Then predict {section.name}")
        self.then.setEnabled(not known)
        self.then.setToolTip(
            f"{section.name} is among the sections that are learnt from, so predicting it would"
            " show nothing new."
            if known
            else "With what is chosen in Predict"
        )
        self.said.setText(plan.why_not or f"{plan.said}.")
        if plan.why_not is None and not self.job_bar.running:
            self.estimator.ask(plan)
        else:
            self.estimator.stop()

    def _on_edited(self) -> None:
        """Take back what was said of other choices."""
        if not self.job_bar.running:
            self.message.clear()
        self._say_plan()

    def _on_found(self, found: tuple[Any, ...]) -> None:
        self.page.show_methods(*found)

    # -- the training -----------------------------------------------------------------------

    def _on_start(self) -> None:
        plan = self.page.plan()
        if plan.why_not:
            return
        self.estimator.stop()
        self.board.clear(plan.title, plan.epochs)
        self._stopped = None
        out = plan.folder()

        def work(progress: Progress) -> Trained:
            from spotscope.jobs.training import train_model
            from spotscope.methods.base import read_record

            began = time.monotonic()
            made = train_model(
                plan.method,
                plan.sections,
                out,
                encoder=plan.encoder,
                settings=plan.settings,
                validation=plan.validation or None,
                progress=progress,
            )
            notes = read_record(made).get("notes", [])
            return Trained(made, time.monotonic() - began, notes)

        job = self.run_job(
            f"Training {plan.title}",
            work,
            lambda made: self._on_made(made, plan),
            self.board.take,
        )
        job.cancelled.connect(lambda: self._on_stopped(plan))
        job.failed.connect(lambda _: self.pages.setCurrentWidget(self.page))
        job.ended.connect(self._on_ended)
        self._show_form(False)

    def _on_again(self) -> None:
        self.message.clear()
        self._show_form(True)

    def _on_ended(self) -> None:
        self._show_form(self.pages.currentWidget() is self.page)

    def _on_stopped(self, plan: TrainPlan) -> None:
        if self.board.curves.points:
            self._stopped = plan
            self.message.say(
                f"Training {plan.title} was stopped after {self.board.epochs:.1f} epochs. Its last"
                " state is kept: train again with the same choices and it goes on from there."
            )
        else:
            self.pages.setCurrentWidget(self.page)
            self.message.say(
                f"Training {plan.title} was stopped. Patches that were looked at are kept, so that"
                " it is quicker the next time."
            )

    def _on_made(self, made: Trained, plan: TrainPlan) -> None:
        self.board.finish()
        notes = "".join(f" {note}" for note in made.notes)
        self.message.say(
            f"Trained {plan.title} in {duration(made.seconds)}; the model is chosen in Predict and"
            f" kept as {made.folder.name}.{notes}"
        )
        self.message.setToolTip(str(made.folder))
        self.workspace.show_model(made.folder)
        if self.then.isChecked() and self.then.isEnabled() and hasattr(self.viewer, "window"):
            open_dock(self.viewer, "Predict")
            self.workspace.predict_asked.emit()

    def _show_form(self, form: bool) -> None:
        """Show the settings or the curves; a training that was stopped can go on from these."""
        running = self.job_bar.running
        self.pages.setCurrentWidget(self.page if form else self.board)
        ignored, wanted = QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred
        for page in (self.page, self.board):  # the one that is hidden asks for no height
            policy = wanted if page is self.pages.currentWidget() else ignored
            page.setSizePolicy(policy, policy)
        self.again.setVisible(not form and not running)
        self.start.setVisible(form or (not running and self._stopped is not None))
        self.then.setVisible(form or running)
        self.said.setVisible(form or running)
        self._say_plan()


class CurveBoard(QWidget):
    """The curves of one training, and what they mean."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.curves = Curves()
        self._viewer = viewer
        self._lines: dict[str, Any] = {}
        self.title = wrapped("")
        self.waiting = wrapped("")
        self.said = wrapped("")
        self.loss_key, self.share_key = wrapped(""), wrapped("")
        self.share_key.setText(
            f"Own spot <font color='{_LOSS}'>first</font>,"
            f" <font color='{_FIVE}'>among five</font> (% of training patches)"
        )
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.addWidget(self.title)
        self._layout.addWidget(self.waiting)
        self._build_plots()
        self._layout.addWidget(self.said)
        self._layout.addStretch(1)
        viewer.events.theme.connect(self._on_theme)
        self.clear("")

    @property
    def epochs(self) -> float:
        """Epochs done."""
        places = self.curves.points.get("loss", ([0.0], []))[0]
        return places[-1]

    def clear(self, title: str, epochs: bool = True) -> None:
        """Begin anew, with a method that learns in epochs or at once."""
        self.curves = Curves()
        self.title.setText(f"<b>Training {title}</b>")
        then = "the curves come with the first epoch" if epochs else "then it is fitted in one go"
        self.waiting.setText(f"Getting ready; {then}.")
        self.waiting.show()
        self._draw()

    def take(self, step: Step) -> None:
        """Draw a step's figures."""
        if self.curves.add(step.values):
            self.waiting.hide()
            self._draw()

    def finish(self) -> None:
        """Say so where a method is fitted at once, without curves."""
        if not self.curves.points:
            self.waiting.setText("This method is fitted in one go, so there are no curves.")

    def _build_plots(self) -> None:
        import pyqtgraph as pg

        self.loss, self.share = make_plot(), make_plot()
        for key, plot in ((self.loss_key, self.loss), (self.share_key, self.share)):
            plot.setFixedHeight(150)
            plot.getAxis("left").setWidth(44)
            self._layout.addWidget(key)
            self._layout.addWidget(plot)
        self.share.setLabel("bottom", "epochs")
        self._lines["chance"] = self.loss.plot([], [])
        for name, colour in _BY_NAME.items():
            plot = self.loss if name.endswith("loss") else self.share
            marks = {"symbol": "o", "symbolSize": 6, "symbolBrush": colour, "symbolPen": None}
            self._lines[name] = plot.plot(
                [], [], pen=pg.mkPen(colour, width=2), **(marks if name == "val_loss" else {})
            )
        self._on_theme()

    def _draw(self) -> None:
        points = self.curves.points
        for name, line in self._lines.items():
            places, values = points.get(name, ([], []))
            share = 100 if name in ("top1", "top5") else 1
            line.setData(places, [share * value for value in values])
        for plot, key, name in (
            (self.loss, self.loss_key, "loss"),
            (self.share, self.share_key, "top1"),
        ):
            plot.setVisible(name in points)
            key.setVisible(name in points)
        parts = [f"<font color='{_LOSS}'>training</font>"]
        if "val_loss" in points:
            parts.append(f"<font color='{_HELD}'>validation patients</font>")
        if "chance" in points:
            parts.append(f"<font color='{_CHANCE}'>- - guessing</font>")
        self.loss_key.setText(f"Loss: {' · '.join(parts)}")
        self.said.setText(self.curves.said())

    def _on_theme(self, event: Any = None) -> None:
        import pyqtgraph as pg

        if not isalive(self):
            return
        _, text = colour_plots(self._viewer, (self.loss, self.share))
        self._lines["chance"].setPen(pg.mkPen(text, width=1, style=Qt.PenStyle.DashLine))


def _what_there_is(progress: Progress) -> tuple[dict[str, Any], list[Any], dict[str, str]]:
    from spotscope.encoders.base import encoders
    from spotscope.methods.base import methods
    from spotscope.training.settings import usable_devices

    found = methods()
    progress.report(0.5)
    return found, encoders(), usable_devices()


def _estimated(plan: TrainPlan, progress: Progress) -> Estimate:
    from spotscope.jobs.estimating import estimate_training
    from spotscope.jobs.opening import as_cohort
    from spotscope.methods.base import get_method

    method = get_method(plan.method)(plan.settings, plan.encoder)
    sections = as_cohort((*plan.sections, *plan.validation)).sections
    progress.report(0.5)
    return estimate_training(method, sections)
