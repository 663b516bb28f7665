"""The elements of a SpatialData store that hold a prediction, written in its own layout.

They are written directly, since SpatialData would hold all maps in memory at once.
"""

from __future__ import annotations

import json
import threading
import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spotscope.files import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from spotscope.data.places import Grid
    from spotscope.data.prediction import Prediction
    from spotscope.data.section import Section
    from spotscope.progress import Progress

ATTRIBUTE = "spotscope"
Where = Literal["spots", "grid"]
Kind = Literal["expression", "uncertainty"]

_consolidating = threading.Lock()
_CHUNK_VALUES = 2**18  # of the spots' table: about 1 MB, whatever the number of spots
TABLE, MAPS, MAPS_UNCERTAINTY = "tables/{}", "images/{}_grid", "images/{}_grid_uncertainty"
ARRAYS: dict[tuple[Where, Kind], str] = {
    ("spots", "expression"): f"{TABLE}/X",
    ("spots", "uncertainty"): f"{TABLE}/layers/uncertainty",
    ("grid", "expression"): f"{MAPS}/s0",
    ("grid", "uncertainty"): f"{MAPS_UNCERTAINTY}/s0",
}
SHARED_UNCERTAINTY = f"{TABLE}/obs/uncertainty"  # one figure a spot for all genes


def write_table(
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
    name = TABLE.format(about["run"])
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


def write_maps(
    stage: Path,
    prediction: Prediction,
    about: dict[str, Any],
    systems: tuple[list[dict[str, Any]], float],
    progress: Progress,
) -> None:
    """Write the prediction on the grid as one picture with a channel a gene."""
    import zarr

    grid = grid_of(prediction)
    parts = [(MAPS, prediction.genes, prediction.expression)]
    if prediction.uncertainty is not None:
        shared = prediction.uncertainty.shape[1] == 1 != len(prediction.genes)
        names = ["uncertainty"] if shared else prediction.genes
        parts.append((MAPS_UNCERTAINTY, names, prediction.uncertainty))
    for i, (pattern, names, values) in enumerate(parts):
        part = progress.part(i / len(parts), (i + 1) / len(parts))
        element = stage / pattern.format(about["run"])
        _write_picture(element, grid, names, values, part)
        zarr.open_group(element, mode="r+").attrs.update(
            {**_picture_attributes(element.name, names, grid, *systems), ATTRIBUTE: about}
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
    name: str, names: list[str], grid: Grid, systems: list[dict[str, Any]], downsample: float
) -> dict[str, Any]:
    """Return the metadata of an OME-Zarr picture as SpatialData writes it."""
    axes = [
        {"name": "c", "type": "channel"},
        {"name": "y", "type": "space"},
        {"name": "x", "type": "space"},
    ]
    # SpatialData puts the corner of pixel (0, 0) at 0, this project its centre.
    corner = [(origin + 0.5 - grid.stride_px / 2) / downsample for origin in grid.origin_px]
    stride = grid.stride_px / downsample
    cells_to_picture = [
        {"type": "scale", "scale": [1.0, stride, stride]},
        {"type": "translation", "translation": [0.0, *corner]},
    ]
    transformations = []
    for system in systems:
        ends = {"input": system["input"], "output": system["output"]}
        steps = [{**step, **ends} for step in cells_to_picture]
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


def slide_systems(store: Path) -> tuple[list[dict[str, Any]], float]:
    """Return how the store's picture of the slide lies in its coordinate systems.

    Returns
    -------
    The transformations of the picture's pixels, and the level-0 pixels per pixel of the picture:
    a store that links to its slide keeps a smaller one. Without a picture, the one system
    "global", in level-0 pixels.
    """
    for name in elements_of(store):
        # The element itself is asked: SpatialData moves one without renewing what is consolidated.
        attributes = attributes_of(store / name)
        about = attributes.get(ATTRIBUTE, {})
        if name.startswith("images/") and "run" not in about and "ome" in attributes:
            multiscale = attributes["ome"]["multiscales"][0]
            return multiscale["coordinateTransformations"], float(about.get("downsample", 1.0))
    axes = [
        {"name": "c", "type": "channel"},
        {"name": "y", "type": "space", "unit": "unit"},
        {"name": "x", "type": "space", "unit": "unit"},
    ]
    identity = {
        "type": "identity",
        "input": {"name": "cyx", "axes": axes},
        "output": {"name": "global", "axes": axes},
    }
    return [identity], 1.0


def grid_of(prediction: Prediction) -> Grid:
    """Return the grid that a prediction was made on."""
    if prediction.places.grid is None:
        raise ValueError("the prediction was not made on a grid")
    return prediction.places.grid


def elements_of(store: Path) -> dict[str, dict[str, Any]]:
    """Return the attributes of the store's elements by their path, such as `images/slide`."""
    nodes = _metadata(store).get("consolidated_metadata") or {}
    return {
        name: node.get("attributes", {})
        for name, node in nodes.get("metadata", {}).items()
        if name.count("/") == 1
    }


def consolidate(store: Path, attributes: dict[str, Any] | None = None) -> None:
    """Renew the consolidated metadata of a store; `attributes` are added to those of its root.

    Both are written in one file, whole or not at all.
    """
    import zarr

    with _consolidating, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the spots' parquet file is no part of the hierarchy
        zarr.consolidate_metadata(store)
        if attributes:
            root = _metadata(store)
            root["attributes"].update(attributes)
            write_json(store / "zarr.json", root)


def attributes_of(element: Path) -> dict[str, Any]:
    """Return the attributes of one element; none when it is not there."""
    return _metadata(element).get("attributes", {})


def _metadata(group: Path) -> dict[str, Any]:
    try:
        return json.loads((group / "zarr.json").read_bytes())
    except FileNotFoundError:
        return {}
