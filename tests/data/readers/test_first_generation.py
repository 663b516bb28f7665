from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from spotscope.data.importing import import_section, preview_source
from spotscope.data.simulate.vendor import write_first_generation
from spotscope.errors import SpotScopeError

MPP = 2.0
PITCH_PX = 100.0


@pytest.fixture
def folder(tmp_path):
    """Section B7 of 6 × 5 spots, 200 µm apart, in folders as HER2ST has them."""
    for name in ("counts", "spots", "images", "labels"):
        (tmp_path / name).mkdir()
    rng = np.random.default_rng(0)
    x, y = (grid.ravel() + 10 for grid in np.meshgrid(np.arange(6), np.arange(5)))
    ids = [f"{a}x{b}" for a, b in zip(x, y, strict=True)]
    counts = pd.DataFrame(rng.poisson(2, (30, 8)), index=ids, columns=[f"G{i}" for i in range(8)])
    counts["G0"] += 1
    counts.to_csv(tmp_path / "counts" / "B7.tsv.gz", sep="\t")
    pixel_x, pixel_y = 50 + (x - 10) * PITCH_PX, 60 + (y - 10) * PITCH_PX
    spots = pd.DataFrame({"x": x, "y": y, "new_x": x, "new_y": y})
    spots["pixel_x"], spots["pixel_y"], spots["selected"] = pixel_x, pixel_y, 1
    spots.to_csv(tmp_path / "spots" / "B7_selection.tsv", sep="\t", index=False)
    labels = pd.DataFrame({"Row.names": ids, "x": x + 0.02, "y": y - 0.03})
    # The real tables have pixels of another, flipped picture: they must not be used.
    labels["pixel_x"], labels["pixel_y"] = pixel_y, pixel_x
    labels["label"] = ["fat", "tumour"] * 15
    labels.to_csv(tmp_path / "labels" / "B7.tsv", sep="\t", index=False)
    Image.fromarray(rng.integers(0, 255, (520, 620, 3), np.uint8)).save(
        tmp_path / "images" / "B7.png"
    )
    return tmp_path


def counts_of(folder):
    return pd.read_csv(folder / "counts" / "B7.tsv.gz", sep="\t", index_col=0)


def test_spots_picture_and_labels_are_found_in_the_folders_beside(folder, tmp_path):
    section = import_section(folder / "counts" / "B7.tsv.gz", tmp_path / "out.zarr")
    truth = counts_of(folder)
    assert_array_equal(section.barcodes, truth.index)
    assert_array_equal(section.counts.toarray(), truth.to_numpy())
    first = list(section.barcodes).index("12x11")
    assert_array_equal(section.centres_px[first], [160, 250])
    assert section.labels[first] == truth.index.map(lambda s: "fat")[0]
    assert section.mpp_um == pytest.approx(MPP, rel=1e-9)
    assert section.spot_diameter_um == 100
    assert section.slide.mpp_sources[0].name == "spot pitch of 200 µm"


def test_the_patient_is_the_names_letter_unless_it_is_given_and_that_is_said(folder, tmp_path):
    guessed = import_section(folder / "counts" / "B7.tsv.gz", tmp_path / "a.zarr")
    assert guessed.patient == "B"
    assert "The patient was taken to be 'B', from the name 'B7'." in guessed.notes
    given = import_section(folder / "counts" / "B7.tsv.gz", tmp_path / "b.zarr", patient="Ann")
    assert given.patient == "Ann"
    assert not any("patient" in note for note in given.notes)


def test_labels_join_on_rounded_array_positions(folder):
    path = folder / "labels" / "B7.tsv"
    labels = pd.read_csv(path, sep="\t").iloc[::-1]
    labels.loc[labels.index[0], ["x", "y"]] = np.nan
    labels.loc[labels.index[1], "label"] = "undetermined"
    labels.to_csv(path, sep="\t", index=False)
    preview = preview_source(folder / "counts" / "B7.tsv.gz")
    assert preview.labels == ["fat", "tumour"]
    assert "2 of 30 spots have no label in 'B7.tsv'." in preview.warnings


def test_spots_that_are_not_selected_are_left_out(folder):
    path = folder / "spots" / "B7_selection.tsv"
    spots = pd.read_csv(path, sep="\t")
    spots.loc[:3, "selected"] = 0
    spots.to_csv(path, sep="\t", index=False)
    preview = preview_source(folder / "counts" / "B7.tsv.gz")
    assert preview.n_spots == 26
    assert "4 spots that are not selected as tissue were left out." in preview.warnings


def test_a_table_of_genes_by_spots_is_turned(folder, tmp_path):
    truth = counts_of(folder)
    truth.T.to_csv(folder / "counts" / "B7.csv")
    (folder / "counts" / "B7.tsv.gz").unlink()
    section = import_section(folder / "counts" / "B7.csv", tmp_path / "out.zarr")
    assert_array_equal(section.genes, truth.columns)
    assert_array_equal(section.counts.toarray(), truth.to_numpy())


def test_a_picture_made_smaller_is_refused_until_its_full_width_is_said(folder):
    path = folder / "images" / "B7.png"
    with Image.open(path) as full:
        full.resize((155, 130)).save(path)
    with pytest.raises(SpotScopeError, match=r"'B7.png' is 155 × 130 px.*--full-width"):
        preview_source(folder / "counts" / "B7.tsv.gz")
    preview = preview_source(folder / "counts" / "B7.tsv.gz", full_width_px=620)
    assert_allclose(preview.centres_px.max(axis=0), np.array([460, 550]) / 4)
    assert preview.mpp_um == pytest.approx(MPP * 4, rel=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("\t2", "\tNaN", 1), "1 counts of 'B7.tsv.gz' are missing"),
        (lambda text: text.replace("\t2", "\t-2", 1), "1 counts of 'B7.tsv.gz' are negative"),
        (lambda text: text.replace("\t2", "\t0.3", 1), "1 counts of 'B7.tsv.gz' are not whole"),
        (lambda text: text.replace("\t2", "\tmany", 1), "not a number"),
        (lambda text: text.replace("\t2", "\t", 1), "not a number"),
        (lambda text: text.replace("13x12", "12x12", 1), r"same name as another \(12x12\)"),
        (lambda text: text.replace("x", "_"), "not a table of counts.*10_10"),
        (lambda _: "", "not a table of counts"),
    ],
)
def test_bad_counts_give_a_sentence_and_leave_nothing(folder, tmp_path, change, words):
    path = folder / "counts" / "B7.tsv.gz"
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()).decode()).encode()))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SpotScopeError, match=words):
        import_section(path, tmp_path / "out.zarr")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_truncated_table_gives_a_sentence(folder):
    path = folder / "counts" / "B7.tsv.gz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SpotScopeError, match=r"'B7.tsv.gz' cannot be read"):
        preview_source(path)


def test_positions_of_another_section_are_refused(folder):
    path = folder / "spots" / "B7_selection.tsv"
    spots = pd.read_csv(path, sep="\t")
    spots["x"] += 50
    spots.to_csv(path, sep="\t", index=False)
    with pytest.raises(SpotScopeError, match=r"None of the 30 spots of 'B7.tsv.gz'"):
        preview_source(folder / "counts" / "B7.tsv.gz")


def test_what_is_missing_is_named(folder):
    (folder / "spots" / "B7_selection.tsv").rename(folder / "elsewhere.tsv")
    with pytest.raises(SpotScopeError, match="positions of the spots .*--spots"):
        preview_source(folder / "counts" / "B7.tsv.gz")
    assert (
        preview_source(folder / "counts" / "B7.tsv.gz", spots=folder / "elsewhere.tsv").n_spots
        == 30
    )
    (folder / "images" / "B7.png").unlink()
    with pytest.raises(SpotScopeError, match="No picture was found for 'B7'.*--image"):
        preview_source(folder / "counts" / "B7.tsv.gz", spots=folder / "elsewhere.tsv")


def test_the_simulated_section_comes_back(simulated, tmp_path):
    paths = write_first_generation(simulated, tmp_path)
    section = import_section(paths["counts"], tmp_path / "out.zarr")
    seen = np.asarray(simulated.spots.X.sum(axis=1)).ravel() > 0
    assert_array_equal(section.counts.toarray(), simulated.spots.X[seen].toarray())
    assert_allclose(section.centres_px, simulated.centres_px[seen], atol=0.011)
    assert list(section.labels) == list(simulated.spots.obs["subtype"][seen])
    assert section.mpp_um == pytest.approx(simulated.mpp_um, rel=1e-3)


def test_real_sections_are_read(shared_data):
    c2 = preview_source(shared_data / "her2st" / "counts" / "C2.tsv.gz")
    assert (c2.name, c2.patient, c2.image.name) == ("C2", "C", "C2.jpg")
    assert (c2.n_spots, c2.n_genes, c2.labels) == (187, 15706, [])
    assert c2.thumbnail.shape == (1024, 959, 3)
    assert c2.mpp_um == pytest.approx(0.689, abs=5e-4)
    a1 = preview_source(shared_data / "her2st" / "counts" / "A1.tsv.gz", full_width_px=6954)
    assert a1.image.name == "A1_2000px.png"
    assert a1.n_spots == 346
    assert len(a1.labels) == 5  # "undetermined" is none
    assert a1.mpp_um == pytest.approx(3.185, abs=5e-4)
    mob = preview_source(shared_data / "visium" / "mob-st" / "MOB1.tsv")
    assert (mob.n_spots, mob.n_genes, mob.mpp_sources[0].name) == (
        379,
        1000,
        "spot pitch of 141 µm",
    )
