"""Averages of the pathologist's subtypes, drawn over the scatter of a gene's spots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.plugin.colours import UNIT
from spotscope.plugin.widgets import two_decimals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.plugin.opened import OpenSection

LEAST_SPOTS = 3  # as in evaluate/regions.py: a mean of fewer is a spot's noise
_SIZE = 13


@dataclass(frozen=True)
class Average:
    """One subtype's mean of one gene, log1p CP10k."""

    name: str
    n_spots: int
    measured: float
    predicted: float


def averages(
    section: OpenSection, measured: NDArray[np.floating], predicted: NDArray[np.floating]
) -> list[Average]:
    """Return the averages over each subtype with enough spots; none without labels."""
    if section.subtypes is None:
        return []
    names, codes = section.subtypes
    inside = {name: codes == code for code, name in enumerate(names)}
    return [
        Average(name, int(here.sum()), float(measured[here].mean()), float(predicted[here].mean()))
        for name, here in inside.items()
        if here.sum() >= LEAST_SPOTS
    ]


def said(found: list[Average]) -> str:
    """Say how well the averages agree; nothing of fewer than three, which prove nothing."""
    one, two = (np.array([getattr(a, kind) for a in found]) for kind in ("measured", "predicted"))
    if len(found) < 3 or one.std() < 1e-6 or two.std() < 1e-6:
        return ""
    return f"means of {len(found)} subtypes: r {two_decimals(float(np.corrcoef(one, two)[0, 1]))}"


class RegionMarks:
    """Large dots on a plot, one a subtype, that say what they are under the mouse."""

    def __init__(self, plot: Any) -> None:
        import pyqtgraph as pg

        self.dots = pg.ScatterPlotItem(size=_SIZE, hoverable=True, tip=_tip)
        self.dots.setZValue(1)
        plot.addItem(self.dots)

    def show(self, found: list[Average], colours: dict[str, str], outline: str) -> None:
        """Draw these averages and no others."""
        import pyqtgraph as pg

        self.dots.setData(
            x=[one.measured for one in found],
            y=[one.predicted for one in found],
            data=found,
            brush=[pg.mkBrush(colours[one.name]) for one in found],
            pen=pg.mkPen(outline, width=1.5),
        )


def _tip(x: float, y: float, data: Average) -> str:
    figures = f"measured {two_decimals(data.measured)}, predicted {two_decimals(data.predicted)}"
    return f"{data.name}, mean of {data.n_spots:,} spots\n{figures} ({UNIT})"
