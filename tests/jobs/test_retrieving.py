from __future__ import annotations

import numpy as np
import pytest

from spotscope.data.places import Places
from spotscope.data.store import open_section
from spotscope.errors import SpotScopeError
from spotscope.jobs.retrieving import neighbours_at, sections_at_hand, why_no_neighbours
from spotscope.jobs.training import train_model
from spotscope.methods.base import get_method, load_method

QUICK = {"panel": {"n_genes": 6}, "trainable": "none", "epochs": 2, "batch_size": 30}


@pytest.fixture(scope="module")
def model(tiny_stores, tmp_path_factory, colour_encoder):
    """BLEEP on A1 and A2, with frozen colours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPOTSCOPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("spotscope.methods.base.get_encoder", lambda spec: colour_encoder)
        patch.setattr("spotscope.methods.pair_images.FROZEN", ("colour",))
        out = train_model(
            "bleep",
            [tiny_stores["A1"], tiny_stores["A2"]],
            tmp_path_factory.mktemp("models") / "bleep",
            settings={**QUICK, "neighbours": 7},
            encoder="colour",
        )
        loaded = load_method(out, colour_encoder)
        loaded.images._encoder = colour_encoder
        loaded.encoder  # noqa: B018 - made while its name is known
    return loaded


@pytest.fixture
def ask(model, tiny_stores, quick_encoder, monkeypatch, colour_encoder):
    monkeypatch.setattr("spotscope.encoders.base.get_encoder", lambda spec: colour_encoder)
    b1 = open_section(tiny_stores["B1"])

    def ask(place=(120.0, 180.0), gene="G3", **more):
        return neighbours_at(model, b1, place, gene, **more)

    return ask


def test_the_neighbours_are_those_that_the_prediction_averages(ask, model, tiny_stores):
    answer = ask(gene=model.genes[0])
    assert len(answer.neighbours) == 7
    values = np.array([one.measured for one in answer.neighbours])
    weights = np.array([one.weight for one in answer.neighbours])
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(answer.predicted, weights @ values, rtol=1e-5)
    similarity = [one.similarity for one in answer.neighbours]
    assert similarity == sorted(similarity, reverse=True)
    truth = {name: open_section(tiny_stores[name]) for name in ("A1", "A2")}
    for one in answer.neighbours:
        row = list(truth[one.section].barcodes).index(one.barcode)
        assert one.measured == pytest.approx(truth[one.section].expression([answer.gene])[row, 0])


def test_neighbours_show_the_tissue_at_their_own_place(ask, model, tiny_stores):
    near = sections_at_hand(["A1", "A2"], [tiny_stores["B1"].parent])
    assert {one.name for one in near} == {"A1", "A2"}
    answer = ask(sections=near, pictures=3, picture_px=48)
    assert [one.patch is not None for one in answer.neighbours] == [True] * 3 + [False] * 4
    known = {one.name: one for one in near}
    for one in answer.neighbours[:3]:
        section = known[one.section]
        row, col = (round(value) for value in one.centre_px)
        assert one.store == section.store
        there = section.slide.read_region(0, row, col, 1, 1)[0, 0].astype(int)
        np.testing.assert_allclose(one.patch[24, 24].astype(int), there, atol=3)
    assert answer.patch.shape == (48, 48, 3)
    assert answer.patch_um == 48.0


def test_a_section_that_is_not_at_hand_leaves_its_spots_without_picture(ask):
    answer = ask(sections=())
    assert all(one.patch is None and one.store is None for one in answer.neighbours)
    assert all(one.barcode for one in answer.neighbours)


def test_a_gene_outside_the_panel_is_read_from_the_section(ask, model, tiny_stores):
    gene = next(f"G{k}" for k in range(12) if f"G{k}" not in model.genes)
    a1 = sections_at_hand(["A1"], [tiny_stores["B1"].parent])
    answer = ask(gene=gene, sections=a1)
    assert answer.predicted is None
    for one in answer.neighbours:
        assert (one.measured is not None) == (one.section == "A1")


def test_a_place_beside_the_slide_is_refused(ask):
    with pytest.raises(SpotScopeError, match="lies beside the slide"):
        ask(place=(-5.0, 10.0))


def test_a_section_of_the_reference_is_refused(model, tiny_stores):
    with pytest.raises(SpotScopeError, match="in this model's reference"):
        neighbours_at(model, open_section(tiny_stores["A1"]), (100.0, 100.0))


def test_a_method_without_neighbours_says_so_in_a_sentence():
    assert "looks no measured spots up" in why_no_neighbours(get_method("ridge"))
    for name in ("bleep", "mclstexp", "tpirbae", "st_gchb", "clip", "knn"):
        assert why_no_neighbours(get_method(name)) is None


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_nearest_neighbours_name_their_spots_after_the_disk_too(
    tiny_stores, tmp_path, colour_encoder, quick_encoder, similarity
):
    settings = {"panel": {"n_genes": 6}, "neighbours": 5, "similarity": similarity}
    out = train_model(
        "knn", [tiny_stores["A1"], tiny_stores["A2"]], tmp_path / "knn", settings=settings
    )
    b1 = open_section(tiny_stores["B1"])
    knn = load_method(out, colour_encoder)
    place = tuple(b1.centres_px[7])
    answer = neighbours_at(knn, b1, place, knn.genes[2])
    assert answer.metric == similarity
    assert len(answer.neighbours) == 5
    whole = knn.predict(Places.on_spots(b1))
    assert answer.predicted == pytest.approx(whole.expression[7, 2], rel=1e-5)
    assert answer.spread == pytest.approx(whole.uncertainty[7, 2], rel=1e-4)
    weights = np.array([one.weight for one in answer.neighbours])
    np.testing.assert_allclose(
        weights @ [one.measured for one in answer.neighbours], answer.predicted, rtol=1e-5
    )
    similarities = [one.similarity for one in answer.neighbours]
    assert similarities == sorted(similarities, reverse=True)
    assert (similarities[0] <= 0) == (similarity == "euclidean")
    truth = {name: open_section(tiny_stores[name]) for name in ("A1", "A2")}
    for one in answer.neighbours:
        row = list(truth[one.section].barcodes).index(one.barcode)
        assert one.measured == pytest.approx(truth[one.section].expression([answer.gene])[row, 0])


def test_nearest_neighbours_are_not_asked_of_a_training_section(
    tiny_stores, tmp_path, colour_encoder, quick_encoder
):
    out = train_model("knn", [tiny_stores["A1"]], tmp_path / "knn", settings={"neighbours": 5})
    a1 = open_section(tiny_stores["A1"])
    with pytest.raises(SpotScopeError, match="'A1' is among this model's training spots"):
        neighbours_at(load_method(out, colour_encoder), a1, (100.0, 100.0))
