"""What every method makes of input that is too little, broken, or another's."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch
from scipy import sparse

from spotscope.data.cohort import Cohort
from spotscope.data.places import Places
from spotscope.data.section import SUBTYPE
from spotscope.errors import SpotScopeError
from spotscope.methods.base import OURS, get_method, load_method

ALL = tuple(OURS)
PAIRS = ("clip", "bleep", "mclstexp", "tpirbae", "st_gchb")
NETWORKS = ("mlp", "gnn")
SEEING = tuple(name for name in ALL if name != "mean")
QUICK = {
    **dict.fromkeys(PAIRS, {"epochs": 2, "neighbours": 8, "width": 8, "device": "cpu"}),
    **dict.fromkeys(NETWORKS, {"epochs": 3}),
    "knn": {"neighbours": 8},
}


@pytest.fixture(scope="module")
def sections(make_section):
    made = [make_section(name, name[0], seed) for seed, name in enumerate(("A1", "B1", "C1"))]
    for section in made:
        kinds = np.where(np.arange(section.n_spots) % 2, "cancer", "stroma")
        section.measured().obs[SUBTYPE] = kinds
    return made


@pytest.fixture
def make(colour_encoder, monkeypatch):
    """A function that makes a quick method of a name."""
    monkeypatch.setattr("spotscope.methods.pair_images.FROZEN", ("colour",))
    for module in ("methods", "encoders"):
        monkeypatch.setattr(f"spotscope.{module}.base.get_encoder", lambda spec: colour_encoder)

    def make(name, **more):
        settings = {"panel": {"n_genes": 6}, **QUICK.get(name, {}), **more}
        if name == "tpirbae":
            settings = {"latent": "scvi", "latent_epochs": 2, "latent_width": 4, **settings}
        if name == "st_gchb":
            settings = {"graph_epochs": 2, **settings}
        return get_method(name)(settings, colour_encoder)

    return make


def few(section, count, name=None):
    """Return a section of its first spots."""
    found = section.subset(np.arange(count))
    found.name = name or section.name
    return found


def emptied(section, rows):
    """Return a section some spots of which have no counts."""
    found = section.subset(np.arange(section.n_spots))
    counts = found.counts.toarray()
    counts[rows] = 0
    found.measured().X = sparse.csr_matrix(counts)
    return found


def assert_predicts(model, section):
    found = model.predict(Places.on_spots(section))
    assert found.expression.shape == (section.n_spots, len(model.genes))
    assert np.isfinite(found.expression).all()
    assert found.uncertainty is not None
    assert np.isfinite(found.uncertainty).all()
    assert (found.uncertainty >= 0).all()


@pytest.mark.parametrize("name", ALL)
def test_one_section_is_enough_to_learn_from_and_an_unseen_patient_is_predicted(
    name, make, sections
):
    assert_predicts(make(name).fit(Cohort((sections[0],))), sections[2])


@pytest.mark.parametrize("name", ALL)
def test_a_section_of_fewer_spots_than_neighbours_is_learnt_from_and_predicted(
    name, make, sections
):
    cohort = Cohort((sections[0], few(sections[1], 3)))
    assert_predicts(make(name).fit(cohort), few(sections[2], 2))


@pytest.mark.parametrize("name", ALL)
def test_fewer_training_spots_than_neighbours_are_refused_or_all_taken(name, make, sections):
    small = Cohort((few(sections[0], 9), few(sections[1], 9)))
    many = {"neighbours": 40} if "neighbours" in get_method(name).Settings.model_fields else {}
    if name in PAIRS:
        with pytest.raises(SpotScopeError, match="^40 neighbours cannot be had from 18 training"):
            make(name, **many).fit(small)
    else:
        assert_predicts(make(name, **many).fit(small), sections[2])


@pytest.mark.parametrize("name", ALL)
def test_training_spots_without_counts_do_no_harm_or_are_refused(name, make, sections):
    cohort = Cohort((emptied(sections[0], [0, 7]), sections[1]))
    if name in PAIRS:
        with pytest.raises(SpotScopeError, match="^2 training spots have no counts at all"):
            make(name).fit(cohort)
    else:
        assert_predicts(make(name).fit(cohort), sections[2])


@pytest.mark.parametrize("name", ALL)
def test_spots_without_counts_are_predicted_as_if_they_had_some(name, make, sections):
    model = make(name).fit(Cohort(tuple(sections[:2])))
    whole = model.predict(Places.on_spots(sections[2])).expression
    nothing = emptied(sections[2], np.arange(sections[2].n_spots))
    np.testing.assert_array_equal(model.predict(Places.on_spots(nothing)).expression, whole)


@pytest.mark.parametrize(
    ("name", "setting"),
    [*((name, "batch_size") for name in PAIRS), *((name, "batch") for name in NETWORKS)],
)
def test_a_batch_of_one_is_refused_and_a_last_single_spot_is_no_trouble(
    name, setting, make, sections
):
    with pytest.raises(SpotScopeError, match=f"^The setting '{setting}' of '{name}' is not right"):
        make(name, **{setting: 1})
    cohort = Cohort((sections[0], few(sections[1], 15)))
    assert_predicts(make(name, **{setting: 22}).fit(cohort), sections[2])  # 45 = 2 * 22 + 1


@pytest.mark.parametrize("name", PAIRS)
def test_a_pairs_loss_that_is_no_number_keeps_what_was_good_and_names_the_batch(
    name, make, sections, monkeypatch
):
    model = make(name, epochs=3, batch_size=30)
    built = model._built
    calls = []

    def breaking(cohort):
        pair = built(cohort)
        step = pair.step

        def broken(batch):
            result = step(batch)
            calls.append(1)
            scale = math.nan if len(calls) == 4 else 1.0
            return type(result)(result.loss * scale, result.chance, result.values)

        pair.step = broken
        return pair

    monkeypatch.setattr(model, "_built", breaking)
    model.fit(Cohort(tuple(sections[:2])))
    (note,) = [note for note in model.notes if note.startswith("Stopped")]
    assert note == (
        "Stopped: the loss was not a number in batch 2 of epoch 2; the weights before it are kept."
    )
    assert model.provenance.notes[0] == note
    assert_predicts(model, sections[2])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_networks_loss_that_is_no_number_keeps_what_was_good_and_names_the_batch(
    name, make, sections, monkeypatch
):
    def fitted(bad):
        calls = []
        whole = torch.nn.functional.mse_loss

        def loss(predicted, wanted):
            found = whole(predicted, wanted)
            calls.append(1)
            return found * math.nan if len(calls) == bad else found

        monkeypatch.setattr(torch.nn.functional, "mse_loss", loss)
        try:
            return make(name, epochs=5, batch=10, patience=5).fit(Cohort(tuple(sections[:2])))
        finally:
            monkeypatch.setattr(torch.nn.functional, "mse_loss", whole)

    # 30 training spots are three batches; one more loss an epoch is that of the held-out ones.
    model = fitted(bad=6)
    assert model.notes == [
        "Stopped: the loss was not a number in batch 2 of epoch 2; the best epoch's weights are"
        " kept."
    ]
    assert_predicts(model, sections[2])
    with pytest.raises(SpotScopeError, match="^The loss is not a number in batch 3 of epoch 1"):
        fitted(bad=3)


def test_labels_of_one_class_are_no_trouble_but_to_what_learns_from_them(make, sections):
    alike = []
    for section in sections[:2]:
        alike.append(section.subset(np.arange(section.n_spots)))
        alike[-1].measured().obs[SUBTYPE] = "cancer"
    with pytest.raises(SpotScopeError, match="only 'cancer' is labelled; label more, or choose"):
        make("tpirbae", latent="scanvi").fit(Cohort(tuple(alike)))
    assert_predicts(make("tpirbae", latent="scvi").fit(Cohort(tuple(alike))), sections[2])


@pytest.mark.parametrize("spec", ["resnet50", "local:/nowhere/uni.safetensors"])
@pytest.mark.parametrize("name", SEEING)
def test_an_encoder_whose_weights_cannot_be_had_is_told_of_before_the_training(
    name, spec, sections, monkeypatch, tmp_path
):
    def offline(*args, **options):
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    said = {"resnet50": "'resnet50' are not at hand", "local": "/nowhere/uni.safetensors"}
    with pytest.raises(SpotScopeError, match=said[spec.partition(":")[0]]):
        get_method(name)({"panel": {"n_genes": 6}}, spec).fit(Cohort(tuple(sections[:2])))


@pytest.fixture(scope="module")
def of_knn(sections, tmp_path_factory, colour_encoder):
    out = tmp_path_factory.mktemp("knn") / "model"
    get_method("knn")({"panel": {"n_genes": 6}}, colour_encoder).fit(Cohort((sections[0],))).save(
        out
    )
    return out


@pytest.mark.parametrize("name", [name for name in ALL if name != "knn"])
def test_a_model_of_another_method_is_refused_by_name(name, of_knn):
    with pytest.raises(SpotScopeError, match=f"made by the method 'knn', not by '{name}'"):
        get_method(name).load(of_knn)


@pytest.mark.parametrize("name", [name for name in ALL if name != "knn"])
def test_arrays_of_another_method_under_this_ones_name_are_refused(
    name, of_knn, tmp_path, colour_encoder
):
    model = shutil.copytree(of_knn, tmp_path / "model")
    record = json.loads((model / "provenance.json").read_text())
    (model / "provenance.json").write_text(json.dumps({**record, "method": name}))
    (model / "settings.json").write_text("{}")
    with pytest.raises(SpotScopeError, match="is damaged"):
        load_method(model, colour_encoder)


@pytest.mark.parametrize("name", [*PAIRS, *NETWORKS])
def test_weights_of_another_shape_are_refused(name, make, sections, tmp_path, colour_encoder):
    from safetensors.numpy import load_file, save_file

    make(name).fit(Cohort(tuple(sections[:2]))).save(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    arrays = load_file(file)
    key = next(k for k, v in arrays.items() if k.startswith(("net.", "network.")) and v.ndim == 2)
    save_file({**arrays, key: arrays[key][:, :-1].copy()}, file)
    with pytest.raises(SpotScopeError, match="is damaged"):
        load_method(tmp_path / "model", colour_encoder)


def test_every_method_is_asked_here():
    assert {name for name in ALL if get_method(name).uses_encoder} == set(SEEING)
    for names, setting in ((PAIRS, "batch_size"), (NETWORKS, "batch")):
        having = {name for name in ALL if setting in get_method(name).Settings.model_fields}
        assert having == set(names)
