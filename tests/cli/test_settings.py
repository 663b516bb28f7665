from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from spotscope.cli.running import _repeated
from spotscope.cli.settings import fields, parse, parse_for_many, split_pairs
from spotscope.errors import SpotScopeError


class Panel(BaseModel):
    n_genes: int = 1000
    markers: list[str] = Field(default_factory=list)
    file: Path | None = None


class Settings(BaseModel):
    panel: Panel = Field(default_factory=Panel)
    radii: tuple[float, ...] = (1.0,)
    loss: Literal["hard", "soft"] = "hard"
    name: str = ""
    freeze: bool = False
    depth: int | None = None


class Other(BaseModel):
    panel: Panel = Field(default_factory=Panel)
    k: int = 5


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("panel.n_genes=20", {"panel": {"n_genes": 20}}),
        ("panel.markers=ERBB2,CD3E", {"panel": {"markers": ["ERBB2", "CD3E"]}}),
        ("panel.markers=ERBB2", {"panel": {"markers": ["ERBB2"]}}),
        ('panel.markers=["ERBB2"]', {"panel": {"markers": ["ERBB2"]}}),
        ("panel.file=a=b.txt", {"panel": {"file": "a=b.txt"}}),
        ("radii=250,420", {"radii": ["250", "420"]}),
        ("radii=", {"radii": []}),
        ("loss=soft", {"loss": "soft"}),
        ("name=1", {"name": "1"}),
        ("freeze=True", {"freeze": True}),
        ("depth=none", {"depth": None}),
    ],
)
def test_what_is_typed_becomes_a_value_that_the_settings_take(pair, expected):
    found = parse(Settings, split_pairs([pair]), "method")
    assert found == expected
    Settings.model_validate(found)


def test_settings_within_a_group_are_named_with_it():
    assert list(fields(Settings))[:3] == ["panel.n_genes", "panel.markers", "panel.file"]


def test_a_setting_is_for_every_method_that_has_it_or_for_the_one_named():
    kinds = {"net": Settings, "knn": Other}
    pairs = split_pairs(["panel.n_genes=9", "k=3", "net.loss=soft"])
    assert parse_for_many(kinds, pairs) == {
        "net": {"panel": {"n_genes": 9}, "loss": "soft"},
        "knn": {"panel": {"n_genes": 9}, "k": 3},
    }
    with pytest.raises(SpotScopeError, match="None of net, knn has a setting 'depht'"):
        parse_for_many(kinds, [("depht", "3")])
    with pytest.raises(SpotScopeError, match="'knn' has no setting 'loss'"):
        parse_for_many(kinds, [("knn.loss", "soft")])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("m --sections a b --split x", "m --sections a --sections b --split x"),
        ("m --sections a --sections b", "m --sections a --sections b"),
        ("m --json f --sections a b", "m --json f --sections a --sections b"),
        ("m --sections a b --test c", "m --sections a --sections b --test c"),
        ("m --sections=a", "m --sections=a"),
        ("m --sections", "m --sections"),
    ],
)
def test_values_in_a_row_are_given_one_by_one(typed, meant):
    assert _repeated(typed.split(), ("--sections", "--test")) == meant.split()
