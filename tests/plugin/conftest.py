"""Sections in memory, with predictions in a small store, that look like tissue from afar."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spotscope.plugin.opened import OpenSection

SHAPE = (900, 1200)
MPP = 2.0
GENES = [f"GENE{i:02d}" for i in range(40)] + ["ERBB2", "MS4A1", "EPCAM", "ACTB"]


def tissue(shape=SHAPE):
    """An ellipse of pink tissue with a violet patch, off the middle, on white glass."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    inside = ((rows - 0.45 * shape[0]) / (0.38 * shape[0])) ** 2 + (
        (cols - 0.5 * shape[1]) / (0.42 * shape[1])
    ) ** 2 < 1
    dense = np.hypot(rows - 0.3 * shape[0], cols - 0.35 * shape[1]) < 0.18 * shape[0]
    image = np.full((*shape, 3), 245, np.uint8)
    image[inside] = (232, 178, 205)
    image[inside & dense] = (140, 95, 165)
    return image, inside, dense


def make_slide(path, shape=SHAPE, mpp=MPP):
    from spotscope.slide.levels import PixelLevel
    from spotscope.slide.mpp import MppSource
    from spotscope.slide.slide import Slide

    image = tissue(shape)[0]
    levels = [np.ascontiguousarray(image[::step, ::step]) for step in (1, 2, 4)]
    return Slide(
        path=Path(path),
        name="tissue",
        levels=[PixelLevel(level) for level in levels],
        downsamples=(1.0, 2.0, 4.0),
        mpp_sources=(MppSource("test", mpp),),
        mpp_um=mpp,
        fingerprint=f"{path}",
    )


def make_spots(shape=SHAPE, step=30, seed=0, labels=True):
    import anndata
    from scipy.sparse import csr_matrix

    _, inside, dense = tissue(shape)
    rows, cols = (g.ravel() for g in np.mgrid[15 : shape[0] : step, 15 : shape[1] : step])
    keep = inside[rows, cols]
    rows, cols = rows[keep], cols[keep]
    rng = np.random.default_rng(seed)
    means = np.full((len(rows), len(GENES)), 1.5)
    means[dense[rows, cols], GENES.index("ERBB2")] = 25
    means[:, GENES.index("MS4A1")] = 8 * cols / shape[1]
    means[:, GENES.index("ACTB")] = 30
    obs = pd.DataFrame(index=[f"{c}x{r}" for r, c in zip(rows, cols, strict=True)])
    if labels:
        names = np.where(dense[rows, cols], "invasive cancer", "connective tissue").astype(object)
        names[:5] = None
        obs["subtype"] = pd.Categorical(names)
    spots = anndata.AnnData(
        csr_matrix(rng.poisson(means).astype(np.float32)), obs=obs, var=pd.DataFrame(index=GENES)
    )
    spots.obsm["spatial"] = np.column_stack([cols, rows]).astype(float)
    return spots


def make_section(folder, name="C2", patient="C", labels=True, spots=True):
    import zarr

    from spotscope.data.section import Section

    store = Path(folder) / f"{name}.zarr"
    zarr.open_group(store, mode="w")
    table = make_spots(labels=labels, seed=len(name)) if spots else None
    return Section(name, patient, make_slide(store), table, 50.0, store)


def add_run(section, run_id="ridge-stain-1", patients=("A",), sections=("A1",), stride=25.0):
    from spotscope.data.places import Grid, Places
    from spotscope.data.prediction import Prediction
    from spotscope.data.runs import write_run

    genes = GENES[:10] + ["ERBB2", "MS4A1"]
    provenance = {
        "method": "ridge",
        "title": "Ridge",
        "encoder": "stain",
        "training_sections": list(sections),
        "training_patients": list(patients),
    }
    rng = np.random.default_rng(1)
    on_spots = None
    if section.has_spots:
        values = 0.7 * section.expression(genes) + 0.2
        values += rng.normal(0, 0.1, values.shape)
        on_spots = Prediction(genes, values, None, Places.on_spots(section), provenance)
    first = stride // 2
    cut = slice(int(first), None, int(stride))
    mask = tissue()[1][cut, cut]
    cells = Grid((first, first), stride, stride * MPP, mask)
    dense = tissue()[2][cut, cut][mask]
    values = rng.normal(1.5, 0.2, (mask.sum(), len(genes))).astype(np.float32)
    values[:, 10] += 2.5 * dense
    places = Places(section, cells.centres_px, cells)
    on_grid = Prediction(genes, values, None, places, provenance)
    write_run(section, run_id, on_spots, on_grid)
    return run_id


def tell_subtypes(section, run_id="subtypes-1", *, turned=False, stride=25.0, validation=None):
    """Write subtypes that are right but for noise; `turned` takes each class for the other."""
    from spotscope.data.places import Grid, Places
    from spotscope.data.subtype_map import SubtypeMap
    from spotscope.data.subtype_runs import write_subtypes

    def told(places, dense, seed):
        rng = np.random.default_rng(seed)
        cancer = np.clip(
            np.where(dense != turned, 0.8, 0.2) + rng.normal(0, 0.2, len(dense)), 0.01, 0.99
        )
        shares = np.column_stack([1 - cancer, cancer]).astype(np.float32)
        near = np.full(len(dense), 0.5, np.float32)
        return SubtypeMap(["connective tissue", "invasive cancer"], shares, near, places)

    first = stride // 2
    cut = slice(int(first), None, int(stride))
    mask, dense = (part[cut, cut] for part in tissue()[1:])
    cells = Grid((first, first), stride, stride * MPP, mask)
    on_grid = told(Places(section, cells.centres_px, cells), dense[mask], 2)
    on_spots = None
    if section.has_spots:
        rows, cols = section.centres_px.astype(int).T
        on_spots = told(Places.on_spots(section), tissue()[2][rows, cols], 3)
    about = {
        "method": "subtypes",
        "title": "Subtype classifier",
        "encoder": "stain",
        "training_sections": [section.name],
        "training_patients": [section.patient],
        "validation": validation,
    }
    write_subtypes(section, run_id, on_spots, on_grid, about)
    return run_id


@dataclass
class Made:
    section: object
    run_id: str | None

    @property
    def opened(self):
        return OpenSection(self.section)


@pytest.fixture(scope="session")
def _stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sections")
    c2 = make_section(folder, "C2", "C")
    c3 = make_section(folder, "C3", "C", labels=False)
    alone = make_section(folder, "alone", "D", spots=False)
    return {
        "C2": Made(c2, add_run(c2)),
        "C3": Made(c3, None),
        "alone": Made(alone, add_run(alone, "alone-1")),
    }


@pytest.fixture
def c2(_stores):
    """A labelled section with a run on spots and grid."""
    return _stores["C2"].opened


@pytest.fixture
def c3(_stores):
    """Another section of the same patient, without labels and runs."""
    return _stores["C3"].opened


@pytest.fixture
def slide_alone(_stores):
    """A slide without spots, with a run on a grid."""
    return _stores["alone"].opened


@pytest.fixture
def fresh(tmp_path):
    """A section of its own, without runs, that a test may write to."""
    return OpenSection(make_section(tmp_path))


@pytest.fixture
def stranger(tmp_path):
    """A labelled section of another patient."""
    return OpenSection(make_section(tmp_path, "B1", "B"))


@pytest.fixture
def unlabelled(tmp_path):
    """A section without labels, of its own."""
    return OpenSection(make_section(tmp_path, "C3", "C", labels=False))


@pytest.fixture
def bare_slide(tmp_path):
    """A slide without spots, of its own."""
    return OpenSection(make_section(tmp_path, "alone", "D", spots=False))


@pytest.fixture
def predict():
    """A function that adds a run to a section's store."""
    return add_run


@pytest.fixture
def add_subtypes():
    """A function that adds a subtype run to a section's store."""
    return tell_subtypes


@pytest.fixture
def tissue_masks():
    """Tissue and its dense part, one value a cell of the runs' grid."""
    cut = slice(12, None, 25)
    return tuple(part[cut, cut] for part in tissue()[1:])


@pytest.fixture
def viewer():
    """A viewer without a window."""
    from napari.components import ViewerModel

    return ViewerModel()


@pytest.fixture(autouse=True)
def _own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("SPOTSCOPE_DATA", str(tmp_path / "data"))
