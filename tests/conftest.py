"""Fixtures that every part of the tests shares."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotscope.data.section import Section
    from spotscope.encoders.base import Encoder


# Triton and Mesa, which draws windows here, each bring an LLVM; a process with both crashes.
sys.modules.setdefault("triton", None)  # type: ignore[arg-type]

# A file goes to one process whole, so that one of these begun last would keep the others waiting.
LONG = ("tutorials/test_annotate.py", "test_layers.py", "training/test_imports.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    items.sort(key=lambda item: not item.path.as_posix().endswith(LONG))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real slides and sections for developers; they lie beside the project and never inside it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data for developers is not at hand")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what tests cache out of the user's cache folder."""
    monkeypatch.setenv("SPOTSCOPE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def make_section() -> Callable[..., Section]:
    """Return a maker of tiny sections in memory, whose genes follow the colour of the tissue."""
    import numpy as np
    import pandas as pd
    from anndata import AnnData
    from scipy import ndimage, sparse

    from spotscope.data.section import Section
    from spotscope.slide.fingerprint import of_levels
    from spotscope.slide.levels import PixelLevel
    from spotscope.slide.mpp import MppSource
    from spotscope.slide.slide import Slide

    def make(
        name: str,
        patient: str,
        seed: int = 0,
        *,
        n_genes: int = 12,
        prefix: str = "G",
        noise: bool = False,
        with_spots: bool = True,
    ) -> Section:
        """Make 30 spots 60 µm apart on 360 × 420 px of 1 µm; `noise` unlinks genes and tissue."""
        rng = np.random.default_rng(seed)
        field = ndimage.gaussian_filter(rng.normal(size=(360, 420)), 40)
        field = (field - field.min()) / np.ptp(field)
        image = np.full((360, 420, 3), 255, np.uint8)
        inside = np.s_[20:340, 20:400]
        shade = np.stack([235 - 130 * field, 150 - 90 * field, 205 - 60 * field], -1)
        image[inside] = shade[inside]
        level = PixelLevel(image)
        slide = Slide(
            path=Path(f"{name}.png"),
            name=name,
            levels=[level],
            downsamples=(1.0,),
            mpp_sources=(MppSource("test", 1.0),),
            mpp_um=1.0,
            fingerprint=of_levels([level]),
        )
        if not with_spots:
            return Section(name, patient, slide)
        rows, cols = (60 + 60 * np.mgrid[:5, :6]).reshape(2, -1)
        seen = rng.random(30) if noise else field[rows, cols]
        slope = np.linspace(-2, 3, n_genes)
        counts = rng.poisson(20 * np.exp(seen[:, None] * slope)).astype(np.float32)
        counts[:, -1] = 0  # a gene that is never seen
        spots = AnnData(
            sparse.csr_matrix(counts),
            obs=pd.DataFrame(index=[f"{name}-{i}" for i in range(30)]),
            var=pd.DataFrame(index=[f"{prefix}{i}" for i in range(n_genes)]),
        )
        spots.obsm["spatial"] = np.stack([cols, rows], 1).astype(float)
        return Section(name, patient, slide, spots, 40.0)

    return make


@pytest.fixture(scope="session")
def colour_encoder() -> Encoder:
    """Return an encoder that is quick: mean and spread of each colour."""
    import numpy as np

    from spotscope.encoders.base import Encoder

    class ColourEncoder(Encoder):
        name, width, patch_um, patch_px, fingerprint = "colour", 6, 48.0, 12, "colour-1"

        def encode(self, patches: np.ndarray) -> np.ndarray:
            flat = self.checked(patches).reshape(len(patches), -1, 3).astype(np.float32)
            return np.concatenate([flat.mean(axis=1), flat.std(axis=1)], axis=1)

    return ColourEncoder()


@pytest.fixture(scope="session")
def tiny_stores(
    make_section: Callable[..., Section], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Return stores of tiny sections by name, to be copied by tests that write to them."""
    from spotscope.data.store import write_section

    folder = tmp_path_factory.mktemp("tiny")
    stores = {}
    for seed, (name, patient) in enumerate((("A1", "A"), ("A2", "A"), ("B1", "B"))):
        stores[name] = folder / f"{name}.zarr"
        write_section(make_section(name, patient, seed), stores[name])
    return stores


@pytest.fixture
def quick_encoder(colour_encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every name of an encoder mean the quick one."""
    for module in ("spotscope.methods.base", "spotscope.evaluate.crossval"):
        monkeypatch.setattr(f"{module}.get_encoder", lambda spec: colour_encoder)
