"""How long it takes from choosing a gene to the painted window.

    python benchmarks/gene_change.py [--spots 5000 500000] [--repeats 15]

Needs a display, or a virtual one: `xvfb-run -a -s "-screen 0 1600x1000x24" python …`. The spots
lie on a synthetic slide of their size. Three ways are measured in the same window:

- SpotScope: `show_gene`, points below 50,000 spots and a picture from there on;
- RGBA on points: one colour a spot set on a points layer, as napari-spatialdata does it;
- napari's own way: `layer.features[...]` and `face_color="gene"` on a points layer.

A plain frame is the same window painted again with nothing changed, in turns with the change.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

POINTS_SLOW_FROM = 200_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spots", type=int, nargs="+", default=[5_000, 500_000])
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    for n_spots in arguments.spots:
        measure(n_spots, arguments.repeats)


def measure(n_spots: int, repeats: int) -> None:
    import napari

    from spotscope.plugin.opened import OpenSection
    from spotscope.plugin.script import show_gene, show_section

    viewer = napari.Viewer(show=True)
    viewer.window.resize(1400, 900)
    opened = show_section(viewer, OpenSection(make_section(n_spots)).prepare())
    genes = opened.genes
    show_gene(viewer, genes[0])
    ours = timed(viewer, lambda turn: show_gene(viewer, genes[turn % len(genes)]), repeats)
    report(n_spots, "SpotScope", ours, ours)
    layer = next(one for one in viewer.layers if one.metadata["spotscope"]["role"] == "spots")
    layer.visible = False
    few = repeats if n_spots < POINTS_SLOW_FROM else 3
    for name, way in points_ways(viewer, opened).items():
        report(n_spots, name, timed(viewer, way, few), ours)
    viewer.close()


def points_ways(viewer, opened):
    """The two usual ways to recolour a points layer."""
    from spotscope.plugin.colours import expression_limits, expression_map

    scale = (opened.mpp_um,) * 2
    points = viewer.add_points(
        opened.centres_px, size=opened.diameter_px, scale=scale, units=("um", "um")
    )
    points.border_width = 0
    colour_map = expression_map()

    def values(turn):
        return opened.measured(opened.genes[turn % len(opened.genes)])

    def rgba(turn):
        low, high = expression_limits(values(turn))
        points.face_color = colour_map.map(np.clip((values(turn) - low) / (high - low), 0, 1))

    def features(turn):
        points.features = {"gene": values(turn)}
        points.face_color = "gene"
        points.face_contrast_limits = expression_limits(values(turn))

    return {"RGBA on points": rgba, "features on points": features}


def timed(viewer, act, repeats: int) -> tuple[float, float]:
    """Return the median milliseconds of a plain frame, and from the act to the painted frame.

    Both are taken in turns, so that what else the machine does falls on both alike.
    """
    from qtpy.QtWidgets import QApplication

    canvas = viewer.window._qt_viewer.canvas.native
    plain, acted = [], []
    for turn in range(repeats + 2):
        QApplication.processEvents()
        for taken, change in ((plain, None), (acted, act)):
            began = time.perf_counter()
            if change is not None:
                change(turn + 1)
            canvas.grabFramebuffer()  # paints once, now, and waits until it is done
            taken.append(1000 * (time.perf_counter() - began))
    return median(plain[2:]), median(acted[2:])


def report(n_spots: int, name: str, taken: tuple[float, float], ours: tuple[float, float]) -> None:
    frame, total = taken
    print(
        f"{n_spots:>9,} spots  {name:<20} {total:>9.1f} ms to painted, a plain frame"
        f" {frame:>8.1f} ms, above it {total - frame:>8.1f} ms"
        f"  ({total / ours[1]:.1f} × SpotScope)",
        flush=True,
    )


def make_section(n_spots: int, pitch_px: int = 16, n_genes: int = 20):
    """A square lattice of touching bins on a slide of their size."""
    import anndata
    import pandas as pd
    from scipy.sparse import csr_matrix

    from spotscope.data.section import Section
    from spotscope.slide.levels import PixelLevel
    from spotscope.slide.slide import Slide

    side = int(np.ceil(np.sqrt(n_spots)))
    rows, cols = (grid.ravel()[:n_spots] for grid in np.indices((side, side)))
    rng = np.random.default_rng(0)
    waves = rng.uniform(1, 6, (2, n_genes))
    means = 3 * (
        1 + np.sin(rows[:, None] / side * waves[0]) * np.cos(cols[:, None] / side * waves[1])
    )
    genes = [f"GENE{place}" for place in range(n_genes)]
    table = anndata.AnnData(
        csr_matrix(rng.poisson(means).astype(np.float32)),
        obs=pd.DataFrame(index=np.arange(n_spots).astype(str)),
        var=pd.DataFrame(index=genes),
    )
    table.obsm["spatial"] = np.column_stack([cols, rows]) * float(pitch_px) + pitch_px / 2
    pixels = rng.integers(170, 250, (side * pitch_px // 4, side * pitch_px // 4, 3), np.uint8)
    pixels = pixels.repeat(4, 0).repeat(4, 1)
    levels = [PixelLevel(np.ascontiguousarray(pixels[::step, ::step])) for step in (1, 4, 16)]
    folder = Path(tempfile.mkdtemp())
    slide = Slide(
        folder, "lattice", levels, (1.0, 4.0, 16.0), mpp_um=0.5, fingerprint=str(n_spots)
    )
    return Section("lattice", "nobody", slide, table, spot_diameter_um=0.5 * pitch_px)


if __name__ == "__main__":
    main()
