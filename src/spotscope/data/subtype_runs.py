"""Subtype maps in a section's store, beside the predictions of expression and laid out as these.

- `tables/<run>`: X = probability of each class, `obs["uncertainty"]` = distance
- `images/<run>_grid`: (classes, rows, cols) float32, NaN off tissue
- `images/<run>_grid_uncertainty`: the distance, one channel

What each element says of its run has `"kind": "subtypes"`, so that they are told from expression.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.data.places import Grid, Places
from spotscope.data.prediction import Prediction
from spotscope.data.run_elements import ARRAYS, SHARED_UNCERTAINTY, TABLE
from spotscope.data.runs import descriptions, open_array, remove_elements, write_run
from spotscope.data.subtype_map import SubtypeMap
from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.data.prediction import Protocol
    from spotscope.data.section import Section
    from spotscope.progress import Progress

KIND = "subtypes"


@dataclass(frozen=True)
class SubtypeRun:
    """One classifier's subtypes of a section.

    Attributes
    ----------
    id, title, created
        As of a `Run`.
    classes
        K names.
    protocol
        In what relation the section stood to the training.
    validation
        Held-out scores of the classifier, as `Validation.as_dict` gives; None without any.
    provenance
        Of the classifier.
    has_spots, has_grid
        What was written.
    stride_um
        Of the grid.
    """

    id: str
    title: str
    created: str
    classes: list[str]
    protocol: Protocol
    validation: dict[str, Any] | None
    provenance: dict[str, Any]
    has_spots: bool
    has_grid: bool
    stride_um: float | None
    _section: Section
    _layout: dict[str, Any] | None

    def on_spots(self) -> SubtypeMap | None:
        """Read the subtypes of the spots; None when there are none.

        Raises
        ------
        SpotScopeError
            When the section has other spots now.
        """
        if not self.has_spots:
            return None
        store = self._section.store
        probabilities = open_array(store, ARRAYS["spots", "expression"].format(self.id))[:]
        distance = open_array(store, SHARED_UNCERTAINTY.format(self.id))[:]
        if len(distance) != self._section.n_spots:
            raise SpotScopeError(
                f"The subtypes '{self.title}' were told of {len(distance)} spots but section"
                f" '{self._section.name}' has {self._section.n_spots}; predict again."
            )
        return self._map(probabilities, distance, Places.on_spots(self._section))

    def on_grid(self) -> SubtypeMap | None:
        """Read the subtypes of the cells on tissue; None when there is no grid."""
        if self._layout is None:
            return None
        store = self._section.store
        pictures = open_array(store, ARRAYS["grid", "expression"].format(self.id))[:]
        distance = open_array(store, ARRAYS["grid", "uncertainty"].format(self.id))[0]
        grid = Grid(
            tuple(self._layout["origin_px"]),
            self._layout["stride_px"],
            self._layout["stride_um"],
            np.isfinite(pictures[0]),
        )
        places = Places(self._section, grid.centres_px, grid)
        return self._map(pictures[:, grid.mask].T, distance[grid.mask], places)

    def _map(self, probabilities: NDArray, distance: NDArray, places: Places) -> SubtypeMap:
        return SubtypeMap(
            self.classes,
            np.ascontiguousarray(probabilities, np.float32),
            np.asarray(distance, np.float32),
            places,
        )


def write_subtypes(
    section: Section,
    run_id: str,
    on_spots: SubtypeMap | None,
    on_grid: SubtypeMap | None,
    about: dict[str, Any],
    progress: Progress | None = None,
) -> None:
    """Add subtypes to the section's store, whole or not at all.

    Parameters
    ----------
    run_id
        Of `new_run_id`.
    about
        Where they come from, as JSON: `title`, `encoder`, `training_sections`,
        `training_patients`, `validation` and what else the classifier knows.

    Raises
    ------
    SpotScopeError
        When the section has no store, the id is taken or the store cannot be written.
    """
    spots, grid = (
        None
        if found is None
        else Prediction(
            found.classes, found.probabilities, found.distance[:, None], found.places, about
        )
        for found in (on_spots, on_grid)
    )
    write_run(section, run_id, spots, grid, progress, kind=KIND)


def list_subtype_runs(section: Section) -> list[SubtypeRun]:
    """Return the subtype runs in the section's store, the newest first; none without a store."""
    runs = [
        SubtypeRun(
            id=about["run"],
            title=about["title"],
            created=about["created"],
            classes=about["genes"],
            protocol=about["protocol"],
            validation=about["provenance"].get("validation"),
            provenance=about["provenance"],
            has_spots=TABLE.format(about["run"]) in about["elements"],
            has_grid=about["grid"] is not None,
            stride_um=about["grid"]["stride_um"] if about["grid"] else None,
            _section=section,
            _layout=about["grid"],
        )
        for about in descriptions(section, KIND)
    ]
    return sorted(runs, key=lambda run: (run.created, run.id), reverse=True)


def remove_subtypes(section: Section, run_id: str) -> None:
    """Take a subtype run out of the section's store; one that is not there is no matter."""
    for about in descriptions(section, KIND):
        if about["run"] == run_id:
            remove_elements(section, about["elements"])
