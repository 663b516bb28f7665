"""AnnData files with a slide beside them, as HEST lays them out and scanpy writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.data.readers.base import (
    Inputs,
    Reading,
    Source,
    find_image,
    plain_name,
    read_labels,
)
from spotscope.data.readers.lattice import VISIUM, scale_of
from spotscope.data.section import SUBTYPE, row_col
from spotscope.data.spots import SpotTable
from spotscope.errors import SpotScopeError
from spotscope.slide.mpp import MppSource, mpp_source

if TYPE_CHECKING:
    from pathlib import Path

    from spotscope.slide.slide import Slide

_STATED = {
    "pixel_size_um_estimated": "HEST metadata, estimated",
    "pixel_size_um_embedded": "HEST metadata, embedded",
    "pixel_size": "HEST metadata",
}


def recognise(inputs: Inputs) -> Source | None:
    """Return the source when the file is an AnnData file."""
    path = inputs.source
    if not path.is_file() or path.suffix.lower() != ".h5ad":
        return None
    name = plain_name(path)
    metadata = _metadata(path, name)
    folders = [path.parent, *(path.parent.parent / folder for folder in ("wsis", "images"))]
    patterns = [f"{name}.*", f"{name}[-_]*.*", "aligned_fullres_HE*.*"]
    image = inputs.image or find_image(folders, patterns)
    patient = metadata.get("patient")

    def read(slide: Slide) -> Reading:
        return _read(inputs, metadata, slide)

    return Source(
        "AnnData file (HEST style)",
        name,
        image,
        read,
        str(patient) if patient not in (None, "") else None,
    )


def _metadata(path: Path, name: str) -> dict[str, Any]:
    """Return what HEST states in a file of its own; nothing when there is none."""
    for file in (
        path.parent.parent / "metadata" / f"{name}.json",
        path.parent / f"{name}.json",
        path.parent / "metrics.json",
    ):
        if file.is_file():
            try:
                content = json.loads(file.read_text())
            except (OSError, ValueError) as error:
                raise SpotScopeError(
                    f"The metadata '{file}' is damaged; copy it again or remove it."
                ) from error
            return content if isinstance(content, dict) else {}
    return {}


def _read(inputs: Inputs, metadata: dict[str, Any], slide: Slide) -> Reading:
    import h5py
    from anndata.io import read_elem

    path = inputs.source
    notes: list[str] = []
    try:
        with h5py.File(path, "r") as file:
            obs, var = read_elem(file["obs"]), read_elem(file["var"])
            positions = read_elem(file["obsm/spatial"]) if "obsm/spatial" in file else None
            where = "layers/counts" if "layers/counts" in file else "X"
            factors = _factors(file)
    except (OSError, KeyError, ValueError) as error:
        raise SpotScopeError(
            f"'{path.name}' cannot be read as AnnData; it is damaged or of a newer version."
        ) from error
    if positions is None:
        raise SpotScopeError(
            f"'{path.name}' has no spot positions; they belong into obsm['spatial'], as x, y in"
            " pixels of the slide."
        )

    def counts() -> Any:
        try:
            with h5py.File(path, "r") as file:
                return read_elem(file[where])
        except (OSError, KeyError, ValueError) as error:
            raise SpotScopeError(
                f"The counts of '{path.name}' cannot be read to their end; copy it again."
            ) from error

    barcodes = [str(name) for name in obs.index]
    labels = None
    if inputs.labels:
        labels = read_labels(inputs.labels, barcodes, notes)
    elif SUBTYPE in obs:
        labels = obs[SUBTYPE].astype(object).where(obs[SUBTYPE].notna(), None).tolist()
    # An array, such as a data frame in obsm, is x, y in its first two columns.
    centres = row_col(np.asarray(positions))
    table = SpotTable(counts, [str(gene) for gene in var.index], barcodes, centres, labels)
    reading = Reading(table, notes=notes)
    printed = None
    if {"array_row", "array_col"} <= set(obs.columns):
        printed = scale_of(obs[["array_row", "array_col"]].to_numpy(float), centres, [VISIUM])
    if printed:
        reading.mpp.append(printed[1])
    for key, said in _STATED.items():
        if isinstance(value := metadata.get(key), int | float) and (
            source := mpp_source(said, float(value))
        ):
            reading.mpp.append(source)
    diameter_px = factors.get("spot_diameter_fullres")
    diameter_um = metadata.get("spot_diameter")
    if isinstance(diameter_um, int | float) and diameter_um > 0:
        reading.spot_diameter_um = float(diameter_um)
        if diameter_px and not reading.mpp:
            reading.mpp.append(MppSource("spot diameter", float(diameter_um) / diameter_px))
    elif printed:
        reading.spot_diameter_um = printed[0].spot_um
    elif diameter_px:
        reading.spot_diameter_px = diameter_px
    return reading


def _factors(file: Any) -> dict[str, float]:
    """Return the scale factors of the first library in uns["spatial"]."""
    for library in file.get("uns/spatial", {}).values():
        if "scalefactors" in library:
            return {
                key: float(value[()])
                for key, value in library["scalefactors"].items()
                if value.shape == ()
            }
    return {}
