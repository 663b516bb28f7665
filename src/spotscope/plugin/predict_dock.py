"""Predict: what a model makes of the active section."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from qtpy.compat import isalive
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QHBoxLayout, QPushButton

from spotscope.plugin.docks import open_dock
from spotscope.plugin.estimator import Estimator, said_to_take
from spotscope.plugin.model_pages import ModelPage, Plan
from spotscope.plugin.pace import learn_pace, seconds_for
from spotscope.plugin.running import duration
from spotscope.plugin.widgets import Dock, wrapped

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel

    from spotscope.jobs.estimating import Estimate
    from spotscope.plugin.opened import OpenSection
    from spotscope.progress import Progress


@dataclass(frozen=True)
class Made:
    """What a run made: a prediction in a store."""

    opened: OpenSection
    store: Path
    run_id: str
    seconds: float


class Asked(NamedTuple):
    """What is about to be predicted, for the estimate of time and memory."""

    model: Path
    section: OpenSection
    stride_um: float | None
    said: str


class PredictDock(Dock):
    """Starts runs, says beforehand what they will do, and shows what they made."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(napari_viewer, "Open a section to predict its gene expression.")
        self.target = wrapped("")
        self.model_page = ModelPage(self.workspace)
        self.train = QPushButton("Train a model …")
        self.train.setToolTip("Opens Train; the model that it makes is chosen here")
        self.on_grid = QCheckBox("Map over the tissue, every")
        self.on_grid.setChecked(True)
        self.stride = QDoubleSpinBox()
        self.stride.setRange(1, 1000)
        self.stride.setDecimals(0)
        self.stride.setSuffix(" µm")
        grid = QHBoxLayout()
        grid.addWidget(self.on_grid)
        grid.addWidget(self.stride)
        grid.addStretch(1)
        self.said = wrapped("")
        self.start = QPushButton("Predict")
        self.body.addWidget(self.target)
        self.body.addWidget(self.model_page)
        self.body.addWidget(self.train, 0, Qt.AlignmentFlag.AlignLeft)
        self.body.addLayout(grid)
        self.body.addStretch(1)
        for widget in (self.said, self.start, self.job_bar, self.message):
            self.footer.addWidget(widget)
        self.train.clicked.connect(lambda: open_dock(self.viewer, "Train"))
        for signal in (self.on_grid.toggled, self.stride.valueChanged, self.model_page.edited):
            signal.connect(self._say_plan)
        self.start.clicked.connect(self._on_start)
        self.workspace.predict_asked.connect(self._on_asked)
        self.estimator = Estimator(_estimated, self)
        self.estimator.found.connect(
            lambda asked, found: self.said.setText(f"{asked.said} {said_to_take(found)}")
        )
        self.begin()

    def update_from(self, what: frozenset[str]) -> None:
        """Follow the workspace."""
        section = self.workspace.section
        assert section is not None
        if what & {"section", "sections"}:
            self.target.setText(
                f"Predict <b>{section.name}</b> · patient {section.section.patient}"
            )
            self.stride.blockSignals(True)
            self.stride.setValue(_usual_stride(section))
            self.stride.blockSignals(False)
        if what & {"section", "model"}:
            self.model_page.update_from(what)
        self._say_plan()

    # -- before a run -----------------------------------------------------------------------

    def plan(self) -> Plan:
        """Return what would be done now, or why it cannot."""
        return self.model_page.plan()

    def _say_plan(self, *_: object) -> None:
        section = self.workspace.section
        for widget in (self.said, self.start):
            widget.setVisible(section is not None)
        if section is None:
            return
        plan = self.plan()
        self.stride.setEnabled(self.on_grid.isChecked())
        reason = plan.why_not or ("A run is going on." if self.job_bar.running else None)
        if reason is None and not section.section.has_spots and not self.on_grid.isChecked():
            reason = "A slide without spots can only be predicted on a map."
        if reason is None and self.on_grid.isChecked() and not section.section.mpp_um:
            reason = "The slide's micrometres per pixel are unknown; import it and enter them."
        self.start.setEnabled(reason is None)
        self.start.setToolTip(reason or "")
        if plan.why_not or plan.model is None:
            self.estimator.stop()
            self.said.setText(plan.why_not or "")
            return
        cells = self._cells(section)
        places = [f"{section.n_spots:,} spots"] if section.section.has_spots else []
        places += [f"about {cells:,} places on the tissue"] if cells else []
        seconds = seconds_for(plan.encoder, _places(section, cells))
        said = f"{plan.said} predicts {section.name} on {' and '.join(places)}."
        # A guess from other runs, until the estimate comes.
        self.said.setText(f"{said} Takes {duration(seconds)}; what was done before is reused.")
        if reason is None:
            stride = self.stride.value() if self.on_grid.isChecked() else None
            self.estimator.ask(Asked(plan.model, section, stride, said))
        else:
            self.estimator.stop()

    def _cells(self, section: OpenSection) -> int:
        """Estimate how many places a map has: spots cover the tissue, as a rule."""
        if not self.on_grid.isChecked():
            return 0
        stride_px = self.stride.value() / section.mpp_um
        if section.section.has_spots:
            area = section.n_spots * section.pitch_px**2
        else:
            rows, cols = section.section.slide.shape_px
            area = rows * cols / 2
        count = area / stride_px**2
        return int(round(count, -2) if count > 1000 else round(count, -1))

    # -- the run ----------------------------------------------------------------------------

    def _on_asked(self) -> None:
        """Start as if the button had been pressed: another dock made the model for it."""
        if isalive(self) and self.start.isEnabled():
            self._on_start()

    def _on_start(self) -> None:
        section, plan = self.workspace.section, self.plan()
        if section is None or plan.model is None:
            return
        model, wanted = plan.model, self.workspace.gene
        stride = self.stride.value() if self.on_grid.isChecked() else None
        on_grid = self.on_grid.isChecked()
        out = None if section.section.store else section.path.with_suffix(".zarr")

        def work(progress: Progress) -> Made:
            from spotscope.jobs.predicting import predict_section

            began = time.monotonic()
            run_id = predict_section(
                model,
                section.section,
                stride_um=stride,
                on_grid=on_grid,
                out=out,
                progress=progress,
            )
            store = out or section.path
            return Made(section, store, run_id, time.monotonic() - began)

        job = self.run_job(
            f"Predicting {section.name}", work, lambda made: self._on_made(made, plan, wanted)
        )
        job.ended.connect(self._say_plan)
        self._say_plan()

    def _on_made(self, made: Made, plan: Plan, wanted: str | None) -> None:
        from spotscope.plugin.annotation_store import exchange
        from spotscope.plugin.reader import load

        opened = made.opened
        if opened.section.store is None:
            opened = exchange(self.viewer, opened, load(made.store))
        self.workspace.refresh_runs(show=made.run_id, opened=opened)
        run = opened.run(made.run_id)
        assert run is not None
        said = (
            f"Predicted {len(run.genes):,} genes of {opened.name} in {duration(made.seconds)}"
            f" ({run.protocol}); the prediction is in {made.store.name}."
        )
        if self.workspace.section is opened:
            gene = next((one for one in (self.workspace.gene, wanted) if one in run.genes), None)
            if gene is None and wanted is not None:
                said += (
                    f" {wanted} is not among the genes that the model predicts, so"
                    f" {run.genes[0]} is drawn; name {wanted} under Markers in Train to have it"
                    " predicted."
                )
            self.workspace.show_gene(gene or run.genes[0], "predicted")
        self.message.say(said)
        cells = int(run.grid.mask.sum()) if run.grid is not None else 0
        learn_pace(plan.encoder, _places(opened, cells), made.seconds)


def _estimated(asked: Asked, progress: Progress) -> Estimate:
    from spotscope.jobs.estimating import estimate_prediction
    from spotscope.methods.base import load_method

    method = load_method(asked.model)
    progress.report(0.5)
    on_grid = asked.stride_um is not None
    return estimate_prediction(method, asked.section.section, asked.stride_um, on_grid)


def _places(section: OpenSection, cells: int) -> int:
    """Return about how many patches are encoded: methods look at what lies around spots too."""
    return round(2.5 * section.n_spots) + cells


def _usual_stride(section: OpenSection) -> float:
    from spotscope.data.places import default_stride_um

    return default_stride_um(section.section)
