"""A section on disk: one SpatialData store, which squidpy and napari-spatialdata open as it is.

- `images/slide`: OME-Zarr pyramid (c, y, x); with `--link` a smaller picture of the slide, which
  itself stays where it is
- `shapes/spots`: a circle a spot, of its true diameter
- `tables/table`: the spots, annotating these circles
- the attribute `spotscope` of the root: name, patient, scale and where it is from, notes

Coordinate system "global" is level-0 pixels, "micrometres" the same scaled. SpatialData puts the
corner of pixel (0, 0) at 0 and this project its centre, so the circles lie half a pixel further.
Opening reads JSON, and the spots when they are first asked for; it does not import spatialdata.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope import __version__
from spotscope.data import link as links
from spotscope.data.section import Section
from spotscope.errors import SpotScopeError
from spotscope.files import put_right, written_beside
from spotscope.progress import Progress
from spotscope.slide.formats import flat
from spotscope.slide.mpp import MppSource
from spotscope.slide.open import open_slide

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

    from spotscope.slide.slide import Slide

FORMAT = 1
"""Of the store; raised when an older SpotScope could not read what is written."""

ATTRIBUTE = "spotscope"
IMAGE, SHAPES, TABLE = "slide", "spots", "table"

_LINKED_PX = 2048
"""Longest side of the picture that a store keeps of a linked slide."""
_THUMBNAIL_PX = 600


def open_section(path: str | PathLike[str], *, progress: Progress | None = None) -> Section:
    """Open a section's store, another SpatialData store, or a slide alone.

    Parameters
    ----------
    path
        A folder that SpotScope or SpatialData wrote, or anything that `open_slide` reads.
    progress
        Of building the pyramid of a flat picture, the first time that it is opened.

    Raises
    ------
    SpotScopeError
        When there is nothing, it cannot be read, it is of a newer SpotScope, or the slide that
        it links to is gone or another one.
    """
    path = Path(path)
    attributes = root_attributes(path)
    if ATTRIBUTE in attributes:
        return _open_store(path, attributes[ATTRIBUTE])
    if "spatialdata_attrs" in attributes:
        from spotscope.data.readers.spatialdata import open_foreign

        return open_foreign(path)
    slide = open_slide(path, progress=progress)
    return Section(slide.name, slide.name, slide, notes=slide.notes)


def write_section(
    section: Section,
    out: str | PathLike[str],
    *,
    link: bool = False,
    progress: Progress | None = None,
) -> Section:
    """Write a section as a store, whole or not at all, and open it.

    Parameters
    ----------
    section
        Predictions in another store of it are not copied.
    out
        Folder to make, ending in .zarr.
    link
        Leave the slide where it is, and keep a small picture of it in the store.
    progress
        Told and asked about twice a second.

    Raises
    ------
    SpotScopeError
        When the folder exists, cannot be written, the disk is full, or the slide is to be linked
        and is a flat picture.
    """
    import zarr

    out, progress = Path(out), progress or Progress()
    if out.exists():
        raise SpotScopeError(
            f"'{out}' exists already and may hold predictions; choose another name, or delete it"
            " first."
        )
    if out.suffix != ".zarr":
        raise SpotScopeError(
            f"A section is kept in a folder that ends in .zarr, not '{out.name}'."
        )
    if link and section.slide.path.suffix.lower() in flat.EXTENSIONS:
        raise SpotScopeError(
            f"'{section.slide.path.name}' is a flat picture, which cannot be browsed where it"
            " lies; import it without --link."
        )
    with written_beside(out) as beside, warnings.catch_warnings():
        # zarr and spatialdata warn of strings, of sharding to come and of the parquet file that
        # SpatialData itself puts into a zarr group.
        warnings.simplefilter("ignore")
        progress.report(0.0, "Writing the spots")
        _write_elements(section, beside)
        factor = _write_image(section, beside, link, progress.part(0.15, 0.95))
        _write_attributes(section, beside, out, link)
        _write_thumbnail(section, beside, factor)
        zarr.consolidate_metadata(beside)
        progress.check()
    progress.report(1.0, "Written")
    return open_section(out)


def root_attributes(path: Path) -> dict[str, Any]:
    """Return the attributes of a zarr group's root; none for anything else."""
    for name, key in (("zarr.json", "attributes"), (".zattrs", None)):
        try:
            content = json.loads((path / name).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            raise SpotScopeError(
                f"'{path.name}' cannot be opened: its '{name}' is damaged; copy it again."
            ) from error
        return content if key is None else content.get(key, {})
    return {}


def _open_store(path: Path, about: dict[str, Any]) -> Section:
    if about.get("format", 0) > FORMAT:
        raise SpotScopeError(
            f"'{path.name}' was written by SpotScope {about.get('version', 'of a later date')},"
            " which is newer than this one; update SpotScope to open it."
        )
    link = about["link"]
    slide = open_slide(links.find(link, path) if link else path / "images" / IMAGE)
    slide = replace(
        slide,
        name=about["slide"],
        mpp_sources=tuple(MppSource(**source) for source in about["mpp_sources"]),
        mpp_um=about["mpp_um"],
        notes=(),
    )
    table = path / "tables" / TABLE
    if not (table / "obs").is_dir():  # a save of annotations was killed between two renames
        put_right(table / "obs")
    if about["n_spots"] and not table.is_dir():
        raise SpotScopeError(f"The spots of '{path.name}' are missing; import the section again.")
    return Section(
        about["name"],
        about["patient"],
        slide,
        (lambda: _read_table(table)) if about["n_spots"] else None,
        about["spot_diameter_um"],
        path,
        about["notes"],
    )


def _read_table(path: Path) -> AnnData:
    import anndata

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of zarr, about the encoding of strings
            return anndata.read_zarr(path)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise SpotScopeError(
            f"The spots of '{path.parents[1].name}' cannot be read; the store is damaged: import"
            " the section again."
        ) from error


def _write_elements(section: Section, out: Path) -> None:
    """Write circles and table by spatialdata itself, so that its other versions read them."""
    import spatialdata

    if section.spots is None:
        spatialdata.SpatialData().write(out)
        return
    circles = spatialdata.models.ShapesModel.parse(
        np.asarray(section.spots.obsm["spatial"], float)[:, :2] + 0.5,
        geometry=0,
        radius=_radius_px(section),
        transformations=_systems(section),
    )
    table = spatialdata.models.TableModel.parse(
        _table(section.spots), region=SHAPES, region_key="region", instance_key="instance_id"
    )
    spatialdata.SpatialData(shapes={SHAPES: circles}, tables={TABLE: table}).write(out)


def _table(spots: AnnData) -> AnnData:
    """Return the spots with the columns that say which circle each is."""
    import pandas as pd
    from anndata import AnnData

    obs = spots.obs.drop(columns=["region", "instance_id"], errors="ignore").copy()
    obs["region"] = pd.Categorical([SHAPES] * len(obs))
    obs["instance_id"] = np.arange(len(obs))
    positions = {"spatial": np.asarray(spots.obsm["spatial"], float)[:, :2]}
    return AnnData(spots.X, obs=obs, var=spots.var, obsm=positions)


def _systems(section: Section, factor: float = 1.0) -> dict[str, Any]:
    """Return the transformations of an element whose unit is `factor` level-0 pixels."""
    from spatialdata.transformations import Identity, Scale

    def scaled(step: float) -> Any:
        return Identity() if step == 1.0 else Scale([step, step], axes=("y", "x"))

    systems = {"global": scaled(factor)}
    if section.mpp_um is not None:
        systems["micrometres"] = scaled(factor * section.mpp_um)
    return systems


def _radius_px(section: Section) -> float:
    """Return the radius to draw circles with; that of a spot of 55 µm when nothing states one."""
    mpp = section.mpp_um or 0.5
    return (section.spot_diameter_um or 55.0) / mpp / 2


def _write_image(section: Section, out: Path, link: bool, progress: Progress) -> float:
    """Write the pyramid; return the level-0 pixels per pixel of its finest level.

    spatialdata's own writer takes three times as long and holds the whole picture in memory, so
    the pixels are written by `write_pyramid` and only what SpatialData adds is added.
    """
    import zarr

    from spotscope.slide.pyramid import write_pyramid

    slide, folder = section.slide, out / "images" / IMAGE
    folder.parent.mkdir(exist_ok=True)
    zarr.open_group(folder.parent, mode="a", zarr_format=3)
    level = _level_to_link(slide) if link else 0
    factor = float(slide.downsamples[level]) if level else 1.0
    write_pyramid(slide.levels[level], folder, progress=progress)
    group = zarr.open_group(folder, mode="r+", use_consolidated=False)
    axes: Any = ("c", "y", "x")
    ome: Any = group.attrs["ome"]
    ome["version"] = "0.5-dev-spatialdata"
    ome["multiscales"][0]["name"] = f"/images/{IMAGE}"
    ome["multiscales"][0]["coordinateTransformations"] = [
        system.to_ngff(axes, axes, output_coordinate_system_name=name).to_dict()
        for name, system in _systems(section, factor).items()
    ]
    group.attrs["ome"] = ome
    group.attrs["spatialdata_attrs"] = {"version": "0.3"}
    if level:
        group.attrs[ATTRIBUTE] = {"downsample": factor}
    return factor


def _level_to_link(slide: Slide) -> int:
    """Return the finest level that is small enough to be copied; else the coarsest."""
    sides = [max(level.shape[:2]) for level in slide.levels]
    return next((k for k, side in enumerate(sides) if side <= _LINKED_PX), len(sides) - 1)


def _write_attributes(section: Section, beside: Path, out: Path, link: bool) -> None:
    import zarr

    slide = section.slide
    zarr.open_group(beside, mode="r+", use_consolidated=False).attrs[ATTRIBUTE] = {
        "format": FORMAT,
        "version": __version__,
        "name": section.name,
        "patient": section.patient,
        "n_spots": section.n_spots,
        "spot_diameter_um": section.spot_diameter_um,
        "slide": slide.name,
        "mpp_um": slide.mpp_um,
        "mpp_sources": [asdict(source) for source in slide.mpp_sources],
        "link": links.remember(slide.path, out) if link else None,
        "notes": section.notes,
    }


def _write_thumbnail(section: Section, out: Path, factor: float) -> None:
    """Put a small picture into the table where scanpy and squidpy look for one."""
    if section.spots is None:
        return
    import zarr
    from anndata.io import write_elem
    from PIL import Image

    pyramid: Any = zarr.open_group(out / "images" / IMAGE, mode="r", use_consolidated=False)
    coarsest = pyramid[str(len(list(pyramid.array_keys())) - 1)]
    picture = Image.fromarray(np.moveaxis(np.asarray(coarsest[:]), 0, -1))
    picture.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    scale = picture.height / (pyramid["0"].shape[1] * factor)
    library = {
        "images": {"hires": np.asarray(picture)},
        "scalefactors": {
            "tissue_hires_scalef": scale,
            "spot_diameter_fullres": 2 * _radius_px(section),
        },
    }
    table = zarr.open_group(out / "tables" / TABLE, mode="r+", use_consolidated=False)
    write_elem(table["uns"], "spatial", {section.name.replace("/", "-"): library})
