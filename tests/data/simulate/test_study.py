"""The simulated study: reproducible, plausible, and scored against what it was drawn from."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scipy.sparse import issparse

from spotscope.data.simulate import (
    SUBTYPES,
    SimulatedSection,
    StudySettings,
    Truth,
    best_reachable,
    best_reachable_per_gene,
    simulate_study,
    truth_path,
    write_study,
)
from spotscope.errors import Cancelled, SpotScopeError
from spotscope.progress import Progress

TINY = StudySettings(shape_px=(600, 700))


def fingerprint(section: SimulatedSection) -> str:
    key = hashlib.sha256(section.image.tobytes())
    key.update(section.spots.X.toarray().tobytes())
    key.update(section.spots.obsm["spatial"].tobytes())
    key.update("".join(section.spots.obs["subtype"]).encode())
    return key.hexdigest()


def one(seed: int) -> SimulatedSection:
    return simulate_study(seed, n_patients=1, sections_per_patient=1, settings=TINY)[0]


def density(image: np.ndarray) -> np.ndarray:
    """Optical density summed over the channels."""
    return -np.log((image.astype(np.float64) + 1) / 256).sum(axis=2)


def test_a_seed_gives_the_same_study_to_the_pixel_and_the_count() -> None:
    assert fingerprint(one(5)) == fingerprint(one(5))


def test_another_seed_gives_another_study() -> None:
    assert fingerprint(one(5)) != fingerprint(one(6))


def test_a_section_does_not_depend_on_how_many_are_made(study: list[SimulatedSection]) -> None:
    settings = StudySettings(shape_px=(1100, 1300))
    alone = simulate_study(seed=3, n_patients=1, sections_per_patient=1, settings=settings)[0]
    assert fingerprint(alone) == fingerprint(study[0])


def test_sections_are_named_by_patient(study: list[SimulatedSection]) -> None:
    assert [(s.name, s.patient) for s in study] == [
        ("P1A", "P1"),
        ("P1B", "P1"),
        ("P2A", "P2"),
        ("P2B", "P2"),
    ]


def test_counts_are_sparse_whole_and_not_negative(study: list[SimulatedSection]) -> None:
    for section in study:
        counts = section.spots.X
        assert issparse(counts)
        assert counts.format == "csr"
        assert counts.dtype == np.int32
        assert counts.data.min() > 0
        assert section.spots.var_names.is_unique
        assert section.spots.obs_names.is_unique


def test_spots_lie_inside_the_image_and_on_tissue(study: list[SimulatedSection]) -> None:
    for section in study:
        centres = section.centres_px
        radius = section.spot_diameter_um / section.mpp_um / 2
        assert np.all(centres - radius >= 0)
        assert np.all(centres + radius <= np.array(section.image.shape[:2]) - 1)
        # Even fat has rims and nuclei within a spot; the glass has nothing but noise.
        stained = ndimage.uniform_filter(density(section.image), 55)
        glass = np.median(stained[:20])
        rows, cols = np.rint(centres).astype(int).T
        assert np.all(stained[rows, cols] > glass + 0.03)


def test_spots_form_a_hexagonal_lattice_of_the_stated_pitch(study: list[SimulatedSection]) -> None:
    centres = study[0].centres_px * study[0].mpp_um
    apart = np.linalg.norm(centres[:, None] - centres, axis=-1)
    np.fill_diagonal(apart, np.inf)
    assert apart.min() == pytest.approx(study[0].spot_pitch_um)
    neighbours = (apart < 1.01 * study[0].spot_pitch_um).sum(axis=1)
    assert neighbours.max() == 6


def test_every_subtype_is_there_in_every_patient(study: list[SimulatedSection]) -> None:
    for patient in ("P1", "P2"):
        labels = {label for s in study if s.patient == patient for label in s.spots.obs["subtype"]}
        assert labels == set(SUBTYPES)


def test_fat_genes_are_high_where_the_image_is_white_and_nowhere_else(
    study: list[SimulatedSection],
) -> None:
    """Would fail if rows and columns were swapped, or the image mirrored, against the spots."""
    for section in study:
        genes = section.truth.genes.markers("adipose tissue")
        fat = np.asarray(section.spots[:, genes].X.sum(axis=1)).ravel()
        share = fat / np.asarray(section.spots.X.sum(axis=1)).ravel()
        stained = ndimage.uniform_filter(density(section.image), 55)
        rows, cols = np.rint(section.centres_px).astype(int).T
        seen = np.corrcoef(share, stained[rows, cols])[0, 1]
        wrong = []
        for turned in (stained[::-1], stained[:, ::-1], stained[::-1, ::-1], stained.T):
            r, c = np.minimum(rows, turned.shape[0] - 1), np.minimum(cols, turned.shape[1] - 1)
            wrong.append(np.corrcoef(share, turned[r, c])[0, 1])
        assert seen < -0.6
        assert min(wrong) > seen + 0.2


def test_immune_genes_are_highest_where_the_labels_say_immune(
    study: list[SimulatedSection],
) -> None:
    for section in study:
        value = section.truth.expression(section.centres_px, ["CD3E", "COL1A1"])
        immune = section.spots.obs["subtype"] == "immune infiltrate"
        assert value[immune, 0].mean() > value[~immune, 0].mean() + 0.5
        assert value[immune, 1].mean() < value[~immune, 1].mean()


def test_adjacent_sections_share_their_regions_and_patients_do_not(
    study: list[SimulatedSection],
) -> None:
    nodes = np.argwhere(np.ones((50, 60))) * 20.0 + 50

    def same(a: SimulatedSection, b: SimulatedSection) -> float:
        return float(np.mean(a.truth.subtype_at(nodes) == b.truth.subtype_at(nodes)))

    assert 0.8 < same(study[0], study[1]) < 1
    assert same(study[0], study[2]) < 0.6


def test_staining_differs_by_patient_more_than_by_section(study: list[SimulatedSection]) -> None:
    def colour(section: SimulatedSection) -> np.ndarray:
        tissue = density(section.image) > 0.6
        return section.image[tissue].mean(axis=0)

    colours = [colour(s) for s in study]
    within = max(np.abs(colours[0] - colours[1]).max(), np.abs(colours[2] - colours[3]).max())
    between = np.abs(colours[0] - colours[2]).max()
    assert between > 2 * within


def test_batch_effects_are_of_the_patient_and_not_of_the_section(
    study: list[SimulatedSection],
) -> None:
    shifts = [s.truth.batch for s in study]
    assert np.array_equal(shifts[0], shifts[1])
    assert np.corrcoef(shifts[0], shifts[2])[0, 1] < 0.3
    # and they are seen in the counts, not only stated
    level = []
    for section in study:
        expected = replace(section.truth, batch=np.zeros_like(shifts[0]))
        total = np.asarray(section.spots.X.sum(axis=0)).ravel()
        level.append(np.log((total + 1) / expected.mean_counts(section.centres_px).sum(axis=0)))
    assert np.corrcoef(level[0], shifts[0])[0, 1] > 0.8
    assert np.corrcoef(level[0], level[1])[0, 1] > 0.8
    assert abs(np.corrcoef(level[0], level[2])[0, 1]) < 0.3


def test_best_reachable_is_a_correlation_and_needs_the_right_places(
    study: list[SimulatedSection],
) -> None:
    best = best_reachable(study)
    assert 0.3 < best < 0.9
    rng = np.random.default_rng(0)
    shuffled = []
    for section in study:
        spots = section.spots.copy()
        spots.obsm["spatial"] = rng.permutation(spots.obsm["spatial"])
        shuffled.append(replace(section, spots=spots))
    assert abs(best_reachable(shuffled)) < 0.1


def test_no_prediction_of_the_image_beats_the_best_reachable(
    study: list[SimulatedSection],
) -> None:
    """Even knowing each spot's subtype and density does worse than knowing its expectation."""
    section = study[0]
    truth = section.truth
    shares = truth.shares_at(section.centres_px)
    inputs = np.column_stack([shares, truth.density_at(section.centres_px)])
    values = truth.expression(section.centres_px)
    fitted = inputs @ np.linalg.lstsq(inputs, values, rcond=None)[0]
    from spotscope.data.normalise import log_normalise

    observed = log_normalise(section.spots.X)
    score = [np.corrcoef(a, b)[0, 1] for a, b in zip(fitted.T, observed.T, strict=True)]
    assert np.nanmean(score) < best_reachable(section)


def test_best_reachable_of_chosen_genes_follows_their_order(
    study: list[SimulatedSection],
) -> None:
    both = best_reachable_per_gene(study[0], ["ERBB2", "ADIPOQ"])
    alone = best_reachable_per_gene(study[0], ["ADIPOQ"])[0]
    assert both[1] == pytest.approx(alone, rel=1e-9)


def test_a_cancelled_study_stops() -> None:
    progress = Progress()
    progress.cancel.set()
    with pytest.raises(Cancelled):
        simulate_study(progress=progress)


def test_a_study_without_patients_is_refused() -> None:
    with pytest.raises(SpotScopeError, match="at least one patient"):
        simulate_study(n_patients=0)


def test_a_tiny_image_is_refused() -> None:
    with pytest.raises(SpotScopeError, match="at least 400 µm"):
        StudySettings(shape_px=(100, 2000))


def test_the_pixel_size_changes_the_picture_and_not_the_tissue() -> None:
    coarse = one(2)
    fine = simulate_study(2, 1, 1, settings=StudySettings(shape_px=(1200, 1400), mpp_um=0.5))[0]
    places = np.argwhere(np.ones((12, 14))) * 40.0 + 60
    same = coarse.truth.subtype_at(places) == fine.truth.subtype_at(2 * places)
    assert same.mean() > 0.95
    assert fine.spots.n_obs == pytest.approx(coarse.spots.n_obs, rel=0.15)


def test_a_written_study_opens_as_sections_with_their_truth(tmp_path: Path) -> None:
    from spotscope.data.store import open_section

    stores = write_study(tmp_path, 5, 1, 2, settings=TINY)
    made = simulate_study(5, 1, 2, settings=TINY)
    assert [s.name for s in stores] == ["P1A.zarr", "P1B.zarr"]
    for store, simulated in zip(stores, made, strict=True):
        section = open_section(store)
        assert section.patient == "P1"
        assert section.mpp_um == simulated.mpp_um
        assert section.spot_diameter_um == simulated.spot_diameter_um
        assert np.array_equal(section.centres_px, simulated.centres_px)
        assert (section.counts != simulated.spots.X).nnz == 0
        assert list(section.labels) == list(simulated.spots.obs["subtype"])
        shown = section.slide.read_region(0, 0, 0, *simulated.image.shape[:2])
        assert np.array_equal(shown, simulated.image)
        truth = Truth.load(truth_path(store))
        places = section.centres_px[:5]
        assert np.array_equal(truth.expression(places), simulated.truth.expression(places))
