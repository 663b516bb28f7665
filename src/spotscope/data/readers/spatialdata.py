"""SpatialData stores: our own, to be imported again, and those that others wrote."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.data.readers.base import (
    Inputs,
    Reading,
    Source,
    plain_name,
    read_labels,
)
from spotscope.data.readers.lattice import VISIUM, scale_of
from spotscope.data.section import SUBTYPE, Section, row_col
from spotscope.data.spots import SpotTable, make_spots
from spotscope.data.store import ATTRIBUTE, open_section, root_attributes
from spotscope.errors import SpotScopeError
from spotscope.slide.open import open_slide

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

    from spotscope.slide.slide import Slide

_LIBRARY = "spatialdata_attrs"


def recognise(inputs: Inputs) -> Source | None:
    """Return the source when the folder is a SpatialData store."""
    attributes = root_attributes(inputs.source)
    if ATTRIBUTE in attributes:
        return _our_own(inputs)
    if _LIBRARY not in attributes:
        return None
    found = _look_into(inputs.source)
    read = None
    if found.table is not None:

        def read(slide: Slide) -> Reading:
            return _read(inputs, found, own_image=inputs.image is None)

    image = inputs.image or inputs.source / "images" / found.image
    return Source("SpatialData store", plain_name(inputs.source), image, read)


def _our_own(inputs: Inputs) -> Source:
    section = open_section(inputs.source)
    read = None
    if section.spots is not None:

        def read(slide: Slide) -> Reading:
            notes = list(section.notes)
            barcodes = [str(name) for name in section.barcodes]
            labels = section.labels
            values = None if labels is None else labels.astype(object).tolist()
            if inputs.labels:
                values = read_labels(inputs.labels, barcodes, notes)
            genes = [str(gene) for gene in section.genes]
            table = SpotTable(lambda: section.counts, genes, barcodes, section.centres_px, values)
            return Reading(
                table, list(section.slide.mpp_sources), section.spot_diameter_um, notes=notes
            )

    image = inputs.image or section.slide.path
    return Source("section of SpotScope", section.name, image, read, section.patient)


def open_foreign(path: Path) -> Section:
    """Open a SpatialData store that SpotScope did not write, as it is.

    Its largest picture is the slide and the table that annotates circles (else any regions) the
    spots, laid on the picture by the store's own transformations. A table that does not hold raw
    counts is left out with a note.

    Raises
    ------
    SpotScopeError
        When the store holds no picture or cannot be read.
    """
    found = _look_into(path)
    slide = open_slide(path / "images" / found.image)
    notes = list(slide.notes)
    section = Section(plain_name(path), plain_name(path), slide, store=path, notes=notes)
    if found.table is None:
        return section
    reading = _read(Inputs(path), found, own_image=True)
    section.slide = slide = slide.stated_by(*reading.mpp)
    try:
        spots, left_out = make_spots(reading.table, slide.shape_px, path.name)
    except SpotScopeError as error:
        section.notes.append(f"The store is shown without its spots: {error}")
        return section
    # Predictions that are added to the store annotate the same regions.
    spots.uns[_LIBRARY] = found.table.uns[_LIBRARY]
    for key in (found.table.uns[_LIBRARY][key] for key in ("region_key", "instance_key")):
        spots.obs[key] = found.table.obs.loc[spots.obs_names, key]
    diameter = reading.spot_diameter_um
    if diameter is None and reading.spot_diameter_px and slide.mpp_um:
        diameter = reading.spot_diameter_px * slide.mpp_um
    return Section(
        section.name,
        section.patient,
        slide,
        spots,
        diameter,
        path,
        dict.fromkeys([*slide.notes, *reading.notes, *left_out]),
    )


@dataclass
class _Found:
    """What of a store is taken.

    Attributes
    ----------
    image
        Name of the picture.
    table
        The spots, one row each; None without.
    centres_px
        (n, 2) row, col in pixels of the picture.
    own_px
        (n, 2) row, col in the spots' own unit, which for Visium is pixels of the full-size slide.
    diameter_px, own_diameter_px
        Of circles, in both; None for other regions.
    """

    image: str
    table: AnnData | None = None
    centres_px: NDArray[np.float64] | None = None
    own_px: NDArray[np.float64] | None = None
    diameter_px: float | None = None
    own_diameter_px: float | None = None


def _look_into(path: Path) -> _Found:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import spatialdata

        try:
            store = spatialdata.read_zarr(path, selection=("images", "labels", "shapes", "tables"))
        except Exception as error:
            raise SpotScopeError(
                f"'{path.name}' cannot be read as a SpatialData store; copy it again, or open it"
                " with spatialdata and write it once more."
            ) from error
        pictures = {name: _rows_cols(element) for name, element in store.images.items()}
        if not pictures:
            raise SpotScopeError(
                f"The store '{path.name}' holds no picture; give the slide with --image together"
                " with its counts."
            )
        found = _Found(max(pictures, key=lambda name: (np.prod(pictures[name]), name)))
        annotated = _annotated(store)
        if annotated is not None:
            _lay_on(store, found, *annotated)
    return found


def _rows_cols(element: Any) -> tuple[int, int]:
    from spatialdata import get_pyramid_levels

    level = element if hasattr(element, "shape") else get_pyramid_levels(element, n=0)
    return level.sizes["y"], level.sizes["x"]


def _annotated(store: Any) -> tuple[AnnData, str] | None:
    """Return a table and the region that it annotates; circles before other regions."""
    choices = []
    for name, table in sorted(store.tables.items()):
        about = table.uns.get(_LIBRARY, {})
        regions = about.get("region")
        for region in [regions] if isinstance(regions, str) else list(regions or []):
            if region in store.shapes:
                choices.append(("radius" not in store.shapes[region], name, region))
            elif region in store.labels:
                choices.append((True, name, region))
    if not choices:
        return None
    _, name, region = min(choices)
    table = store.tables[name]
    of_region = (table.obs[table.uns[_LIBRARY]["region_key"]] == region).to_numpy()
    return table[of_region], region


def _lay_on(store: Any, found: _Found, table: AnnData, region: str) -> None:
    """Compute where the annotated regions lie on the picture."""
    import spatialdata
    from spatialdata.transformations import get_transformation

    element, image = store[region], store.images[found.image]
    shared = set(get_transformation(element, get_all=True)) & set(
        get_transformation(image, get_all=True)
    )
    if not shared:
        return
    system = "global" if "global" in shared else min(shared)
    axes = ("x", "y")
    own = spatialdata.get_centroids(element, coordinate_system=system).compute()
    to_system = get_transformation(element, system).to_affine_matrix(axes, axes)
    to_image = get_transformation(image, system).inverse().to_affine_matrix(axes, axes)
    instances = table.obs[table.uns[_LIBRARY]["instance_key"]].to_numpy()
    places = own.index.get_indexer(instances)
    table = table[places >= 0]
    in_system = own[["x", "y"]].to_numpy(float)[places[places >= 0]]
    # SpatialData puts the corner of pixel (0, 0) at 0, this project its centre.
    on_image = in_system @ to_image[:2, :2].T + to_image[:2, 2] - 0.5
    back = np.linalg.inv(to_system)
    found.table = table
    found.centres_px = row_col(on_image)
    found.own_px = row_col(in_system @ back[:2, :2].T + back[:2, 2])
    if "radius" in getattr(element, "columns", ()):
        diameter = 2 * float(np.median(element["radius"]))
        change = to_image[:2, :2] @ to_system[:2, :2]
        found.own_diameter_px = diameter
        found.diameter_px = diameter * float(np.sqrt(abs(np.linalg.det(change))))


def _read(inputs: Inputs, found: _Found, *, own_image: bool) -> Reading:
    table = found.table
    assert table is not None
    centres = found.centres_px if own_image else found.own_px
    assert centres is not None
    notes: list[str] = []
    barcodes = [str(name) for name in table.obs_names]
    labels = None
    if inputs.labels:
        labels = read_labels(inputs.labels, barcodes, notes)
    elif SUBTYPE in table.obs:
        column = table.obs[SUBTYPE]
        labels = column.astype(object).where(column.notna(), None).tolist()
    counts = table.layers.get("counts", table.X)
    spots = SpotTable(lambda: counts, [str(g) for g in table.var_names], barcodes, centres, labels)
    diameter = found.diameter_px if own_image else found.own_diameter_px
    reading = Reading(spots, spot_diameter_px=diameter, notes=notes)
    if {"array_row", "array_col"} <= set(table.obs.columns):
        array = table.obs[["array_row", "array_col"]].to_numpy(float)
        if printed := scale_of(array, centres, [VISIUM]):
            reading.spot_diameter_um = printed[0].spot_um
            reading.mpp.append(printed[1])
    return reading
