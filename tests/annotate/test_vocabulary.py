from __future__ import annotations

import json
from pathlib import Path

import pytest

from spotscope.annotate.vocabulary import (
    PALETTE,
    Vocabulary,
    colour_from_qupath,
    qupath_colour,
    read_vocabulary,
    write_vocabulary,
)
from spotscope.errors import SpotScopeError


def test_new_classes_get_free_colours_and_keys_in_order() -> None:
    vocabulary = Vocabulary().with_names(["a", "b"]).with_class("skip", exclude=True)
    assert [c.colour for c in vocabulary.classes[:2]] == list(PALETTE[:2])
    assert [c.key for c in vocabulary.classes] == [1, 2, 3]
    assert vocabulary.excluded == "skip"


def test_many_classes_all_have_their_own_colour() -> None:
    vocabulary = Vocabulary().with_names([f"class {i}" for i in range(40)])
    assert len({c.colour for c in vocabulary.classes}) == 40
    assert [c.key for c in vocabulary.classes].count(None) == 31


def test_the_users_own_colour_is_kept() -> None:
    assert Vocabulary().with_class("a", "#ABCDEF").with_class("a").classes[0].colour == "#abcdef"


def test_classes_survive_the_way_through_json_and_qupath(tmp_path: Path) -> None:
    vocabulary = Vocabulary().with_class("Tumor", "#c80000").with_class("Ignore*", exclude=True)
    for qupath in (False, True):
        write_vocabulary(vocabulary, tmp_path / "classes.json", qupath=qupath)
        assert read_vocabulary(tmp_path / "classes.json") == vocabulary


def test_qupath_packs_colours_as_signed_integers() -> None:
    assert qupath_colour("#c80000") == -3670016
    assert colour_from_qupath(-3670016) == "#c80000"
    assert colour_from_qupath([200, 0, 0]) == "#c80000"


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"classes": [{"name": "a", "colour": "red"}]}',
        '{"classes": [{"name": "a", "colour": "#ffffff", "key": 10}]}',
        json.dumps({"classes": [{"name": "a", "colour": "#ffffff"}] * 2}),
    ],
)
def test_bad_class_files_are_refused_in_one_sentence(tmp_path: Path, content: str) -> None:
    file = tmp_path / "classes.json"
    file.write_text(content)
    with pytest.raises(SpotScopeError):
        read_vocabulary(file)


def test_renaming_to_a_taken_name_is_refused() -> None:
    with pytest.raises(SpotScopeError, match="same name"):
        Vocabulary().with_names(["a", "b"]).renamed("a", "b")
