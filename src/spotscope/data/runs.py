"""Predictions in a section's store: a run is a table on the spots, pictures on the grid, or both.

The layout is that of SpatialData, so that `spatialdata.read_zarr` opens what is written here:

- `tables/<run>`: AnnData, X = log1p CP10k, `layers["uncertainty"]`, annotating the same spots
- `images/<run>_grid`: (genes, rows, cols) float32, NaN off tissue, one chunk a gene
- `images/<run>_grid_uncertainty`: the same, or one channel for all genes

Each element says in its attribute `spotscope` to which run it belongs, which elements that run has
and what made it. A run is listed only when all its elements are there. Reading needs zarr alone.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
import warnings
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spotscope.data.places import Grid
from spotscope.data.prediction import protocol_of
from spotscope.errors import SpotScopeError
from spotscope.files import staging_folder
from spotscope.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from spotscope.data.prediction import Prediction
    from spotscope.data.section import Section

ATTRIBUTE = "spotscope"
Where = Literal["spots", "grid"]
Kind = Literal["expression", "uncertainty"]

_CHUNK_VALUES = 2**18  # of the spots' table: about 1 MB, whatever the number of spots
_TABLE, _MAPS, _MAPS_UNCERTAINTY = "tables/{}", "images/{}_grid", "images/{}_grid_uncertainty"
_ARRAYS: dict[tuple[Where, Kind], str] = {
    ("spots", "expression"): f"{_TABLE}/X",
    ("spots", "uncertainty"): f"{_TABLE}/layers/uncertainty",
    ("grid", "expression"): f"{_MAPS}/s0",
    ("grid", "uncertainty"): f"{_MAPS_UNCERTAINTY}/s0",
}
_SHARED_UNCERTAINTY = f"{_TABLE}/obs/uncertainty"  # one figure a spot for all genes
_consolidating = threading.Lock()


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
        first = _open(self._store, _ARRAYS["grid", "expression"].format(self.id))[0]
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
) -> None:
    """Add a prediction to the section's store, whole or not at all.

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
    about = _about(section, run_id, on_spots, on_grid)
    with staging_folder(store, "run") as stage:
        if on_spots is not None:
            progress.report(0.0, "Writing the prediction on the spots")
            _write_table(stage, section, on_spots, about)
        if on_grid is not None:
            _write_maps(stage, on_grid, about, _systems(store), progress.part(0.2, 0.9))
        progress.check()
        _move_in(stage, store, about["elements"])
    progress.report(1.0, "Written")


def list_runs(section: Section) -> list[Run]:
    """Return the runs in the section's store, the newest first; none without a store."""
    if section.store is None:
        return []
    present = _elements(section.store).keys()
    found = {about["run"]: about for about in _descriptions(section.store)}
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
        for about in found.values()
        if set(about["elements"]) <= present
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
    element = store / (_TABLE if where == "spots" else _MAPS).format(run_id)
    about = _attributes(element).get(ATTRIBUTE)
    if about is None:
        raise SpotScopeError(
            f"The store '{store.name}' holds no prediction '{run_id}' on the {where}."
        )
    if gene not in about["genes"]:
        raise SpotScopeError(f"The run '{run_id}' does not predict the gene '{gene}'.")
    index = about["genes"].index(gene)
    path = _ARRAYS[where, kind].format(run_id)
    if kind == "uncertainty" and not (store / path).is_dir():
        path = _SHARED_UNCERTAINTY.format(run_id)
        if where == "grid" or not (store / path).is_dir():
            raise SpotScopeError(f"The run '{run_id}' says nothing of its uncertainty.")
    array = _open(store, path)
    if where == "grid":
        return np.asarray(array[index if array.shape[0] > 1 else 0], np.float32)
    values = array[:] if array.ndim == 1 else array[:, index]
    if len(values) != section.n_spots:
        raise SpotScopeError(
            f"The run '{run_id}' was made for {len(values)} spots but section '{section.name}' has"
            f" {section.n_spots}; predict again."
        )
    return np.asarray(values, np.float32)


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
        elements.append(_TABLE.format(run_id))
    if on_grid is not None:
        elements.append(_MAPS.format(run_id))
        if on_grid.uncertainty is not None:
            elements.append(_MAPS_UNCERTAINTY.format(run_id))
        grid = _grid_of(on_grid)
        layout = {
            "origin_px": [float(value) for value in grid.origin_px],
            "stride_px": float(grid.stride_px),
            "stride_um": float(grid.stride_um),
        }
    now = datetime.now().astimezone()
    said = first.provenance
    made_with = " on ".join(
        str(part)
        for part in (said.get("title") or said.get("method"), said.get("encoder"))
        if part
    )
    return {
        "run": run_id,
        "title": f"{made_with or run_id}, {now.day} {now:%b %Y %H:%M}",
        "created": now.isoformat(timespec="seconds"),
        "genes": first.genes,
        "protocol": protocol_of(said, section),
        "provenance": said,
        "elements": elements,
        "grid": layout,
        "uncertainty": first.uncertainty is not None,
    }


def _write_table(
    stage: Path, section: Section, prediction: Prediction, about: dict[str, Any]
) -> None:
    """Write the prediction on the spots as a table that annotates the same spots."""
    import anndata as ad
    import pandas as pd
    import zarr

    spots = section.spots
    assert spots is not None
    link = spots.uns.get("spatialdata_attrs")
    keys = [link["region_key"], link["instance_key"]] if link else []
    obs = spots.obs[keys].copy() if keys else pd.DataFrame(index=spots.obs_names)
    table = ad.AnnData(
        X=prediction.expression,
        obs=obs,
        var=pd.DataFrame(index=pd.Index(prediction.genes)),
        obsm={"spatial": np.asarray(spots.obsm["spatial"])},
        uns={ATTRIBUTE: json.dumps(about)},
    )
    if link:
        table.uns["spatialdata_attrs"] = dict(link)
    if prediction.uncertainty is not None:
        if prediction.uncertainty.shape == prediction.expression.shape:
            table.layers["uncertainty"] = prediction.uncertainty
        else:
            table.obs["uncertainty"] = prediction.uncertainty[:, 0]

    def write(writer: Any, group: Any, key: str, elem: Any, dataset_kwargs: Any, **_: Any) -> None:
        # A gene is read far more often than a spot, so the chunks are columns.
        if key in ("X", "layers/uncertainty") or key.endswith(("/X", "/layers/uncertainty")):
            columns = max(1, min(elem.shape[1], _CHUNK_VALUES // max(1, elem.shape[0])))
            dataset_kwargs = {**dataset_kwargs, "chunks": (max(1, elem.shape[0]), columns)}
        writer(group, key, elem, dataset_kwargs=dataset_kwargs)

    root = zarr.open_group(stage, mode="a", zarr_format=3)
    name = _TABLE.format(about["run"])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*autosharding.*")
        ad.experimental.write_dispatched(root, name, table, write)
    root[name].attrs.update(
        {
            "spatialdata-encoding-type": "ngff:regions_table",
            "region": link["region"] if link else None,
            "region_key": link["region_key"] if link else None,
            "instance_key": link["instance_key"] if link else None,
            "version": "0.2",
            ATTRIBUTE: about,
        }
    )


def _write_maps(
    stage: Path,
    prediction: Prediction,
    about: dict[str, Any],
    systems: list[dict[str, Any]],
    progress: Progress,
) -> None:
    """Write the prediction on the grid as one picture with a channel a gene."""
    import zarr

    grid = _grid_of(prediction)
    parts = [(_MAPS, prediction.genes, prediction.expression)]
    if prediction.uncertainty is not None:
        shared = prediction.uncertainty.shape[1] == 1 != len(prediction.genes)
        names = ["uncertainty"] if shared else prediction.genes
        parts.append((_MAPS_UNCERTAINTY, names, prediction.uncertainty))
    for i, (pattern, names, values) in enumerate(parts):
        part = progress.part(i / len(parts), (i + 1) / len(parts))
        element = stage / pattern.format(about["run"])
        _write_picture(element, grid, names, values, part)
        zarr.open_group(element, mode="r+").attrs.update(
            {**_picture_attributes(element.name, names, grid, systems), ATTRIBUTE: about}
        )


def _write_picture(
    element: Path,
    grid: Grid,
    names: list[str],
    values: NDArray[np.float32],
    progress: Progress,
) -> None:
    import zarr

    group = zarr.create_group(element, zarr_format=3)
    array = group.create_array(
        "s0",
        shape=(len(names), *grid.shape),
        chunks=(1, *grid.shape),
        dtype="float32",
        fill_value=float("nan"),
        dimension_names=("c", "y", "x"),
    )
    for i in progress.track(range(len(names)), "Writing the maps"):
        array[i] = grid.image(values[:, i])


def _picture_attributes(
    name: str, names: list[str], grid: Grid, systems: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the metadata of an OME-Zarr picture as SpatialData writes it."""
    axes = [
        {"name": "c", "type": "channel"},
        {"name": "y", "type": "space"},
        {"name": "x", "type": "space"},
    ]
    # SpatialData puts the corner of pixel (0, 0) at 0, this project its centre.
    corner = [origin + 0.5 - grid.stride_px / 2 for origin in grid.origin_px]
    cells_to_pixels = [
        {"type": "scale", "scale": [1.0, grid.stride_px, grid.stride_px]},
        {"type": "translation", "translation": [0.0, *corner]},
    ]
    transformations = []
    for system in systems:
        ends = {"input": system["input"], "output": system["output"]}
        steps = [{**step, **ends} for step in cells_to_pixels]
        if system["type"] != "identity":
            steps.append(system)
        transformations.append({"type": "sequence", "transformations": steps, **ends})
    scale = {"type": "scale", "scale": [1.0, 1.0, 1.0]}
    return {
        "ome": {
            "version": "0.5-dev-spatialdata",
            "omero": {"channels": [{"label": name} for name in names]},
            "multiscales": [
                {
                    "name": f"/images/{name}",
                    "axes": axes,
                    "datasets": [{"path": "s0", "coordinateTransformations": [scale]}],
                    "coordinateTransformations": transformations,
                }
            ],
        },
        "spatialdata_attrs": {"version": "0.3"},
    }


def _systems(store: Path) -> list[dict[str, Any]]:
    """Return the transformations of level-0 pixels to the store's coordinate systems.

    They are those of the slide's picture; a store whose slide lies elsewhere has the one system
    "global", in level-0 pixels.
    """
    for name in _elements(store):
        # The element itself is asked: SpatialData moves one without renewing what is consolidated.
        attributes = _attributes(store / name)
        if name.startswith("images/") and ATTRIBUTE not in attributes and "ome" in attributes:
            return attributes["ome"]["multiscales"][0]["coordinateTransformations"]
    axes = [
        {"name": "c", "type": "channel"},
        {"name": "y", "type": "space", "unit": "unit"},
        {"name": "x", "type": "space", "unit": "unit"},
    ]
    return [
        {
            "type": "identity",
            "input": {"name": "cyx", "axes": axes},
            "output": {"name": "global", "axes": axes},
        }
    ]


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
        with _consolidating, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the spots' parquet file is no part of the hierarchy
            zarr.consolidate_metadata(store)
    except BaseException:
        for path in moved:
            shutil.rmtree(path, ignore_errors=True)
        raise


def _grid_of(prediction: Prediction) -> Grid:
    if prediction.places.grid is None:
        raise ValueError("the prediction was not made on a grid")
    return prediction.places.grid


def _store_of(section: Section) -> Path:
    if section.store is None:
        raise SpotScopeError(
            f"Section '{section.name}' is a slide alone and has no store to keep predictions in;"
            " import it first, or say with --out where its store goes."
        )
    return section.store


def _elements(store: Path) -> dict[str, dict[str, Any]]:
    """Return the attributes of the store's elements by their path, such as `images/slide`."""
    nodes = _metadata(store).get("consolidated_metadata") or {}
    return {
        name: node.get("attributes", {})
        for name, node in nodes.get("metadata", {}).items()
        if name.count("/") == 1
    }


def _descriptions(store: Path) -> list[dict[str, Any]]:
    """Return what the store's elements say of their runs."""
    said = (attributes.get(ATTRIBUTE) for attributes in _elements(store).values())
    return [about for about in said if isinstance(about, dict) and "run" in about]


def _attributes(element: Path) -> dict[str, Any]:
    return _metadata(element).get("attributes", {})


def _metadata(group: Path) -> dict[str, Any]:
    try:
        return json.loads((group / "zarr.json").read_bytes())
    except FileNotFoundError:
        return {}


def _open(store: Path, path: str) -> Any:
    import zarr

    return zarr.open_array(store / path, mode="r")


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
