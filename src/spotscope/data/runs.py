"""Predictions in a section's store: a run is a table on the spots, pictures on the grid, or both.

The layout is that of SpatialData, so that `spatialdata.read_zarr` opens what is written here:

- `tables/<run>`: AnnData, X = log1p CP10k, `layers["uncertainty"]`, annotating the same spots
- `images/<run>_grid`: (genes, rows, cols) float32, NaN off tissue, one chunk a gene
- `images/<run>_grid_uncertainty`: the same, or one channel for all genes

Each element says in its attribute `spotscope` to which run it belongs, which elements that run has
and what made it. A run is listed only when all its elements are there. Reading needs zarr alone.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.data.places import Grid
from spotscope.data.prediction import made_with, protocol_of
from spotscope.data.run_elements import (
    ARRAYS,
    ATTRIBUTE,
    MAPS,
    MAPS_UNCERTAINTY,
    SHARED_UNCERTAINTY,
    TABLE,
    Kind,
    Where,
    attributes_of,
    consolidate,
    elements_of,
    grid_of,
    slide_systems,
    write_maps,
    write_table,
)
from spotscope.errors import SpotScopeError
from spotscope.files import said_plainly, staging_folder
from spotscope.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from spotscope.data.prediction import Prediction
    from spotscope.data.section import Section

EXPRESSION = "expression"


@dataclass
class Run:
    """One prediction in a store.

    Attributes
    ----------
    id
        Unique in the store, readable: `ridge-stain-2026-11-21-0815`.
    title
        For people: the method, the encoder and the time.
    created
        ISO time, to the second.
    genes
        Predicted, in order.
    protocol
        "held-out patient", "held-out section" or "trained on this section".
    provenance
        Of the model, see `Prediction`.
    has_spots, has_grid, has_uncertainty
        What was written.
    stride_um
        Of the grid.
    """

    id: str
    title: str
    created: str
    genes: list[str]
    protocol: str
    provenance: dict[str, Any]
    has_spots: bool
    has_grid: bool
    has_uncertainty: bool
    stride_um: float | None
    _store: Path
    _layout: dict[str, Any] | None

    @cached_property
    def grid(self) -> Grid | None:
        """Geometry and tissue of the grid; None without one."""
        if self._layout is None:
            return None
        # Off tissue every gene is NaN and on tissue none is, so any gene's map holds the mask.
        first = open_array(self._store, ARRAYS["grid", "expression"].format(self.id))[0]
        return Grid(
            tuple(self._layout["origin_px"]),
            self._layout["stride_px"],
            self._layout["stride_um"],
            np.isfinite(first),
        )


def new_run_id(section: Section, method: str, encoder: str, now: datetime | None = None) -> str:
    """Return a readable id that no element of the section's store bears."""
    now = now or datetime.now()
    base = "-".join(filter(None, (_slug(method), _slug(encoder), f"{now:%Y-%m-%d-%H%M}")))
    taken = {about["run"] for about in _descriptions(_store_of(section))}
    run_id, count = base, 1
    while run_id in taken:
        count += 1
        run_id = f"{base}-{count}"
    return run_id


def write_run(
    section: Section,
    run_id: str,
    on_spots: Prediction | None,
    on_grid: Prediction | None,
    progress: Progress | None = None,
    *,
    kind: str = EXPRESSION,
) -> None:
    """Add a prediction to the section's store, whole or not at all.

    Parameters
    ----------
    kind
        Of what is predicted; `list_runs` knows the runs of expression alone.

    Raises
    ------
    SpotScopeError
        When the section has no store, the id is taken or the store cannot be written.
    """
    progress = progress or Progress()
    store = _store_of(section)
    if on_spots is None and on_grid is None:
        raise ValueError("a run needs a prediction on the spots or on a grid")
    if any(about["run"] == run_id for about in _descriptions(store)):
        raise SpotScopeError(f"The store '{store.name}' already holds a run '{run_id}'.")
    about = {**_about(section, run_id, on_spots, on_grid), "kind": kind}
    with staging_folder(store, "run") as stage:
        if on_spots is not None:
            progress.report(0.0, "Writing the prediction on the spots")
            write_table(stage, section, on_spots, about)
        if on_grid is not None:
            write_maps(stage, on_grid, about, slide_systems(store), progress.part(0.2, 0.9))
        progress.check()
        _move_in(stage, store, about["elements"])
    progress.report(1.0, "Written")


def list_runs(section: Section) -> list[Run]:
    """Return the runs in the section's store, the newest first; none without a store."""
    if section.store is None:
        return []
    runs = [
        Run(
            id=about["run"],
            title=about["title"],
            created=about["created"],
            genes=about["genes"],
            protocol=about["protocol"],
            provenance=about["provenance"],
            has_spots=f"tables/{about['run']}" in about["elements"],
            has_grid=about["grid"] is not None,
            has_uncertainty=about["uncertainty"],
            stride_um=about["grid"]["stride_um"] if about["grid"] else None,
            _store=section.store,
            _layout=about["grid"],
        )
        for about in descriptions(section, EXPRESSION)
    ]
    return sorted(runs, key=lambda run: (run.created, run.id), reverse=True)


def read_gene(
    section: Section,
    run_id: str,
    gene: str,
    where: Where = "spots",
    kind: Kind = "expression",
) -> NDArray[np.float32]:
    """Return one gene's prediction: log1p CP10k, or its standard deviation.

    Returns
    -------
    (n_spots,) in the order of the section's spots, or the (rows, cols) map, NaN off tissue; the
    map is one chunk of the store.

    Raises
    ------
    SpotScopeError
        When the run, the gene or this part of the run is not there.
    """
    store = _store_of(section)
    element = store / (TABLE if where == "spots" else MAPS).format(run_id)
    about = attributes_of(element).get(ATTRIBUTE)
    if about is None:
        raise _not_there(store, run_id, where)
    if gene not in about["genes"]:
        raise SpotScopeError(f"The run '{run_id}' does not predict the gene '{gene}'.")
    index = about["genes"].index(gene)
    path = ARRAYS[where, kind].format(run_id)
    if kind == "uncertainty" and not (store / path).is_dir():
        path = SHARED_UNCERTAINTY.format(run_id)
        if where == "grid" or not (store / path).is_dir():
            raise SpotScopeError(f"The run '{run_id}' says nothing of its uncertainty.")
    array = open_array(store, path)
    if where == "grid":
        return np.asarray(array[index if array.shape[0] > 1 else 0], np.float32)
    values = array[:] if array.ndim == 1 else array[:, index]
    _check_spots(section, run_id, len(values))
    return np.asarray(values, np.float32)


def read_spots(section: Section, run_id: str) -> NDArray[np.float32]:
    """Return the whole prediction on the spots, (n_spots, G) log1p CP10k.

    Raises
    ------
    SpotScopeError
        When the run is not there, or not on the spots that the section has now.
    """
    store = _store_of(section)
    if attributes_of(store / TABLE.format(run_id)).get(ATTRIBUTE) is None:
        raise _not_there(store, run_id, "spots")
    values = open_array(store, ARRAYS["spots", "expression"].format(run_id))[:]
    _check_spots(section, run_id, len(values))
    return np.asarray(values, np.float32)


def _not_there(store: Path, run_id: str, where: Where) -> SpotScopeError:
    return SpotScopeError(
        f"The store '{store.name}' holds no prediction '{run_id}' on the {where}."
    )


def _check_spots(section: Section, run_id: str, count: int) -> None:
    if count != section.n_spots:
        raise SpotScopeError(
            f"The run '{run_id}' was made for {count} spots but section '{section.name}' has"
            f" {section.n_spots}; predict again."
        )


def descriptions(section: Section, kind: str) -> list[dict[str, Any]]:
    """Return what the whole runs of one kind say of themselves; none without a store."""
    if section.store is None:
        return []
    present = elements_of(section.store).keys()
    found = {about["run"]: about for about in _descriptions(section.store)}
    return [
        about
        for about in found.values()
        if about.get("kind", EXPRESSION) == kind and set(about["elements"]) <= present
    ]


def open_array(store: Path | None, path: str) -> Any:
    """Open an array of a store, to read."""
    import zarr

    assert store is not None
    return zarr.open_array(store / path, mode="r")


def _about(
    section: Section, run_id: str, on_spots: Prediction | None, on_grid: Prediction | None
) -> dict[str, Any]:
    """Return what every element of a run says of it."""
    predictions = [one for one in (on_spots, on_grid) if one is not None]
    first = predictions[0]
    if any(one.genes != first.genes for one in predictions):
        raise ValueError("the predictions on the spots and on the grid are of different genes")
    elements, layout = [], None
    if on_spots is not None:
        elements.append(TABLE.format(run_id))
    if on_grid is not None:
        elements.append(MAPS.format(run_id))
        if on_grid.uncertainty is not None:
            elements.append(MAPS_UNCERTAINTY.format(run_id))
        grid = grid_of(on_grid)
        layout = {
            "origin_px": [float(value) for value in grid.origin_px],
            "stride_px": float(grid.stride_px),
            "stride_um": float(grid.stride_um),
        }
    now = datetime.now().astimezone()
    said = first.provenance
    return {
        "run": run_id,
        "title": f"{made_with(said) or run_id}, {now.day} {now:%b %Y %H:%M}",
        "created": now.isoformat(timespec="seconds"),
        "genes": first.genes,
        "protocol": protocol_of(said, section),
        "provenance": said,
        "elements": elements,
        "grid": layout,
        "uncertainty": first.uncertainty is not None,
    }


def _move_in(stage: Path, store: Path, elements: list[str]) -> None:
    """Move finished elements into the store and renew its consolidated metadata."""
    import zarr

    root = zarr.open_group(store, mode="r+", use_consolidated=False)
    moved: list[Path] = []
    try:
        for name in elements:
            root.require_group(name.split("/")[0])
            (stage / name).rename(store / name)
            moved.append(store / name)
        consolidate(store)
    except BaseException:
        for path in moved:
            shutil.rmtree(path, ignore_errors=True)
        raise


def remove_elements(section: Section, elements: list[str]) -> None:
    """Take elements out of the section's store; a kill on the way leaves a run that is not whole.

    Raises
    ------
    SpotScopeError
        When the store cannot be written.
    """
    store = _store_of(section)
    with said_plainly(store):
        for name in elements:
            if (store / name).is_dir():
                shutil.rmtree(store / name)
        consolidate(store)


def _store_of(section: Section) -> Path:
    if section.store is None:
        raise SpotScopeError(
            f"Section '{section.name}' is a slide alone and has no store to keep predictions in;"
            " import it first, or say with --out where its store goes."
        )
    return section.store


def _descriptions(store: Path) -> list[dict[str, Any]]:
    """Return what the store's elements say of their runs."""
    said = (attributes.get(ATTRIBUTE) for attributes in elements_of(store).values())
    return [about for about in said if isinstance(about, dict) and "run" in about]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
