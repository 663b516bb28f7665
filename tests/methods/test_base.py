from __future__ import annotations

import json
import os
import sys
import textwrap

import numpy as np
import pytest

from spotscope.data.cohort import Cohort
from spotscope.data.places import Places
from spotscope.encoders.base import Encoder
from spotscope.errors import SpotScopeError
from spotscope.methods import load_method, methods
from spotscope.methods.base import FORMAT, get_method
from spotscope.methods.knn import KnnMethod
from spotscope.methods.mean import MeanMethod
from spotscope.methods.ridge import RidgeMethod

SETTINGS = {
    "mean": {"panel": {"n_genes": 8}},
    "knn": {"panel": {"n_genes": 8}, "neighbours": 5},
    "ridge": {"panel": {"n_genes": 8}, "components": 6},
}


@pytest.fixture(scope="module")
def sections(make_section):
    return [make_section(name, name[0], seed) for seed, name in enumerate(("A1", "B1", "C1"))]


@pytest.fixture(scope="module")
def cohort(sections):
    return Cohort(tuple(sections[:2]))


@pytest.fixture
def saved(cohort, colour_encoder, tmp_path):
    KnnMethod(SETTINGS["knn"], colour_encoder).fit(cohort).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", ["mean", "knn", "ridge"])
def test_a_model_read_back_predicts_the_same(name, sections, cohort, colour_encoder, tmp_path):
    model = methods()[name](SETTINGS[name], colour_encoder).fit(cohort)
    model.save(tmp_path / "model")
    again = load_method(tmp_path / "model", colour_encoder)
    places = Places.on_spots(sections[2])
    one, two = model.predict(places), again.predict(places)
    assert type(again) is type(model)
    assert (two.genes, two.provenance) == (one.genes, one.provenance)
    assert again.settings == model.settings
    np.testing.assert_array_equal(two.expression, one.expression)
    np.testing.assert_array_equal(two.uncertainty, one.uncertainty)


def test_a_model_folder_holds_safetensors_and_json_alone(saved):
    assert sorted(file.name for file in saved.iterdir()) == [
        "genes.json",
        "model.safetensors",
        "provenance.json",
        "settings.json",
    ]
    for file in saved.glob("*.json"):
        json.loads(file.read_text())


def test_provenance_says_where_a_model_comes_from(saved, sections, colour_encoder):
    record = json.loads((saved / "provenance.json").read_text())
    assert record["format"] == FORMAT
    assert record["method"] == "knn"
    assert record["training_sections"] == ["A1", "B1"]
    assert record["training_patients"] == ["A", "B"]
    assert record["n_spots"] == 60
    assert (record["encoder"], record["encoder_fingerprint"]) == ("colour", "colour-1")
    assert (record["patch_um"], record["patch_px"]) == (48.0, 12)
    assert {"spotscope", "numpy"} <= set(record["versions"])
    assert record["created"].endswith("+00:00")
    prediction = load_method(saved, colour_encoder).predict(Places.on_spots(sections[2]))
    assert prediction.provenance["training_patients"] == ["A", "B"]


def test_auto_is_recorded_as_the_encoder_it_stood_for():
    assert RidgeMethod().encoder.name == "stain"


def test_the_same_seed_gives_the_same_model(cohort, colour_encoder):
    one, two = (RidgeMethod(SETTINGS["ridge"], colour_encoder).fit(cohort) for _ in range(2))
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(array, two.arrays()[name])


def test_a_model_predicts_on_a_section_that_lacks_its_genes(saved, colour_encoder, make_section):
    model = load_method(saved, colour_encoder)
    alone = make_section("S1", "S", 5, with_spots=False)
    prediction = model.predict(Places.on_grid(alone, 60.0))
    assert prediction.expression.shape[1] == 8
    assert np.isfinite(prediction.expression).all()


def test_an_untrained_model_is_refused(sections, tmp_path):
    with pytest.raises(SpotScopeError, match="not trained yet"):
        MeanMethod().predict(Places.on_spots(sections[0]))
    with pytest.raises(SpotScopeError, match="not trained yet"):
        MeanMethod().save(tmp_path / "model")


def test_a_model_of_another_method_is_refused(saved):
    with pytest.raises(SpotScopeError, match="made by the method 'knn', not by 'ridge'"):
        RidgeMethod.load(saved)


def test_other_encoder_weights_than_those_trained_with_are_refused(saved, sections):
    class Other(Encoder):
        name, width, patch_um, patch_px, fingerprint = "colour", 6, 48.0, 12, "colour-2"

        def encode(self, patches):
            return np.zeros((len(patches), 6), np.float32)

    with pytest.raises(SpotScopeError, match="trained with other weights of 'colour'"):
        load_method(saved, Other()).predict(Places.on_spots(sections[2]))


def edit(saved, **changes):
    file = saved / "provenance.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_model_of_a_newer_version_is_refused(saved):
    edit(saved, format=FORMAT + 1, versions={"spotscope": "9.1"})
    with pytest.raises(SpotScopeError, match=r"made by a newer SpotScope \(9.1\)"):
        load_method(saved)


def test_a_model_of_a_method_that_is_not_installed_is_refused(saved):
    edit(saved, method="theirs")
    with pytest.raises(SpotScopeError, match="the method 'theirs', which is not installed"):
        load_method(saved)


@pytest.mark.parametrize("name", ["genes.json", "settings.json", "model.safetensors"])
def test_a_missing_file_is_named(saved, colour_encoder, name):
    (saved / name).unlink()
    with pytest.raises(SpotScopeError, match=f"lacks '{name}'"):
        load_method(saved, colour_encoder)


@pytest.mark.parametrize("name", ["genes.json", "provenance.json", "model.safetensors"])
def test_a_damaged_file_is_refused(saved, colour_encoder, name):
    (saved / name).write_bytes(b'{"cut": ')
    with pytest.raises(SpotScopeError, match="is damaged"):
        load_method(saved, colour_encoder)


def test_arrays_that_lack_a_part_are_refused(saved, colour_encoder):
    from safetensors.numpy import save_file

    save_file({"mean": np.zeros(3)}, saved / "model.safetensors")
    with pytest.raises(SpotScopeError, match="is damaged"):
        load_method(saved, colour_encoder)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(SpotScopeError, match="is no model"):
        load_method(tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs rights to be refused")
def test_a_read_only_folder_is_refused(cohort, colour_encoder, tmp_path):
    model = MeanMethod(SETTINGS["mean"]).fit(cohort)
    tmp_path.chmod(0o500)
    with pytest.raises(SpotScopeError, match="cannot be written"):
        model.save(tmp_path / "model")


def test_a_model_is_replaced_whole_or_not_at_all(saved, cohort, colour_encoder, monkeypatch):
    before = (saved / "model.safetensors").read_bytes()
    model = KnnMethod({**SETTINGS["knn"], "components": 2}, colour_encoder).fit(cohort)
    whole = model.arrays
    monkeypatch.setattr(model, "arrays", lambda: {"keys": object()})
    with pytest.raises(Exception):  # noqa: B017, PT011 - whichever way writing fails
        model.save(saved)
    assert (saved / "model.safetensors").read_bytes() == before
    monkeypatch.setattr(model, "arrays", whole)
    model.save(saved)
    assert load_method(saved, colour_encoder).settings.components == 2


def test_an_unknown_method_is_answered_with_the_known_ones():
    with pytest.raises(SpotScopeError, match="There is no method 'magic'; choose .*ridge"):
        get_method("magic")


def test_every_setting_has_a_title_and_a_description_for_the_forms():
    for method in (MeanMethod, KnnMethod, RidgeMethod):
        for name, field in method.Settings.model_fields.items():
            assert field.title, (method.name, name)
            assert field.description, (method.name, name)


def install(folder, name, body):
    """Lay a package with an entry point on the path, as an installer would."""
    (folder / f"{name}_methods.py").write_text(textwrap.dedent(body))
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[spotscope.methods]\n{name} = {name}_methods:Theirs\n"
    )


def test_a_method_of_another_package_is_found_trained_and_read_back(
    cohort, sections, tmp_path, monkeypatch
):
    install(
        tmp_path,
        "theirs",
        """
        import numpy as np
        from spotscope.methods import Method

        class Theirs(Method):
            name, title, summary = "theirs", "Theirs", "always the largest"
            uses_encoder = False

            def learn(self, cohort, validation, progress):
                self.top = cohort.expression(self.genes).max(axis=0)

            def infer(self, places, progress):
                return np.tile(self.top, (len(places), 1)), None

            def arrays(self):
                return {"top": self.top}

            def restore(self, arrays):
                self.top = arrays["top"]
        """,
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "theirs_methods", raising=False)
    model = methods()["theirs"]({"panel": {"n_genes": 3}}).fit(cohort)
    model.save(tmp_path / "model")
    found = load_method(tmp_path / "model").predict(Places.on_spots(sections[2]))
    wanted = cohort.expression(model.genes).max(axis=0)
    np.testing.assert_array_equal(found.expression[4], wanted)
    assert found.uncertainty is None


def test_a_broken_package_does_not_take_the_other_methods_down(tmp_path, monkeypatch):
    install(tmp_path, "broken", "raise ImportError('no such library')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match="'broken' cannot be used: no such library"):
        found = methods()
    assert "ridge" in found
    assert "broken" not in found


def test_markers_that_are_not_measured_everywhere_are_noted(cohort):
    model = MeanMethod({"panel": {"n_genes": 8, "markers": ["NOGENE"]}}).fit(cohort)
    assert len(model.genes) == 8
    assert any("measure NOGENE" in note for note in model.provenance.notes)
