"""How many frames a second a brush stroke over the spots is drawn with.

    python benchmarks/brush.py [--spots 5000] [--steps 150]

Needs a display, or a virtual one: `xvfb-run -a -s "-screen 0 1600x1000x24" python …`. The stroke
is made of Qt mouse events, with Annotate open beside the canvas and the journal on disk, and each
event is followed by a painted frame: it is the slowest way, since a window that falls behind
leaves events out. A plain frame is the same canvas painted again with nothing changed, in turns
with the stroke.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

WANTED = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spots", type=int, default=5_000)
    parser.add_argument("--steps", type=int, default=150)
    arguments = parser.parse_args()
    plain, painted = measure(arguments.spots, arguments.steps)
    rate = len(painted) / (sum(painted) / 1000)
    print(
        f"{arguments.spots:>9,} spots  brush {rate:.0f} frames/s, median frame"
        f" {median(painted):.1f} ms, 95 % within {np.percentile(painted, 95):.1f} ms; plain frame"
        f" {median(plain):.1f} ms ({1000 / median(plain):.0f}/s), ratio"
        f" {median(painted) / median(plain):.2f}; {WANTED:.0f} frames/s"
        f" {'held' if rate >= WANTED else 'NOT HELD'}"
    )


def measure(n_spots: int, steps: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of plain frames and of frames of a stroke."""
    import napari
    from qtpy.QtCore import QEvent, QPoint, Qt
    from qtpy.QtWidgets import QApplication

    from spotscope.plugin.docks import open_dock
    from spotscope.plugin.drawing import workspace_of
    from spotscope.plugin.opened import OpenSection
    from spotscope.plugin.script import show_section

    viewer = napari.Viewer(show=True)
    viewer.window.resize(1600, 1000)
    open_dock(viewer, "Annotate")
    show_section(viewer, OpenSection(make_section(n_spots)).prepare())
    annotating = workspace_of(viewer).annotating
    for name in ("invasive cancer", "connective tissue"):
        annotating.classes.add(name)
    annotating.choose_tool("brush")
    annotating.size_brush(500.0)
    QApplication.processEvents()
    canvas = viewer.window._qt_viewer.canvas.native
    places = stroke(canvas.height(), canvas.width(), steps)
    send(canvas, QEvent.Type.MouseButtonPress, QPoint(*places[0]), Qt.MouseButton.LeftButton)
    plain, painted = [], []
    for place in places[1:]:
        began = time.perf_counter()
        canvas.grabFramebuffer()  # paints once, now, and waits until it is done
        plain.append(1000 * (time.perf_counter() - began))
        # napari takes at most one move in 5 ms, and leaves the others out.
        until = time.perf_counter() + 0.006
        while time.perf_counter() < until:
            QApplication.processEvents()
        began = time.perf_counter()
        send(canvas, QEvent.Type.MouseMove, QPoint(*place), Qt.MouseButton.NoButton)
        canvas.grabFramebuffer()
        painted.append(1000 * (time.perf_counter() - began))
    send(canvas, QEvent.Type.MouseButtonRelease, QPoint(*places[-1]), Qt.MouseButton.LeftButton)
    marked = annotating.document.counts()
    assert sum(marked.values()) > n_spots / 50, marked
    viewer.close()
    return plain, painted


def make_section(n_spots: int, pitch_px: float = 40.0, n_genes: int = 20):
    """Spots as Visium has them, 55 µm wide and 100 µm apart in shifted rows, on a slide."""
    import anndata
    import pandas as pd
    from scipy.sparse import csr_matrix

    from spotscope.data.section import Section
    from spotscope.slide.levels import PixelLevel
    from spotscope.slide.slide import Slide

    side = int(np.ceil(np.sqrt(n_spots)))
    row, col = (grid.ravel()[:n_spots] for grid in np.indices((side, side)))
    rows, cols = (row + 0.5) * pitch_px * np.sqrt(0.75), (col + 0.5 * (row % 2) + 0.5) * pitch_px
    rng = np.random.default_rng(0)
    table = anndata.AnnData(
        csr_matrix(rng.poisson(3.0, (n_spots, n_genes)).astype(np.float32)),
        obs=pd.DataFrame(index=np.arange(n_spots).astype(str)),
        var=pd.DataFrame(index=[f"GENE{place}" for place in range(n_genes)]),
    )
    table.obsm["spatial"] = np.column_stack([cols, rows])
    shape = int(rows.max() + pitch_px) // 4, int(cols.max() + pitch_px) // 4
    pixels = rng.integers(170, 250, (*shape, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    levels = [PixelLevel(np.ascontiguousarray(pixels[::step, ::step])) for step in (1, 4, 16)]
    folder = Path(tempfile.mkdtemp())
    slide = Slide(folder, "visium", levels, (1.0, 4.0, 16.0), mpp_um=2.5, fingerprint="brush")
    return Section(
        "visium", "nobody", slide, table, spot_diameter_um=55.0, store=folder / "v.zarr"
    )


def stroke(height: int, width: int, steps: int) -> list[tuple[int, int]]:
    """Return (x, y) on a spiral that covers the middle of the canvas."""
    turn = np.linspace(0, 8 * np.pi, steps + 1)
    reach = 0.4 * min(height, width) * turn / turn[-1]
    x, y = width / 2 + reach * np.cos(turn), height / 2 + reach * np.sin(turn)
    return [(int(a), int(b)) for a, b in zip(x, y, strict=True)]


def send(canvas, kind, place, button) -> None:
    """Send a mouse event to the canvas, the left button held."""
    from qtpy.QtCore import QPointF, Qt
    from qtpy.QtGui import QMouseEvent
    from qtpy.QtWidgets import QApplication

    held, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    event = QMouseEvent(
        kind, QPointF(place), QPointF(canvas.mapToGlobal(place)), button, held, none
    )
    QApplication.sendEvent(canvas, event)


if __name__ == "__main__":
    main()
