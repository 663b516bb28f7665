"""Micrometres per pixel: what each source states, and which one is taken."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Iterable

AGREE = 0.02
"""Relative difference up to which two statements count as the same."""

USER = "you"
"""Name of the source that the user is."""

_PLAUSIBLE_UM = (0.02, 10.0)
"""Of resolution tags: 72 to 600 dpi, which programs write without a thought, is 42 µm and more."""

_UM_PER_UNIT = {
    "nm": 1e-3,
    "nanometer": 1e-3,
    "µm": 1.0,
    "μm": 1.0,  # the Greek letter beside the micro sign
    "um": 1.0,
    "\\u00b5m": 1.0,  # as ImageJ writes it
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "millimetre": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "m": 1e6,
    "meter": 1e6,
    "in": 25400.0,
    "inch": 25400.0,
}


@dataclass(frozen=True)
class MppSource:
    """What one source states.

    Attributes
    ----------
    name
        The source, in the user's words.
    mpp_um
        Micrometres per level-0 pixel; the mean of both directions.
    stretch
        How much the two directions differ, relative to their mean; 0 for square pixels.
    """

    name: str
    mpp_um: float
    stretch: float = 0.0


def mpp_source(name: str, down_um: float, across_um: float | None = None) -> MppSource | None:
    """Return what a source states; None when it is no length above zero.

    Parameters
    ----------
    name
        The source, in the user's words.
    down_um, across_um
        Distance between pixels along the rows' and the columns' axis; square when one is given.
    """
    across_um = down_um if across_um is None else across_um
    if not all(math.isfinite(um) and um > 0 for um in (down_um, across_um)):
        return None
    mean = (down_um + across_um) / 2
    return MppSource(name, mean, abs(down_um - across_um) / mean)


def um_per(unit: str | None) -> float | None:
    """Return micrometres per unit of length; None when it is not one."""
    return _UM_PER_UNIT.get((unit or "").strip().lower())


def from_resolution(
    name: str, down: float, across: float, um_per_unit: float | None
) -> MppSource | None:
    """Return what resolution tags (pixels per unit) state; None when they are a default."""
    if not um_per_unit or not down or not across:
        return None
    source = mpp_source(name, um_per_unit / down, um_per_unit / across)
    if source is None or not _PLAUSIBLE_UM[0] <= source.mpp_um <= _PLAUSIBLE_UM[1]:
        return None
    return source


def choose_mpp(
    sources: Iterable[MppSource], user: float | None = None
) -> tuple[float | None, tuple[str, ...]]:
    """Choose micrometres per pixel.

    Parameters
    ----------
    sources
        In order of trust: the first is taken. Put what is measured in the pixels at hand, such
        as the pitch of spots, before what a file states of itself.
    user
        What the user says; taken before all others.

    Returns
    -------
    mpp_um
        None when nothing states it.
    warnings
        Sentences, when sources differ by more than 2 % or pixels are not square.

    Raises
    ------
    SpotScopeError
        When the user's value is no length above zero.
    """
    stated = list(sources)
    if user is not None:
        if not (math.isfinite(user) and user > 0):
            raise SpotScopeError(
                f"Micrometres per pixel must be above zero, not {user:g}; scanners give about"
                " 0.25 (40x) or 0.5 (20x)."
            )
        stated.insert(0, MppSource(USER, float(user)))
    if not stated:
        return None, ()
    taken = stated[0]
    warnings = []
    others = [
        source for source in stated[1:] if abs(source.mpp_um / taken.mpp_um - 1) > AGREE + 1e-9
    ]
    if others:
        listed = ", ".join(f"{source.mpp_um:.4g} ({source.name})" for source in others)
        warnings.append(
            f"Sources of micrometres per pixel differ: {taken.mpp_um:.4g} ({taken.name}) is used,"
            f" not {listed}; state the right one with --mpp."
        )
    if taken.stretch > AGREE:
        warnings.append(
            f"Pixels are not square ({taken.name}: {taken.stretch:.0%} longer one way): their mean"
            f" of {taken.mpp_um:.4g} µm is used, so lengths are off by up to"
            f" {taken.stretch / 2:.0%}."
        )
    return taken.mpp_um, tuple(warnings)
