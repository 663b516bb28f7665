"""Workspace: the sections that are open, and all docks laid out at once."""

# PyQt's stubs let every getter return None.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QHBoxLayout, QListWidget, QListWidgetItem, QPushButton

from spotscope.plugin.docks import HOMES, find_dock, open_dock
from spotscope.plugin.widgets import Dock, wrapped

if TYPE_CHECKING:
    from napari.components import ViewerModel


class WorkspaceDock(Dock):
    """Lists the open sections; when it opens, the other docks open beside it."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(
            napari_viewer,
            "SpotScope draws measured and predicted gene expression on H&E slides.",
        )
        self._laid_out = False
        self.list = QListWidget()
        self.list.currentItemChanged.connect(self._on_chosen)
        self.about = wrapped("")
        self.more = QPushButton("Open another …")
        self.more.clicked.connect(lambda: open_dock(self.viewer, "Open"))
        self.closing = QPushButton("Close section")
        self.closing.clicked.connect(self._on_close)
        row = QHBoxLayout()
        row.addWidget(self.more)
        row.addWidget(self.closing)
        self.body.addWidget(wrapped("Open sections"))
        self.body.addWidget(self.list, 1)
        self.body.addLayout(row)
        self.body.addWidget(self.about)
        self.begin()
        QTimer.singleShot(0, self.lay_out)

    def lay_out(self) -> None:
        """Open the other docks: tabs beside this one, Quality below."""
        if self._laid_out or not hasattr(self.viewer, "window"):
            return
        self._laid_out = True
        for name in HOMES:
            if name != "Workspace" and find_dock(self.viewer, name) is None:
                open_dock(self.viewer, name)
        open_dock(self.viewer, "Workspace" if self.workspace.section is None else "Genes")

    def update_from(self, what: frozenset[str]) -> None:
        """Follow the workspace."""
        active = self.workspace.section
        assert active is not None
        if what & {"section", "sections"}:
            before = self.list.blockSignals(True)
            self.list.clear()
            for opened in self.workspace.sections:
                item = QListWidgetItem(f"{opened.name} · patient {opened.section.patient}")
                item.setData(Qt.ItemDataRole.UserRole, opened.key)
                item.setToolTip(opened.key)
                self.list.addItem(item)
                if opened is active:
                    self.list.setCurrentItem(item)
            self.list.blockSignals(before)
        rows, cols = active.section.slide.shape_px
        scale = active.section.mpp_um
        lines = [
            f"Slide {cols:,} × {rows:,} px"
            + (f", {scale:.3f} µm per pixel" if scale else ", scale unknown"),
            f"{active.n_spots:,} spots, {len(active.genes):,} genes"
            if active.section.has_spots
            else "A slide alone, without spots",
            f"{len(active.runs)} predictions" if len(active.runs) != 1 else "1 prediction",
            *active.section.notes,
        ]
        self.about.setText("\n".join(lines))

    def _on_chosen(self, item: QListWidgetItem | None) -> None:
        if item is not None:
            opened = self.workspace.find(item.data(Qt.ItemDataRole.UserRole))
            if opened is not None:
                self.workspace.activate(opened)

    def _on_close(self) -> None:
        if self.workspace.section is not None:
            self.workspace.remove(self.workspace.section)
