"""One colour for a class on every section of this computer; no Qt, no napari."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from spotscope.errors import SpotScopeError
from spotscope.plugin.recent import data_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from spotscope.annotate.vocabulary import Vocabulary

_MOST_REMEMBERED = 300


class Palette:
    """Colours of classes by name.

    A colour that the user chose is remembered on this computer and holds everywhere. One that a
    section's own classes state comes next, the section opened first before the others. A class
    that has neither gets the first free colour of the colour-blind-safe set.
    """

    def __init__(self) -> None:
        self._own: dict[str, str] | None = None
        self._given: dict[str, str] = {}

    def colours(self, names: Iterable[str]) -> dict[str, str]:
        """Return `#rrggbb` for each class, never the same for two of them."""
        wanted = list(dict.fromkeys(names))
        known = {name: self._known(name) for name in wanted}
        taken: set[str] = set()
        for name, colour in known.items():
            if colour in taken:
                known[name] = None
            elif colour is not None:
                taken.add(colour)
        self._give(known)
        return {name: colour for name in wanted if (colour := known[name]) is not None}

    def learn(self, vocabulary: Vocabulary) -> None:
        """Take the colours that a section's classes state, where nothing else is known."""
        from spotscope.annotate.vocabulary import PALETTE

        for one in vocabulary.classes:
            # A colour of the default set was most likely given, not chosen.
            if one.colour.lower() in PALETTE:
                self._given.setdefault(one.name, one.colour)
            elif one.name not in self._chosen:
                self._given[one.name] = one.colour

    def choose(self, name: str, colour: str) -> None:
        """Remember a colour that the user chose."""
        from spotscope.files import write_json

        self._chosen.pop(name, None)
        self._chosen[name] = colour.lower()
        kept = dict(list(self._chosen.items())[-_MOST_REMEMBERED:])
        try:
            write_json(_file(), kept)
        except (SpotScopeError, OSError):
            return  # it holds for this session all the same

    def rename(self, old: str, new: str) -> None:
        """Let a class keep its colour under another name."""
        if old in self._chosen:
            self.choose(new, self._chosen[old])
        elif old in self._given:
            self._given[new] = self._given[old]

    def _known(self, name: str) -> str | None:
        return self._chosen.get(name) or self._given.get(name)

    @property
    def _chosen(self) -> dict[str, str]:
        if self._own is None:
            self._own = _read()
        return self._own

    def _give(self, known: dict[str, str | None]) -> None:
        """Give those a colour that have none, in the order of the alphabet."""
        from spotscope.annotate.vocabulary import SubtypeClass, Vocabulary

        taken = [
            SubtypeClass(name=name, colour=colour) for name, colour in known.items() if colour
        ]
        vocabulary = Vocabulary(classes=tuple(taken))
        for name in sorted(name for name, colour in known.items() if colour is None):
            vocabulary = vocabulary.with_class(name)
            made = vocabulary.get(name)
            assert made is not None
            known[name] = made.colour
            self._given.setdefault(name, made.colour)


def _read() -> dict[str, str]:
    from spotscope.annotate.vocabulary import SubtypeClass

    try:
        said = json.loads(_file().read_text(encoding="utf-8"))
        return {
            name: SubtypeClass(name=name, colour=colour).colour for name, colour in said.items()
        }
    except (OSError, ValueError, AttributeError):
        return {}


def _file() -> Path:
    return data_folder() / "class-colours.json"
