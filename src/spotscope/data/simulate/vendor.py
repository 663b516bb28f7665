"""Write a simulated section as the files that instruments and archives hand out.

Readers are tried on these; the layouts follow Space Ranger 1 to 3 and HD, first-generation
Spatial Transcriptomics as published with HER2ST, and the HEST-1k archive.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from spotscope.data.simulate.study import spot_lattice

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    from spotscope.data.simulate.study import SimulatedSection

Version = Literal[1, 2, 3, "hd"]

_HIRES_PX = 2000
_LOWRES_PX = 600
# Space Ranger states the diameter of a spot as 65 µm and of a fiducial as 105 µm.
_STATED_SPOT_UM = 65.0
_STATED_FIDUCIAL_UM = 105.0
_POSITION_COLUMNS = [
    "barcode",
    "in_tissue",
    "array_row",
    "array_col",
    "pxl_row_in_fullres",
    "pxl_col_in_fullres",
]
_HD_BIN_UM = 16.0


def write_spaceranger(
    section: SimulatedSection,
    folder: Path,
    version: Version = 2,
    *,
    full_image: bool = True,
    seed: int = 0,
) -> Path:
    """Write a Space Ranger run: `outs/` with counts and `spatial/`, and the full-size image.

    Version 1 has `tissue_positions_list.csv` without a header and both the .h5 and the mtx
    folder of counts; 2 and 3 have `tissue_positions.csv` with one, and 3 the .h5 alone; "hd" has
    `binned_outputs/square_016um` with parquet positions, its bins drawn anew from the truth.
    The full-size image is `<name>.tif` beside `outs`, as the user's own upload would be.

    Returns
    -------
    The `outs` folder.
    """
    outs = Path(folder) / "outs"
    base = outs / "binned_outputs" / "square_016um" if version == "hd" else outs
    spatial = base / "spatial"
    spatial.mkdir(parents=True, exist_ok=True)
    spots = _hd_bins(section, seed) if version == "hd" else section.spots
    _write_h5(spots, base / "filtered_feature_bc_matrix.h5", version)
    if version in (1, 2):
        _write_mtx(spots, base / "filtered_feature_bc_matrix")
    positions = _positions(section, spots, version)
    if version == 1:
        positions.to_csv(spatial / "tissue_positions_list.csv", index=False, header=False)
    elif version == "hd":
        positions.to_parquet(spatial / "tissue_positions.parquet", index=False)
    else:
        positions.to_csv(spatial / "tissue_positions.csv", index=False)
    hires = _write_small(section.image, _HIRES_PX, spatial / "tissue_hires_image.png")
    lowres = _write_small(section.image, _LOWRES_PX, spatial / "tissue_lowres_image.png")
    scale = {
        "spot_diameter_fullres": _STATED_SPOT_UM / section.mpp_um,
        "tissue_hires_scalef": hires,
        "fiducial_diameter_fullres": _STATED_FIDUCIAL_UM / section.mpp_um,
        "tissue_lowres_scalef": lowres,
    }
    if version == "hd":
        scale |= {
            "spot_diameter_fullres": _HD_BIN_UM / section.mpp_um,
            "bin_size_um": _HD_BIN_UM,
            "microns_per_pixel": section.mpp_um,
            "regist_target_img_scalef": hires,
        }
    (spatial / "scalefactors_json.json").write_text(json.dumps(scale))
    if full_image:
        _write_tiff(section, Path(folder) / f"{section.name}.tif")
    return outs


def write_first_generation(section: SimulatedSection, folder: Path) -> dict[str, Path]:
    """Write counts, spot selection, image and labels as HER2ST does.

    Counts are spots × genes, tab-separated, spot ids `XxY`; the selection gives each spot's
    pixel_x (column) and pixel_y (row).

    Returns
    -------
    The paths of `counts`, `spots`, `image` and `labels`.
    """
    import pandas as pd
    from PIL import Image

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    name = section.name
    paths = {
        "counts": folder / f"{name}.tsv.gz",
        "spots": folder / f"{name}_selection.tsv",
        "image": folder / f"{name}.jpg",
        "labels": folder / f"{name}_labeled_coordinates.tsv",
    }
    spots = section.spots
    x, y = spots.obs["array_col"].to_numpy() + 1, spots.obs["array_row"].to_numpy() + 1
    ids = [f"{a}x{b}" for a, b in zip(x, y, strict=True)]
    counts = pd.DataFrame(spots.X.toarray(), index=ids, columns=spots.var_names)
    counts.to_csv(paths["counts"], sep="\t")
    pixel = np.round(spots.obsm["spatial"], 2)
    wobble = np.random.default_rng(0).normal(0, 0.03, (len(x), 2))
    place = {"x": x, "y": y, "new_x": x + wobble[:, 0], "new_y": y + wobble[:, 1]}
    pixels = {"pixel_x": pixel[:, 0], "pixel_y": pixel[:, 1]}
    selection = pd.DataFrame(place | pixels | {"selected": 1}).round(3)
    selection.to_csv(paths["spots"], sep="\t", index=False)
    moved = {"x": place["new_x"], "y": place["new_y"]}
    labels = pd.DataFrame(moved | pixels | {"label": spots.obs["subtype"].astype(str).to_numpy()})
    labels.insert(0, "Row.names", [f"{a:.0f}x{b:.0f}" for a, b in pixel])
    labels.round(3).to_csv(paths["labels"], sep="\t", index=False)
    Image.fromarray(section.image).save(paths["image"], quality=92)
    return paths


def write_hest(section: SimulatedSection, folder: Path) -> dict[str, Path]:
    """Write `st/<name>.h5ad`, `wsis/<name>.tif` and `metadata/<name>.json`, as HEST-1k does.

    Returns
    -------
    The paths of `spots`, `image` and `metadata`.
    """
    folder = Path(folder)
    paths = {
        "spots": folder / "st" / f"{section.name}.h5ad",
        "image": folder / "wsis" / f"{section.name}.tif",
        "metadata": folder / "metadata" / f"{section.name}.json",
    }
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    spots = section.spots.copy()
    xy = spots.obsm["spatial"]
    spots.obs["pxl_col_in_fullres"], spots.obs["pxl_row_in_fullres"] = xy[:, 0], xy[:, 1]
    small, scale = _small(section.image, 1000)
    spots.uns["spatial"] = {
        "ST": {
            "images": {"downscaled_fullres": small},
            "scalefactors": {
                "spot_diameter_fullres": section.spot_diameter_um / section.mpp_um,
                "tissue_downscaled_fullres_scalef": scale,
            },
        }
    }
    spots.write_h5ad(paths["spots"], compression="gzip")
    _write_tiff(section, paths["image"])
    metadata = {
        "id": section.name,
        "patient": section.patient,
        "st_technology": "Visium",
        "species": "Homo sapiens",
        "organ": "Breast",
        "pixel_size_um_embedded": section.mpp_um,
        "pixel_size_um_estimated": section.mpp_um,
        "spot_diameter": section.spot_diameter_um,
        "inter_spot_dist": section.spot_pitch_um,
        "spots_under_tissue": section.spots.n_obs,
        "fullres_height": section.image.shape[0],
        "fullres_width": section.image.shape[1],
    }
    paths["metadata"].write_text(json.dumps(metadata, indent=2))
    return paths


def _positions(section: SimulatedSection, spots: AnnData, version: Version) -> pd.DataFrame:
    import pandas as pd

    if version == "hd":
        table = spots.obs[["in_tissue", "array_row", "array_col"]].copy()
        table["row"], table["col"] = spots.obsm["spatial"][:, 1], spots.obsm["spatial"][:, 0]
    else:  # every spot of the slide is listed, under the tissue or not
        pitch_px = section.spot_pitch_um / section.mpp_um
        lattice = spot_lattice(section.image.shape[:2], pitch_px)
        table = lattice[["array_row", "array_col"]].copy()
        table.insert(0, "in_tissue", lattice.index.isin(spots.obs_names).astype(int))
        table["row"], table["col"] = lattice["row_px"], lattice["col_px"]
        if version == 1:
            table[["row", "col"]] = table[["row", "col"]].round().astype(int)
    table = table.reset_index()
    return pd.DataFrame(
        dict(zip(_POSITION_COLUMNS, table.to_numpy(object).T, strict=True))
    ).astype(
        dict.fromkeys(_POSITION_COLUMNS[1:4], int)
        | dict.fromkeys(_POSITION_COLUMNS[4:], int if version == 1 else float)
    )


def _hd_bins(section: SimulatedSection, seed: int) -> AnnData:
    """Square bins of 16 µm side by side over the tissue, their counts drawn from the truth."""
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix
    from scipy.spatial import cKDTree

    side = _HD_BIN_UM / section.mpp_um
    n_rows, n_cols = (int(n // side) for n in section.image.shape[:2])
    array = np.indices((n_rows, n_cols)).reshape(2, -1).T
    centres = (array + 0.5) * side - 0.5
    away, _ = cKDTree(section.centres_px).query(centres)
    on_tissue = away < 0.6 * section.spot_pitch_um / section.mpp_um
    array, centres = array[on_tissue], centres[on_tissue]
    spot_um2 = np.pi / 4 * section.spot_diameter_um**2
    share = _HD_BIN_UM**2 / spot_um2
    mean = share * section.truth.mean_counts(centres)
    counts = np.random.default_rng(seed).poisson(mean).astype(np.int32)
    names = [f"s_016um_{row:05d}_{col:05d}-1" for row, col in array]
    obs = pd.DataFrame(array, columns=["array_row", "array_col"], index=names)
    obs.insert(0, "in_tissue", 1)
    return AnnData(
        X=csr_matrix(counts),
        obs=obs,
        var=pd.DataFrame(index=section.spots.var_names),
        obsm={"spatial": np.ascontiguousarray(centres[:, ::-1])},
    )


def _gene_ids(spots: AnnData) -> list[str]:
    return [f"ENSG{i + 1:011d}" for i in range(spots.n_vars)]


def _write_h5(spots: AnnData, path: Path, version: Version) -> None:
    import h5py

    counts = spots.X.tocsr()  # rows are barcodes: the file's CSC of genes × barcodes
    with h5py.File(path, "w") as file:
        file.attrs["chemistry_description"] = f"Spatial, Space Ranger {version}"
        file.attrs["filetype"] = "matrix"
        file.attrs["version"] = 2
        matrix = file.create_group("matrix")
        matrix["barcodes"] = np.array(spots.obs_names, "S")
        matrix["data"] = counts.data.astype(np.int32)
        matrix["indices"] = counts.indices.astype(np.int64)
        matrix["indptr"] = counts.indptr.astype(np.int64)
        matrix["shape"] = np.array(counts.shape[::-1], np.int32)
        features = matrix.create_group("features")
        features["_all_tag_keys"] = np.array(["genome"], "S")
        features["id"] = np.array(_gene_ids(spots), "S")
        features["name"] = np.array(spots.var_names, "S")
        features["feature_type"] = np.array(["Gene Expression"] * spots.n_vars, "S")
        features["genome"] = np.array(["GRCh38"] * spots.n_vars, "S")


def _write_mtx(spots: AnnData, folder: Path) -> None:
    from scipy.io import mmwrite

    folder.mkdir(exist_ok=True)
    with gzip.open(folder / "matrix.mtx.gz", "wb") as file:
        mmwrite(file, spots.X.T.tocoo(), field="integer")
    with gzip.open(folder / "barcodes.tsv.gz", "wt") as file:
        file.writelines(f"{name}\n" for name in spots.obs_names)
    with gzip.open(folder / "features.tsv.gz", "wt") as file:
        for gene_id, name in zip(_gene_ids(spots), spots.var_names, strict=True):
            file.write(f"{gene_id}\t{name}\tGene Expression\n")


def _small(image: NDArray[np.uint8], side_px: int) -> tuple[NDArray[np.uint8], float]:
    from PIL import Image

    scale = min(1.0, side_px / max(image.shape[:2]))
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)), scale


def _write_small(image: NDArray[np.uint8], side_px: int, path: Path) -> float:
    from PIL import Image

    small, scale = _small(image, side_px)
    Image.fromarray(small).save(path, compress_level=1)
    return scale


def _write_tiff(section: SimulatedSection, path: Path) -> None:
    """Write a tiled pyramid whose resolution tags state the pixel size."""
    import tifffile

    per_cm = 1e4 / section.mpp_um
    level = section.image
    with tifffile.TiffWriter(path) as tiff:
        for index in range(3):
            tiff.write(
                level,
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 92},
                subfiletype=1 if index else 0,
                resolution=(per_cm / 2**index, per_cm / 2**index),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
            level = _halved(level)


def _halved(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, cols = (n // 2 * 2 for n in image.shape[:2])
    pairs = image[:rows, :cols].reshape(rows // 2, 2, cols // 2, 2, 3)
    return np.rint(pairs.mean(axis=(1, 3))).astype(np.uint8)
