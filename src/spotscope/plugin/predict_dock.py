"""Predict: with a model that there is, or with one that is trained here first."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QPushButton,
    QRadioButton,
    QStackedWidget,
)

from spotscope.plugin.model_pages import ModelPage, Plan, TrainPage
from spotscope.plugin.pace import learn_pace, seconds_for
from spotscope.plugin.running import duration
from spotscope.plugin.widgets import Dock, wrapped

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel

    from spotscope.plugin.opened import OpenSection
    from spotscope.progress import Progress


@dataclass(frozen=True)
class Made:
    """What a run made: a prediction in a store, and perhaps a model."""

    opened: OpenSection
    store: Path
    run_id: str
    model: Path
    trained: bool
    seconds: float


class PredictDock(Dock):
    """Starts runs, says beforehand what they will do, and shows what they made."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(napari_viewer, "Open a section to predict its gene expression.")
        self._loading = False
        self.target = wrapped("")
        self.use = QRadioButton("Use a model")
        self.train = QRadioButton("Train one here")
        self.train.setChecked(True)
        modes = QHBoxLayout()
        modes.addWidget(self.train)
        modes.addWidget(self.use)
        modes.addStretch(1)
        self.train_page, self.model_page = TrainPage(), ModelPage()
        self.pages = QStackedWidget()
        self.pages.addWidget(self.train_page)
        self.pages.addWidget(self.model_page)
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
        self.start = QPushButton("Train and predict")
        self.body.addWidget(self.target)
        self.body.addLayout(modes)
        self.body.addWidget(self.pages, 1)
        self.body.addLayout(grid)
        for widget in (self.said, self.start, self.job_bar, self.message):
            self.footer.addWidget(widget)
        self.train.toggled.connect(lambda on: self.pages.setCurrentIndex(0 if on else 1))
        for signal in (
            self.train.toggled,
            self.on_grid.toggled,
            self.stride.valueChanged,
            self.train_page.edited,
            self.model_page.edited,
        ):
            signal.connect(self._say_plan)
        self.start.clicked.connect(self._on_start)
        self.begin()

    def showEvent(self, event: Any) -> None:
        """Look for methods when the dock is first seen: they bring torch, which takes seconds."""
        super().showEvent(event)
        if not self._loading:
            self._loading = True
            self.run_job("Looking for methods", _methods_and_encoders, self._on_methods)

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
            self.train_page.show_sections(section, self.workspace.sections)
            self.model_page.show_section(section)
        self._say_plan()

    # -- before a run -----------------------------------------------------------------------

    def plan(self) -> Plan:
        """Return what would be done now, or why it cannot."""
        page = self.train_page if self.train.isChecked() else self.model_page
        return page.plan()

    def _say_plan(self, *_: object) -> None:
        section = self.workspace.section
        for widget in (self.said, self.start):
            widget.setVisible(section is not None)
        if section is None:
            return
        plan = self.plan()
        self.start.setText("Train and predict" if plan.trains else "Predict")
        self.stride.setEnabled(self.on_grid.isChecked())
        reason = plan.why_not or ("A run is going on." if self.job_bar.running else None)
        if reason is None and not section.section.has_spots and not self.on_grid.isChecked():
            reason = "A slide without spots can only be predicted on a map."
        if reason is None and self.on_grid.isChecked() and not section.section.mpp_um:
            reason = "The slide's micrometres per pixel are unknown; import it and enter them."
        self.start.setEnabled(reason is None)
        self.start.setToolTip(reason or "")
        if plan.why_not:
            self.said.setText(plan.why_not)
            return
        cells = self._cells(section)
        places = [f"{section.n_spots:,} spots"] if section.section.has_spots else []
        places += [f"about {cells:,} places on the tissue"] if cells else []
        seconds = seconds_for(plan.encoder, _places(plan, section, cells))
        first = f"{plan.said}, then predicts" if plan.trains else f"{plan.said} predicts"
        self.said.setText(
            f"{first} {section.name} on {' and '.join(places)}. Takes {duration(seconds)};"
            " what was done before is reused."
        )

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

    def _on_methods(self, found: Any) -> None:
        self.train_page.show_methods(*found)
        self._say_plan()

    # -- the run ----------------------------------------------------------------------------

    def _on_start(self) -> None:
        section, plan = self.workspace.section, self.plan()
        if section is None or plan.why_not:
            return
        stride = self.stride.value() if self.on_grid.isChecked() else None
        on_grid = self.on_grid.isChecked()
        out = None if section.section.store else section.path.with_suffix(".zarr")

        def work(progress: Progress) -> Made:
            from spotscope.jobs.predicting import predict_section

            began = time.monotonic()
            model = plan.make(progress.part(0, 0.6)) if plan.make else plan.model
            assert model is not None
            run_id = predict_section(
                model,
                section.section,
                stride_um=stride,
                on_grid=on_grid,
                out=out,
                progress=progress.part(0.6 if plan.make else 0.0, 1.0),
            )
            store = out or section.path
            return Made(section, store, run_id, model, plan.trains, time.monotonic() - began)

        title = "Training and predicting" if plan.trains else "Predicting"
        job = self.run_job(f"{title} {section.name}", work, lambda made: self._on_made(made, plan))
        job.ended.connect(self._say_plan)
        self._say_plan()

    def _on_made(self, made: Made, plan: Plan) -> None:
        from spotscope.plugin.reader import load
        from spotscope.plugin.script import show_section

        opened = made.opened
        if opened.section.store is None:
            self.workspace.remove(opened)
            opened = show_section(self.viewer, load(made.store))
        self.workspace.refresh_runs(show=made.run_id, opened=opened)
        run = opened.run(made.run_id)
        assert run is not None
        if self.workspace.section is opened:
            gene = self.workspace.gene if self.workspace.gene in run.genes else run.genes[0]
            self.workspace.show_gene(gene, "predicted")
        kept = f" The model is in {made.model}." if made.trained else ""
        self.message.say(
            f"Predicted {len(run.genes):,} genes of {opened.name} in {duration(made.seconds)}"
            f" ({run.protocol}); the prediction is in {made.store.name}.{kept}"
        )
        cells = int(run.grid.mask.sum()) if run.grid is not None else 0
        learn_pace(plan.encoder, _places(plan, opened, cells), made.seconds)
        self.model_page.show_models()


def _places(plan: Plan, section: OpenSection, cells: int) -> int:
    """Return about how many patches are encoded: methods look at what lies around spots too."""
    return round(2.5 * (plan.n_training_spots + section.n_spots)) + cells


def _usual_stride(section: OpenSection) -> float:
    from spotscope.data.places import default_stride_um

    return default_stride_um(section.section)


def _methods_and_encoders(progress: Progress) -> tuple[dict[str, Any], list[Any]]:
    from spotscope.encoders.base import encoders
    from spotscope.methods.base import methods

    found = methods()
    progress.report(0.5)
    return found, encoders()
