"""A picture that shows each way of turning or shifting it, written in every format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

ROWS, COLS = 700, 1100
SPOT = (150, 700)  # centre of a square of 41 px
SPOT_COLOUR = (40, 160, 60)


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """(700, 1100, 3): red grows down the rows, blue along the columns, one green square."""
    red = np.linspace(120, 220, ROWS)[:, None] * np.ones(COLS)
    blue = np.linspace(60, 240, COLS)[None] * np.ones((ROWS, 1))
    pixels = np.stack([red, np.full((ROWS, COLS), 90.0), blue], axis=2).astype(np.uint8)
    row, col = SPOT
    pixels[row - 20 : row + 21, col - 20 : col + 21] = SPOT_COLOUR
    return pixels


@pytest.fixture(scope="session")
def slides(picture: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The picture in every format, at 0.5 µm a pixel where the format can say so."""
    folder = tmp_path_factory.mktemp("slides")
    paths = {
        "jpeg": folder / "flat.jpg",
        "png": folder / "flat.png",
        "untiled tiff": folder / "untiled.tif",
        "tiled tiff": folder / "tiled.tiff",
        "pyramidal tiff": folder / "pyramid.tiff",
        "ome-tiff": folder / "pyramid.ome.tiff",
        "planar ome-tiff": folder / "planar.ome.tiff",
        "svs": folder / "aperio.svs",
        "ome-zarr 0.4": folder / "v2.ome.zarr",
        "ome-zarr 0.5": folder / "v3.ome.zarr",
    }
    Image.fromarray(picture).save(paths["jpeg"], quality=98, subsampling=0)
    Image.fromarray(picture).save(paths["png"])
    rgb = {"photometric": "rgb"}
    tiled = {**rgb, "tile": (128, 128), "compression": "zlib"}
    per_cm = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(paths["untiled tiff"], picture, rowsperstrip=16, **rgb, **per_cm)
    tifffile.imwrite(paths["tiled tiff"], picture, **tiled, **per_cm)
    _write_pyramid(paths["pyramidal tiff"], picture, {}, {**tiled, **per_cm})
    micro = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
    micro |= {"PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
    ome = {"metadata": {"axes": "YXS", **micro}}
    _write_pyramid(paths["ome-tiff"], picture, ome, tiled)
    planes = np.moveaxis(picture, 2, 0)
    tifffile.imwrite(
        paths["planar ome-tiff"],
        planes,
        photometric="minisblack",
        tile=(128, 128),
        metadata={"axes": "CYX", **micro},
    )
    _write_svs(paths["svs"], picture)
    _write_ome_zarr(paths["ome-zarr 0.4"], picture, version=2)
    _write_ome_zarr(paths["ome-zarr 0.5"], picture, version=3)
    return paths


def _write_pyramid(path: Path, picture: np.ndarray, first: dict, common: dict) -> None:
    with tifffile.TiffWriter(path, ome=path.name.endswith(".ome.tiff")) as tif:
        tif.write(picture, subifds=2, **first, **common)
        for step in (2, 4):
            tif.write(np.asarray(Image.fromarray(picture).reduce(step)), subfiletype=1, **common)


def _write_svs(path: Path, picture: np.ndarray) -> None:
    options = {"photometric": "rgb", "tile": (128, 128), "metadata": None}
    said = "Aperio Image Library v11.2.1 \r\n1100x700 (128x128) |AppMag = 20|MPP = 0.5000"
    with tifffile.TiffWriter(path) as tif:
        for step in (1, 4):
            tif.write(
                np.asarray(Image.fromarray(picture).reduce(step)),
                description=said,
                **options,
            )


def _write_ome_zarr(path: Path, picture: np.ndarray, version: int) -> None:
    group = zarr.create_group(path, zarr_format=version)
    letters = "tczyx" if version == 2 else "cyx"
    kinds = {"t": "time", "c": "channel"}
    axes = [{"name": name, "type": kinds.get(name, "space")} for name in letters]
    for axis in axes[-2:]:
        axis["unit"] = "micrometer"
    datasets = []
    for k, step in enumerate((1, 2)):
        planes = np.moveaxis(np.asarray(Image.fromarray(picture).reduce(step)), 2, 0)
        planes = planes[None, :, None] if version == 2 else planes
        chunks = (*planes.shape[:-2], 128, 128)
        group.create_array(str(k), data=planes, chunks=chunks)
        scale = [1.0] * (len(letters) - 2) + [0.5 * step] * 2
        datasets.append(
            {
                "path": str(k),
                "coordinateTransformations": [{"type": "scale", "scale": scale}],
            }
        )
    multiscales = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    if version == 2:
        group.attrs["multiscales"] = multiscales
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
