"""Colours of expression, error and subtypes, and the ranges that they span; no Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.utils import Colormap
    from numpy.typing import NDArray

EXPRESSION_MAP = "viridis"

# ColorBrewer's RdBu, which people with any common colour blindness can read: blue is predicted
# too low, red too high, and what is right is almost white.
_ERROR_STOPS = ("#053061", "#4393c3", "#f7f7f7", "#d6604d", "#67001f")

UNKNOWN_COLOUR = "#9e9e9e"
"""Grey: what is unsure or off every scale, and classes that are not known."""

UNLABELLED = (0.85, 0.85, 0.85, 0.45)
"""Red, green, blue, alpha of spots without a label: the tissue that waits for one is seen."""

PERCENTILES = (1.0, 99.0)
"""Of the measured values: the colour range until the user chooses another."""

UNIT = "log1p CP10k"


def expression_map() -> Colormap:
    """Return the colours of expression; missing values are transparent."""
    from napari.utils.colormaps import ensure_colormap

    return ensure_colormap(EXPRESSION_MAP)


def error_map() -> Colormap:
    """Return the diverging colours of predicted minus measured."""
    from napari.utils import Colormap

    return Colormap(
        np.array([hex_to_rgba(stop) for stop in _ERROR_STOPS]),
        name="SpotScope error",
        display_name="blue: too low, red: too high",
    )


def hex_to_rgba(colour: str) -> tuple[float, float, float, float]:
    """Turn `#rrggbb` into red, green, blue, alpha between 0 and 1."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue, 1.0


def rgba(values: NDArray, limits: tuple[float, float], colours: Colormap) -> NDArray[np.float32]:
    """Colour values.

    Parameters
    ----------
    values
        (n,) floats; what is missing becomes transparent.
    limits
        The values of the first and the last colour.
    colours
        The map.

    Returns
    -------
    (n, 4) float32 between 0 and 1.
    """
    low, high = limits
    # 256 colours and a look-up, as the graphics card does it: mapping each value costs more.
    steps = np.vstack([colours.map(np.linspace(0, 1, 256)), np.zeros(4)]).astype(np.float32)
    scaled = np.clip((np.asarray(values, np.float64) - low) / (high - low), 0, 1) * 255
    return steps[np.where(np.isnan(scaled), 256, np.rint(scaled)).astype(np.intp)]


def expression_limits(
    values: NDArray, percentiles: tuple[float, float] = PERCENTILES
) -> tuple[float, float]:
    """Return the range that the percentiles of the values span, never empty.

    A gene seen in fewer spots than the upper percentile leaves would span nothing: then the range
    reaches to its highest value.
    """
    values = np.asarray(values)[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, percentiles))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low, low + 1.0)


def error_limits(errors: NDArray, percentile: float = PERCENTILES[1]) -> tuple[float, float]:
    """Return a range around zero that the percentile of the absolute errors reaches."""
    errors = np.abs(np.asarray(errors)[np.isfinite(errors)])
    reach = float(np.percentile(errors, percentile)) if errors.size else 0.0
    reach = reach or (float(errors.max()) if errors.size else 0.0) or 1.0
    return -reach, reach


def subtype_colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour-blind-safe `#rrggbb` per subtype, the same for the same set of names."""
    from spotscope.annotate.vocabulary import Vocabulary

    vocabulary = Vocabulary().with_names(sorted(names))
    return {one.name: one.colour for one in vocabulary.classes}
