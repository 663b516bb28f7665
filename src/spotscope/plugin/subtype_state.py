"""Which predicted subtypes are shown of the active section, and how; no Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from spotscope.annotate.learnt import FARTHEST, UNSURE, areas, decide, smoothed
from spotscope.errors import SpotScopeError
from spotscope.plugin import colours

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.annotate.learnt import SubtypeMap
    from spotscope.data.places import Grid
    from spotscope.data.subtype_runs import SubtypeRun
    from spotscope.plugin.opened import OpenSection
    from spotscope.plugin.workspace import Workspace


STRANGE = "unlike anything learnt"


@dataclass(frozen=True)
class Settings:
    """How a subtype map is read.

    Attributes
    ----------
    threshold
        Probability below which a place is unsure.
    radius_um
        Of the neighbours whose probabilities are averaged; 0 leaves every place alone.
    opacity
        Of the map over the slide.
    """

    threshold: float = 0.5
    radius_um: float = 0.0
    opacity: float = 0.6


@dataclass(frozen=True)
class ToldPart:
    """What is told at some places.

    Attributes
    ----------
    map
        Probabilities, smoothed if that was asked for.
    codes
        (n,) place among the classes, -1 where unsure.
    areas
        By class and for "unsure": places and mm².
    """

    map: SubtypeMap
    codes: NDArray[np.intp]
    areas: dict[str, tuple[int, float | None]]

    @property
    def grid(self) -> Grid:
        """Of a part on a grid."""
        grid = self.map.places.grid
        assert grid is not None
        return grid

    def labels(self) -> NDArray[np.uint8]:
        """Return (rows, cols): 0 off tissue, 1 for the first class …, K + 1 where unsure."""
        shown = np.where(self.codes < 0, len(self.map.classes), self.codes) + 1
        picture = np.zeros(self.grid.shape, np.uint8)
        picture[self.grid.mask] = shown
        return picture

    def say(self, place: int) -> str:
        """Say what is told at one place."""
        shares = self.map.probabilities[place]
        best = int(shares.argmax())
        said = f"{self.map.classes[best]} {percent(float(shares[best]))}"
        if self.codes[place] >= 0:
            return said
        return f"{UNSURE}, {STRANGE} ({said})" if self.strange(place) else f"{UNSURE} ({said})"

    def strange(self, places: int | NDArray[np.intp]) -> bool:
        """Whether a place, or most of several, is too far from all that was learnt to be told."""
        return bool((self.map.distance[places] > FARTHEST).mean() > 0.5)


@dataclass(frozen=True)
class Told:
    """A subtype run as it is shown.

    Attributes
    ----------
    run
        The run.
    palette
        `#rrggbb` of each class.
    on_spots, on_grid
        What the run tells there, if it does.
    """

    run: SubtypeRun
    palette: dict[str, str]
    on_spots: ToldPart | None
    on_grid: ToldPart | None

    @property
    def classes(self) -> list[str]:
        """Names."""
        return self.run.classes

    def legend(self) -> list[tuple[str, str, int | None, float | None]]:
        """Return (name, colour, spots, mm²) of each class, and of what is unsure."""
        rows = []
        for name in [*self.classes, UNSURE]:
            spots = self.on_spots.areas[name][0] if self.on_spots else None
            area = self.on_grid.areas[name][1] if self.on_grid else None
            rows.append((name, self.palette.get(name, colours.UNKNOWN_COLOUR), spots, area))
        return rows

    def say_at(self, cell: int | None, spot: int | None) -> str | None:
        """Say what is told in a cell of the grid, or else on a spot; None where it is neither."""
        if self.on_grid is not None and cell is not None:
            return self.on_grid.say(int(self._numbers.flat[cell]))
        if self.on_spots is not None and spot is not None:
            return self.on_spots.say(spot)
        return None

    @cached_property
    def _numbers(self) -> NDArray[np.intp]:
        assert self.on_grid is not None
        return np.cumsum(self.on_grid.grid.mask).reshape(self.on_grid.grid.shape) - 1


class Subtypes:
    """The subtype runs of a workspace's active section, and the one that is shown.

    Parameters
    ----------
    workspace
        Whose sections; its `changed` tells `subtype runs` and `subtypes`. `pointed` tells what
        is told under the mouse, a sentence or None.
    """

    pointed = Signal(object)

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._chosen: dict[str, str] = {}
        self._kept: tuple[tuple[Any, ...], Told] | None = None
        self._maps: dict[tuple[str, str], tuple[SubtypeMap | None, SubtypeMap | None]] = {}
        self.settings = Settings()

    @property
    def runs(self) -> list[SubtypeRun]:
        """Of the active section, the newest first."""
        section = self._workspace.section
        return section.subtype_runs if section is not None else []

    @property
    def run(self) -> SubtypeRun | None:
        """The one that is shown: the one chosen for this section, else the newest."""
        section = self._workspace.section
        if section is None or not self.runs:
            return None
        chosen = self._chosen.get(section.key)
        return next((run for run in self.runs if run.id == chosen), self.runs[0])

    def refresh(self, show: str | None = None, opened: OpenSection | None = None) -> None:
        """Read a section's subtype runs again, and show the one of that id."""
        opened = opened or self._workspace.section
        if opened is None:
            raise SpotScopeError("Open a section first.")
        opened.read_subtype_runs()
        if show is not None:
            self._chosen[opened.key] = show
        if opened is self._workspace.section:
            self._workspace.tell("subtype runs", "subtypes")

    def show_run(self, run_id: str) -> None:
        """Choose the run that is shown.

        Raises
        ------
        SpotScopeError
            When the active section has no such run.
        """
        section = self._workspace.section
        if section is None or run_id not in [run.id for run in self.runs]:
            listed = ", ".join(run.id for run in self.runs) or "none"
            raise SpotScopeError(
                f"This section has no predicted subtypes '{run_id}'; it has {listed}."
            )
        self._chosen[section.key] = run_id
        self._workspace.tell("subtype runs", "subtypes")

    def change(self, **settings: float) -> None:
        """Change threshold (0 to 1), radius_um or opacity (0 to 1).

        Raises
        ------
        SpotScopeError
            When a value is out of its range.
        """
        changed = replace(self.settings, **settings)
        if not (0 <= changed.threshold <= 1 and 0 <= changed.opacity <= 1):
            raise SpotScopeError("Threshold and opacity go from 0 to 1.")
        if not 0 <= changed.radius_um < np.inf:
            raise SpotScopeError("The radius of smoothing is 0 µm or more.")
        if changed != self.settings:
            self.settings = changed
            self._workspace.tell("subtypes")

    def told(self) -> Told | None:
        """Return what the chosen run tells, as the settings have it; None without a run."""
        section, run = self._workspace.section, self.run
        if section is None or run is None:
            return None
        palette = self._workspace.palette(run.classes)
        asked = (self.settings.threshold, self.settings.radius_um)
        key = (section.key, run.id, *asked, *palette.items())
        if self._kept is None or self._kept[0] != key:
            spots, grid = self._read(section, run)
            made = Told(run, palette, self._part(spots), self._part(grid))
            self._kept = key, made
        return self._kept[1]

    def _read(
        self, section: OpenSection, run: SubtypeRun
    ) -> tuple[SubtypeMap | None, SubtypeMap | None]:
        key = section.key, run.id
        if key not in self._maps:
            self._maps = {key: (run.on_spots(), run.on_grid())}  # of one run: they can be large
        return self._maps[key]

    def _part(self, found: SubtypeMap | None) -> ToldPart | None:
        if found is None:
            return None
        if self.settings.radius_um:
            found = smoothed(found, self.settings.radius_um)
        codes = decide(found, self.settings.threshold)
        return ToldPart(found, codes, areas(found, codes))


def percent(share: float) -> str:
    """Write a probability as people do."""
    return f"{100 * share:.0f} %"
