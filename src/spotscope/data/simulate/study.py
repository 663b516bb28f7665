"""Make the simulated study: patients, their sections, and the best score within reach."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from spotscope.data.normalise import log_normalise
from spotscope.data.simulate.drawing import SectionPainter, Textures
from spotscope.data.simulate.genes import gene_model
from spotscope.data.simulate.geometry import PatientTissue, SectionGeometry
from spotscope.data.simulate.nuclei import Nuclei, NucleusBank
from spotscope.data.simulate.settings import SUBTYPES, StudySettings
from spotscope.data.simulate.staining import Stain
from spotscope.data.simulate.truth import Truth
from spotscope.errors import SpotScopeError
from spotscope.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    from spotscope.data.section import Section
    from spotscope.data.simulate.genes import GeneModel


@dataclass(frozen=True)
class SimulatedSection:
    """One section of the simulated study.

    Attributes
    ----------
    name, patient
        Such as "P1A" of patient "P1".
    image
        (rows, cols, 3) uint8 RGB.
    mpp_um
        Micrometres per pixel.
    spots
        AnnData: X raw counts (CSR, int32), var_names genes, obs_names barcodes,
        obsm["spatial"] (x, y) pixels, obs["subtype"], obs["array_row"], obs["array_col"].
    spot_diameter_um, spot_pitch_um
        Of the spots.
    truth
        What the counts were drawn from.
    """

    name: str
    patient: str
    image: NDArray[np.uint8]
    mpp_um: float
    spots: AnnData
    spot_diameter_um: float
    spot_pitch_um: float
    truth: Truth

    @property
    def centres_px(self) -> NDArray[np.float64]:
        """(n, 2) row, col of the spots."""
        return np.ascontiguousarray(self.spots.obsm["spatial"][:, ::-1])

    def section(self) -> Section:
        """Return it as a section whose slide lies in memory."""
        from spotscope.data.section import Section
        from spotscope.slide.fingerprint import of_levels
        from spotscope.slide.levels import PixelLevel
        from spotscope.slide.mpp import MppSource
        from spotscope.slide.slide import Slide

        level = PixelLevel(self.image)
        slide = Slide(
            path=Path(self.name),
            name=self.name,
            levels=[level],
            downsamples=(1.0,),
            mpp_sources=(MppSource("simulation", self.mpp_um),),
            mpp_um=self.mpp_um,
            fingerprint=of_levels([level]),
        )
        return Section(self.name, self.patient, slide, self.spots, self.spot_diameter_um)


@dataclass(frozen=True)
class _Patient:
    name: str
    tissue: PatientTissue
    stain: Stain
    batch: NDArray[np.float64]
    depth: float


def simulate_study(
    seed: int = 0,
    n_patients: int = 4,
    sections_per_patient: int = 2,
    settings: StudySettings | None = None,
    progress: Progress | None = None,
) -> list[SimulatedSection]:
    """Make the study; the same seed gives the same study, to the pixel and the count.

    Raises
    ------
    SpotScopeError
        When there would be no section.
    """
    if n_patients < 1 or not 1 <= sections_per_patient <= 26:
        raise SpotScopeError(
            "A simulated study needs at least one patient and 1 to 26 sections of each."
        )
    settings = settings or StudySettings()
    progress = progress or Progress()
    progress.report(0.0, "Drawing the sections")
    root = np.random.SeedSequence(seed)
    for_genes, for_bank, *for_patients = root.spawn(2 + n_patients)
    genes = gene_model(np.random.default_rng(for_genes))
    rng = np.random.default_rng(for_bank)
    textures = Textures(rng, settings.mpp_um)
    bank = NucleusBank(rng, settings.mpp_um)
    todo = []
    for index, sequence in enumerate(for_patients):
        of_patient, *of_sections = sequence.spawn(1 + sections_per_patient)
        patient = _draw_patient(f"P{index + 1}", of_patient, genes, settings)
        todo += [(patient, i, s) for i, s in enumerate(of_sections)]

    def make(job: tuple[_Patient, int, np.random.SeedSequence]) -> SimulatedSection:
        progress.check()
        patient, index, sequence = job
        rng = np.random.default_rng(sequence)
        return _draw_section(rng, patient, index, genes, textures, bank, settings, progress)

    # Each section has its own generator, so the threads' order changes nothing.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        made = progress.track(pool.map(make, todo), "Drawing the sections", total=len(todo))
        return list(made)


def best_reachable(
    sections: SimulatedSection | Sequence[SimulatedSection], genes: Sequence[str] | None = None
) -> float:
    """Mean Pearson per gene that any model could reach in expectation, mean over sections.

    It is the correlation, over a section's spots, of the observed log1p(CP10k) with its
    noiseless expectation at the spots' places. Genes that do not vary in a section have no
    correlation and are left out of its mean.
    """
    several = [sections] if isinstance(sections, SimulatedSection) else sections
    return float(np.mean([np.nanmean(best_reachable_per_gene(s, genes)) for s in several]))


def best_reachable_per_gene(
    section: SimulatedSection, genes: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """Pearson (k,) of observed and noiseless expression of one section; NaN where undefined."""
    columns = section.truth.columns(genes)
    observed = log_normalise(section.spots.X, columns).astype(np.float64)
    expected = section.truth.expression(section.centres_px, genes).astype(np.float64)
    a, b = observed - observed.mean(axis=0), expected - expected.mean(axis=0)
    spread = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.divide(
        (a * b).sum(axis=0), spread, out=np.full(len(columns), np.nan), where=spread > 0
    )


def write_study(
    folder: Path,
    seed: int = 0,
    n_patients: int = 4,
    sections_per_patient: int = 2,
    settings: StudySettings | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Make the study and write `<name>.zarr`, with `<name>.truth.npz` and `.json` beside it.

    Returns
    -------
    The section stores.

    Raises
    ------
    SpotScopeError
        When the folder cannot be written.
    """
    from spotscope.data.store import write_section

    progress = progress or Progress()
    made = simulate_study(
        seed, n_patients, sections_per_patient, settings, progress.part(0.0, 0.6)
    )
    stores = []
    for index, simulated in enumerate(made):
        part = progress.part(0.6 + 0.4 * index / len(made), 0.6 + 0.4 * (index + 1) / len(made))
        store = Path(folder) / f"{simulated.name}.zarr"
        write_section(simulated.section(), store, progress=part)
        simulated.truth.save(truth_path(store))
        stores.append(store)
    return stores


def truth_path(store: Path) -> Path:
    """Where the truth of a simulated section's store lies."""
    return Path(store).with_suffix(".truth.npz")


def _draw_patient(
    name: str, sequence: np.random.SeedSequence, genes: GeneModel, settings: StudySettings
) -> _Patient:
    rng = np.random.default_rng(sequence)
    return _Patient(
        name=name,
        tissue=PatientTissue(rng, settings),
        stain=Stain.draw(rng),
        batch=rng.normal(0, settings.batch_sd, len(genes.names)),
        depth=settings.depth * float(np.exp(rng.normal(0, 0.2))),
    )


def _draw_section(
    rng: np.random.Generator,
    patient: _Patient,
    index: int,
    genes: GeneModel,
    textures: Textures,
    bank: NucleusBank,
    settings: StudySettings,
    progress: Progress,
) -> SimulatedSection:
    geometry = SectionGeometry.draw(rng, patient.tissue, settings)
    drawing = SectionPainter(rng, geometry, textures, bank).draw(progress.check)
    stain = patient.stain.varied(rng)
    image = stain.colours(rng, drawing.haematoxylin, drawing.eosin, blur_px=0.6 / settings.mpp_um)
    truth = _truth(geometry, drawing.nuclei, patient, genes, settings)
    return SimulatedSection(
        name=f"{patient.name}{chr(ord('A') + index)}",
        patient=patient.name,
        image=image,
        mpp_um=settings.mpp_um,
        spots=_spots(rng, geometry, truth, settings),
        spot_diameter_um=settings.spot_diameter_um,
        spot_pitch_um=settings.spot_pitch_um,
        truth=truth,
    )


def _truth(
    geometry: SectionGeometry,
    nuclei: list[Nuclei],
    patient: _Patient,
    genes: GeneModel,
    settings: StudySettings,
) -> Truth:
    shape, places = geometry.nodes()
    step = settings.map_step_px
    # A disc of diameter d has the standard deviation d / 4 along each axis.
    spread = settings.spot_diameter_um / 4 / settings.mpp_um / step

    def over_spot(values: NDArray) -> NDArray[np.float32]:
        smooth = ndimage.gaussian_filter(values.reshape(shape), spread, mode="nearest")
        return smooth.astype(np.float32)

    centres = np.concatenate([n.centres_px for n in nuclei if n.kind != "debris"])
    cell = np.minimum(np.rint(centres / step).astype(int), np.array(shape) - 1)
    counted = np.zeros(shape)
    np.add.at(counted, tuple(cell.T), 1.0)
    cell_mm2 = (step * settings.mpp_um / 1000) ** 2
    return Truth(
        shares=np.stack([over_spot(s) for s in geometry.patient.shares(places).T]),
        density=over_spot(counted / cell_mm2),
        field=over_spot(geometry.patient.field(places)),
        tissue=over_spot((geometry.patient.depth_um(places) > 0).astype(np.float32)),
        genes=genes,
        batch=patient.batch,
        step_px=step,
        depth=patient.depth,
        depth_sd=settings.depth_sd,
        dispersion=settings.dispersion,
        dropout=settings.dropout,
    )


def _spots(
    rng: np.random.Generator, geometry: SectionGeometry, truth: Truth, settings: StudySettings
) -> AnnData:
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    lattice = spot_lattice(settings.shape_px, settings.spot_pitch_um / settings.mpp_um)
    centres = lattice[["row_px", "col_px"]].to_numpy()
    depth = geometry.patient.depth_um(geometry.to_patient(centres))
    on_tissue = depth > settings.spot_diameter_um / 4
    centres = centres[on_tissue]
    obs = lattice.loc[on_tissue, ["array_row", "array_col"]].copy()
    obs["in_tissue"] = 1
    obs["subtype"] = pd.Categorical(truth.subtype_at(centres), categories=SUBTYPES)
    return AnnData(
        X=csr_matrix(truth.draw(rng, centres)),
        obs=obs,
        var=pd.DataFrame(index=list(truth.genes.names)),
        obsm={"spatial": np.ascontiguousarray(centres[:, ::-1])},
    )


def spot_lattice(shape_px: tuple[int, ...], pitch_px: float) -> pd.DataFrame:
    """Hexagonal lattice of all spots under an image, as a table indexed by barcode.

    Columns: array_row, array_col (even and odd columns alternate, as on a Visium slide),
    row_px, col_px. A place of the lattice has the same barcode in every section.
    """
    import pandas as pd

    step = np.array([pitch_px * np.sqrt(3) / 2, pitch_px / 2])
    margin = pitch_px * 0.6
    n_rows = int((shape_px[0] - 1 - 2 * margin) // step[0]) + 1
    n_cols = int((shape_px[1] - 1 - 2 * margin) // step[1]) + 1
    rows, cols = np.mgrid[:n_rows, :n_cols]
    used = (rows + cols) % 2 == 0
    array = np.column_stack([rows[used], cols[used]])
    centres = array * step + margin
    table = pd.DataFrame(array, columns=["array_row", "array_col"], index=_barcodes(len(array)))
    table["row_px"], table["col_px"] = centres.T
    return table


def _barcodes(n: int) -> list[str]:
    letters = np.random.default_rng(20241121).integers(0, 4, (n, 16))
    return ["".join(row) + "-1" for row in np.array(list("ACGT"))[letters]]
