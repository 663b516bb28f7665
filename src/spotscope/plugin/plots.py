"""Plots as the docks show them: to be read, not handled, in the colours of napari's theme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def make_plot() -> Any:
    """Return a plot that neither wheel nor menu changes."""
    import pyqtgraph as pg

    plot = pg.PlotWidget()
    plot.setMouseEnabled(x=False, y=False)
    plot.hideButtons()
    plot.setMenuEnabled(False)
    plot.plotItem.layout.setContentsMargins(2, 2, 10, 8)  # or letters lose their tails
    for side in ("bottom", "left"):
        plot.getAxis(side).enableAutoSIPrefix(False)
    return plot


def colour_plots(viewer: Any, plots: Iterable[Any]) -> tuple[str, str]:
    """Give plots the theme's colours; returns those of background and text."""
    from napari.utils.theme import get_theme

    theme = get_theme(viewer.theme)
    back, text = theme.background.as_hex(), theme.text.as_hex()
    for plot in plots:
        plot.setBackground(back)
        for side in ("bottom", "left"):
            plot.getAxis(side).setPen(text)
            plot.getAxis(side).setTextPen(text)
    return back, text
