"""Space Ranger output: Visium (version 1, 2 and later) and Visium HD."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.data.readers.base import (
    Inputs,
    Reading,
    Source,
    find_image,
    match_names,
    open_binary,
    open_text,
    read_labels,
    read_table,
)
from spotscope.data.readers.lattice import VISIUM, scale_of
from spotscope.data.spots import SpotTable
from spotscope.errors import SpotScopeError
from spotscope.slide.mpp import MppSource

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from spotscope.slide.slide import Slide

_POSITIONS = ("tissue_positions.parquet", "tissue_positions.csv", "tissue_positions_list.csv")
_COLUMNS = [
    *("barcode", "in_tissue", "array_row", "array_col"),
    *("pxl_row_in_fullres", "pxl_col_in_fullres"),
]
_BINS_UM = (8, 16)
_MADE_SMALLER = {
    "tissue_hires_image": "tissue_hires_scalef",
    "tissue_lowres_image": "tissue_lowres_scalef",
}


def recognise(inputs: Inputs) -> Source | None:
    """Return the source when the folder is Space Ranger output, or lies just within it."""
    if not inputs.source.is_dir():
        return None
    notes: list[str] = []
    root = _find_root(inputs.source, notes)
    if root is None:
        return None
    factors = _factors(root)
    matrix = _find_matrix(root, inputs.source.name, notes)
    image = inputs.image or _find_image(root)
    bin_um = _bin_um(factors, root)
    kind = "Space Ranger folder"
    if bin_um is not None:
        kind = f"Space Ranger folder (Visium HD, {bin_um:g} µm bins)"

    def read(slide: Slide) -> Reading:
        return _read(inputs, root, matrix, factors, slide)

    return Source(kind, _own_folders(root)[-1].name, image, read, notes=notes)


def _find_root(folder: Path, notes: list[str]) -> Path | None:
    """Return the folder that holds `spatial` and the counts."""
    if folder.name == "spatial":
        folder = folder.parent
    for root in (folder, folder / "outs"):
        bins = root if root.name == "binned_outputs" else root / "binned_outputs"
        if bins.is_dir():
            return _choose_bins(bins, notes)
        if any((root / "spatial" / name).is_file() for name in _POSITIONS):
            return root
    return None


def _choose_bins(folder: Path, notes: list[str]) -> Path | None:
    sizes = {}
    for path in folder.iterdir():
        size = re.fullmatch(r"square_(\d+)um", path.name)
        if size and any((path / "spatial" / name).is_file() for name in _POSITIONS):
            sizes[int(size[1])] = path
    if not sizes:
        return None
    chosen = next((size for size in _BINS_UM if size in sizes), max(sizes))
    others = ", ".join(f"{size} µm" for size in sorted(sizes) if size != chosen)
    if others:
        notes.append(
            f"The bins of {chosen} µm were taken; for the others ({others}) name their folder."
        )
    return sizes[chosen]


def _factors(root: Path) -> dict[str, float]:
    path = root / "spatial" / "scalefactors_json.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SpotScopeError(
            f"The scale factors '{path}' are missing or damaged; copy them from the Space Ranger"
            " output."
        ) from error


def _find_matrix(root: Path, asked: str, notes: list[str]) -> Path:
    for kind in ("filtered", "raw"):
        files = sorted(root.glob(f"*{kind}_feature_bc_matrix.h5"))
        folders = [
            path for path in sorted(root.glob(f"*{kind}_feature_bc_matrix")) if path.is_dir()
        ]
        for path in files + folders:
            if kind == "raw":
                notes.append("There is no filtered matrix, so the raw one was read.")
            return path
    raise SpotScopeError(
        f"The Space Ranger folder '{asked}' has no counts; it needs filtered_feature_bc_matrix.h5"
        " or the folder of that name."
    )


def _find_image(root: Path) -> Path | None:
    """Return the full-size image when it lies with the output, else the largest smaller one."""
    folders = _own_folders(root)
    smaller = [f"{name}.{suffix}" for name in _MADE_SMALLER for suffix in ("png", "jpg", "tif*")]
    return find_image(
        folders, [f"{folders[-1].name}.*", "*[_-]image.*", "image.*", "*fullres*.*"]
    ) or find_image([folder / "spatial" for folder in folders], smaller)


def _bin_um(factors: dict[str, float], root: Path) -> float | None:
    if "bin_size_um" in factors:
        return float(factors["bin_size_um"])
    size = re.fullmatch(r"square_(\d+)um", root.name)
    return float(size[1]) if size else None


def _own_folders(root: Path) -> list[Path]:
    """Return the folder of the counts and those around it, up to the first the user named."""
    folders = [root]
    while re.fullmatch(r"outs|binned_outputs|square_\d+um", folders[-1].name):
        folders.append(folders[-1].parent)
    return folders


def _read(
    inputs: Inputs, root: Path, matrix: Path, factors: dict[str, float], slide: Slide
) -> Reading:
    notes: list[str] = []
    positions_path = inputs.spots or next(
        root / "spatial" / name for name in _POSITIONS if (root / "spatial" / name).is_file()
    )
    positions = read_positions(positions_path)
    barcodes, genes, take, counts = open_matrix(matrix, notes)
    places = match_names(barcodes, list(positions["barcode"]), matrix.name, positions_path.name)
    if nowhere := int((places < 0).sum()):
        notes.append(f"{nowhere} spots of the counts have no position and were left out.")
    on_tissue = positions["in_tissue"].to_numpy() == 1
    keep = np.flatnonzero((places >= 0) & on_tissue[places])
    if off := len(places) - nowhere - len(keep):
        notes.append(f"{off} spots off the tissue were left out.")
    if not len(keep):
        raise SpotScopeError(
            f"No spot of '{matrix.name}' lies on tissue according to '{positions_path.name}';"
            " check that both are of the same section."
        )

    scale = _scale(slide.path, factors, notes, slide)
    centres = positions[["pxl_row_in_fullres", "pxl_col_in_fullres"]].to_numpy(float) * scale
    array = positions[["array_row", "array_col"]].to_numpy()
    names = [barcodes[row] for row in keep]
    labels = read_labels(inputs.labels, names, notes) if inputs.labels else None
    table = SpotTable(
        counts=lambda: _part(counts(), keep, take),
        genes=genes,
        barcodes=names,
        centres_px=centres[places[keep]],
        labels=labels,
    )
    reading = Reading(table, notes=notes)
    bin_um = _bin_um(factors, root)
    if stated := factors.get("microns_per_pixel"):
        reading.mpp.append(MppSource("Space Ranger scale factors", stated / scale))
    if bin_um is not None:
        reading.spot_diameter_um = bin_um
    elif found := scale_of(array, centres, [VISIUM]):
        # Space Ranger's own `spot_diameter_fullres` is not that of the spots, which are 55 µm: it
        # stands for about 65 µm, and in early versions for about 70.
        reading.spot_diameter_um = found[0].spot_um
        reading.mpp.append(found[1])
    elif diameter := factors.get("spot_diameter_fullres"):
        reading.spot_diameter_px = float(diameter) * scale
    return reading


def _part(counts: csr_matrix, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> csr_matrix:
    """Return some rows and columns, without a copy where all are asked for."""
    if len(rows) < counts.shape[0] or (np.diff(rows) < 0).any():
        counts = counts[rows]
    return counts if len(columns) == counts.shape[1] else counts[:, columns]


def _scale(image: Path, factors: dict[str, float], notes: list[str], slide: Slide) -> float:
    """Return pixels of the image per pixel of the full-size one."""
    for name, key in _MADE_SMALLER.items():
        if name in image.name:
            if not factors.get(key):
                raise SpotScopeError(
                    f"The scale factors do not state {key}, so the spots cannot be laid on"
                    f" '{image.name}'; give the full-size image with --image."
                )
            rows, cols = slide.shape_px
            notes.append(
                f"The picture is '{image.name}' of {cols} × {rows} px, made small by Space Ranger;"
                " nuclei cannot be seen on it, so give the full-size image with --image if you"
                " have it."
            )
            return float(factors[key])
    return 1.0


def read_positions(path: Path) -> pd.DataFrame:
    """Read `tissue_positions` of any version: without a header, with one, or parquet.

    Raises
    ------
    SpotScopeError
        When a column is missing.
    """
    import pandas as pd

    if path.suffix == ".parquet":
        try:
            table = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise SpotScopeError(
                f"'{path.name}' cannot be read as parquet; copy it again from the Space Ranger"
                " output."
            ) from error
    else:
        with open_text(path) as file:
            first = file.readline()
        with_header = "barcode" in first.lower()
        table = read_table(path, header=0 if with_header else None)
        if not with_header and len(table.columns) == len(_COLUMNS):
            table.columns = pd.Index(_COLUMNS)
    if absent := [name for name in _COLUMNS if name not in table.columns]:
        raise SpotScopeError(
            f"'{path.name}' lacks {', '.join(absent)}; give the tissue positions as Space Ranger"
            " writes them."
        )
    return table.astype({"barcode": str})


def open_matrix(path: Path, notes: list[str]) -> tuple[list[str], list[str], Any, Any]:
    """Read the names in a 10x matrix, an .h5 file or a folder, and leave the counts for later.

    Returns
    -------
    Barcodes, gene names, which features are genes (indices), and a function that reads the (n,
    features) counts.

    Raises
    ------
    SpotScopeError
        When the file is damaged.
    """
    try:
        barcodes, ids, names, kinds, counts = (_open_mtx if path.is_dir() else _open_h5)(path)
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise SpotScopeError(
            f"The counts '{path.name}' cannot be read; they are damaged or not as Space Ranger"
            " writes them."
        ) from error
    genes = np.array([kind in ("", "Gene Expression") for kind in kinds])
    if others := int((~genes).sum()):
        notes.append(f"{others} features that are not genes were left out.")
    take = np.flatnonzero(genes)
    # A feature without a symbol keeps its Ensembl number.
    return barcodes, [names[i] or ids[i] for i in take], take, _said(counts, path)


def _said(counts: Any, path: Path) -> Any:
    def read() -> csr_matrix:
        try:
            return counts()
        except (OSError, KeyError, ValueError) as error:
            raise SpotScopeError(
                f"The counts '{path.name}' cannot be read to their end; copy them again."
            ) from error

    return read


def _open_h5(path: Path) -> tuple[list[str], list[str], list[str], list[str], Any]:
    import h5py

    with h5py.File(path, "r") as file:
        matrix = file["matrix"]
        barcodes = [text.decode() for text in matrix["barcodes"][:]]
        ids = [text.decode() for text in matrix["features/id"][:]]
        names = [text.decode() for text in matrix["features/name"][:]]
        kinds = [text.decode() for text in matrix["features/feature_type"][:]]

    def counts() -> csr_matrix:
        from scipy.sparse import csr_matrix

        with h5py.File(path, "r") as file:
            matrix = file["matrix"]
            parts = tuple(matrix[name][:] for name in ("data", "indices", "indptr"))
        # The file holds genes × spots by spot, which is spots × genes by row.
        return csr_matrix(parts, shape=(len(barcodes), len(names)))

    return barcodes, ids, names, kinds, counts


def _open_mtx(folder: Path) -> tuple[list[str], list[str], list[str], list[str], Any]:
    def find(*names: str) -> Path:
        found = [folder / f"{name}{gz}" for name in names for gz in (".gz", "")]
        return next(path for path in (*found, found[0]) if path.is_file() or path is found[0])

    def lines(path: Path) -> list[list[str]]:
        with open_text(path) as file:
            return [line.rstrip("\r\n").split("\t") for line in file if line.strip()]

    barcodes = [row[0] for row in lines(find("barcodes.tsv"))]
    features = lines(find("features.tsv", "genes.tsv"))
    matrix = find("matrix.mtx")

    def counts() -> csr_matrix:
        from scipy.io import mmread

        with open_binary(matrix) as file:
            read = mmread(file).T.tocsr()
        if read.shape != (len(barcodes), len(features)):
            raise ValueError("the matrix does not fit its names")
        return read

    ids = [row[0] for row in features]
    names = [row[1] if len(row) > 1 else row[0] for row in features]
    kinds = [row[2] if len(row) > 2 else "" for row in features]
    return barcodes, ids, names, kinds, counts
