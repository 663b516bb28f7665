"""One file a family of slide formats; each turns a path into `Opened`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotscope.slide.levels import LevelArray
    from spotscope.slide.mpp import MppSource


@dataclass
class Opened:
    """What a format found in a file.

    Attributes
    ----------
    levels
        Level 0 first; at least one.
    sources
        Of micrometres per pixel, in order of trust.
    notes
        Sentences that the user should see.
    fingerprint
        Of the content.
    closers
        Called when the slide is closed.
    flat
        Whether it can only be decoded whole, or by strips: not for browsing.
    downsamples
        Where the file states them; None takes them from the sizes of the levels.
    """

    levels: list[LevelArray]
    fingerprint: str
    sources: tuple[MppSource, ...] = ()
    notes: tuple[str, ...] = ()
    closers: tuple[Callable[[], Any], ...] = ()
    flat: bool = False
    downsamples: tuple[float, ...] | None = None
