"""The classes that a pathologist marks: names, colours, keys, and the one that excludes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spotscope.errors import SpotScopeError
from spotscope.files import write_json

if TYPE_CHECKING:
    from collections.abc import Iterable

# Okabe and Ito's colours, which stay apart for every common kind of colour blindness, ordered so
# that the first ones also stand out on pink and violet tissue.
PALETTE = (
    "#d55e00",
    "#0072b2",
    "#009e73",
    "#f0e442",
    "#56b4e9",
    "#e69f00",
    "#cc79a7",
    "#332288",
    "#117733",
)
EXCLUDE_COLOUR = "#5f5f5f"


class SubtypeClass(BaseModel):
    """One class of tissue.

    Attributes
    ----------
    name
        What the pathologist calls it.
    colour
        ``#rrggbb``.
    key
        The number key that assigns it, 1 to 9, or None.
    exclude
        Spots of this class are left out of training and scoring.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    colour: str = Field(pattern=r"^#[0-9a-fA-F]{6}$")
    key: int | None = Field(default=None, ge=1, le=9)
    exclude: bool = False


class Vocabulary(BaseModel):
    """The classes in order; the same class has the same colour on every slide."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: tuple[SubtypeClass, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Vocabulary:
        names = [c.name for c in self.classes]
        if len(set(names)) < len(names):
            raise ValueError("two classes have the same name")
        keys = [c.key for c in self.classes if c.key is not None]
        if len(set(keys)) < len(keys):
            raise ValueError("two classes have the same key")
        if sum(c.exclude for c in self.classes) > 1:
            raise ValueError("only one class can be the one to exclude")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes in order."""
        return tuple(c.name for c in self.classes)

    @property
    def excluded(self) -> str | None:
        """Name of the class whose spots are left out, if there is one."""
        return next((c.name for c in self.classes if c.exclude), None)

    def get(self, name: str) -> SubtypeClass | None:
        """Return the class called `name`, or None."""
        return next((c for c in self.classes if c.name == name), None)

    def with_class(
        self, name: str, colour: str | None = None, *, exclude: bool = False
    ) -> Vocabulary:
        """Return the vocabulary with one more class; a known name changes nothing.

        A class without a colour gets the first one of the palette that is free, and the first
        free key.
        """
        if self.get(name) is not None:
            return self
        key = next((k for k in range(1, 10) if k not in {c.key for c in self.classes}), None)
        taken = {c.colour.lower() for c in self.classes}
        if colour is None:
            colour = EXCLUDE_COLOUR if exclude else _free_colour(taken, len(self.classes))
        added = checked_class(name=name, colour=colour.lower(), key=key, exclude=exclude)
        return checked_vocabulary([*self.classes, added])

    def with_names(self, names: Iterable[str]) -> Vocabulary:
        """Return the vocabulary with every one of `names` in it."""
        grown = self
        for name in names:
            grown = grown.with_class(name)
        return grown

    def changed(self, name: str, **changes: Any) -> Vocabulary:
        """Return the vocabulary with the class called `name` changed.

        Raises
        ------
        SpotScopeError
            When there is no such class or the change does not fit.
        """
        if self.get(name) is None:
            raise SpotScopeError(f"There is no class '{name}'; the classes are {self._listed()}.")
        return checked_vocabulary(
            [
                checked_class(**{**c.model_dump(), **changes}) if c.name == name else c
                for c in self.classes
            ]
        )

    def renamed(self, old: str, new: str) -> Vocabulary:
        """Return the vocabulary with the class `old` called `new`."""
        kept = self.get(old)
        if kept is None:
            raise SpotScopeError(f"There is no class '{old}'; the classes are {self._listed()}.")
        named = checked_class(**{**kept.model_dump(), "name": new})
        return checked_vocabulary(named if c.name == old else c for c in self.classes)

    def without(self, name: str) -> Vocabulary:
        """Return the vocabulary without the class called `name`."""
        return Vocabulary(classes=tuple(c for c in self.classes if c.name != name))

    def _listed(self) -> str:
        return ", ".join(f"'{n}'" for n in self.names) or "not defined yet"


def checked_class(**values: Any) -> SubtypeClass:
    """Make a class; what does not fit is said in one sentence."""
    try:
        return SubtypeClass(**values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(p) for p in first["loc"])
        raise SpotScopeError(
            f"The class '{values.get('name', '')}' has a {field} that does not fit"
            f" ({first['msg'].lower()}); a colour is written #rrggbb and a key is 1 to 9."
        ) from error


def checked_vocabulary(classes: Iterable[SubtypeClass]) -> Vocabulary:
    """Make a vocabulary; classes that contradict one another are said in one sentence."""
    try:
        return Vocabulary(classes=tuple(classes))
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise SpotScopeError(f"These classes do not go together: {reason}.") from error


def read_vocabulary(path: Path) -> Vocabulary:
    """Read classes from SpotScope's JSON or from QuPath's ``classes.json``.

    Raises
    ------
    SpotScopeError
        When the file holds neither.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SpotScopeError(
            f"'{Path(path).name}' is not a class file; export one from SpotScope or take"
            " classes.json of a QuPath project."
        ) from error
    try:
        if isinstance(content["pathClasses" if "pathClasses" in content else "classes"], list):
            if "pathClasses" in content:
                return _from_qupath(content["pathClasses"])
            return checked_vocabulary(checked_class(**c) for c in content["classes"])
    except (KeyError, TypeError, ValueError, AttributeError):
        pass  # said below
    raise SpotScopeError(
        f"'{Path(path).name}' holds no classes; it needs a list called 'classes' (SpotScope) or"
        " 'pathClasses' (QuPath), of names and colours."
    )


def write_vocabulary(vocabulary: Vocabulary, path: Path, *, qupath: bool = False) -> None:
    """Write the classes as SpotScope's JSON or as QuPath's ``classes.json``."""
    if qupath:
        listed = [{"name": c.name, "color": qupath_colour(c.colour)} for c in vocabulary.classes]
        write_json(Path(path), {"pathClasses": listed})
    else:
        write_json(Path(path), vocabulary.model_dump())


def qupath_colour(colour: str) -> int:
    """Return ``#rrggbb`` as QuPath's packed signed integer (opaque ARGB)."""
    packed = 0xFF000000 | int(colour[1:], 16)
    return packed - (1 << 32)


def colour_from_qupath(value: int | list[int]) -> str:
    """Return a colour that QuPath wrote, packed (old) or as [r, g, b] (new), as ``#rrggbb``."""
    if isinstance(value, list):
        red, green, blue = (int(v) & 0xFF for v in value[:3])
        return f"#{red:02x}{green:02x}{blue:02x}"
    return f"#{int(value) & 0xFFFFFF:06x}"


def combined(mine: Vocabulary, theirs: Vocabulary) -> Vocabulary:
    """Return my classes with theirs: a class of both takes their colour and keeps my key."""
    grown = mine
    for other in theirs.classes:
        if grown.get(other.name) is not None:
            grown = grown.changed(other.name, colour=other.colour)
            continue
        free = other.key is not None and other.key not in {c.key for c in grown.classes}
        excluding = other.exclude and grown.excluded is None
        grown = grown.with_class(other.name, other.colour, exclude=excluding)
        if free:
            grown = grown.changed(other.name, key=other.key)
    return grown


def class_of_import(vocabulary: Vocabulary, name: str, colour: str | None = None) -> Vocabulary:
    """Return the vocabulary with a class of another program; a known name changes nothing.

    The first one called "Ignore*", as QuPath's is, or "exclude" becomes the one to exclude.
    """
    excluding = name.lower().rstrip("*") in {"ignore", "exclude"} and vocabulary.excluded is None
    return vocabulary.with_class(name, colour, exclude=excluding)


def _from_qupath(listed: list[dict[str, Any]]) -> Vocabulary:
    grown = Vocabulary()
    for item in listed:
        name = item.get("name")
        if not name:  # QuPath keeps its nameless class in the list
            continue
        colour = item.get("color", item.get("colorRGB"))
        stated = colour_from_qupath(colour) if colour is not None else None
        grown = class_of_import(grown, str(name), stated)
    return grown


def _free_colour(taken: set[str], count: int) -> str:
    free = next((c for c in PALETTE if c not in taken), None)
    if free is not None:
        return free
    # Past the safe set, walk the hue circle by the golden ratio, so that neighbours differ.
    import colorsys

    for step in range(count, count + 1000):
        red, green, blue = colorsys.hsv_to_rgb((step * 0.618034) % 1.0, 0.65, 0.85)
        colour = f"#{int(red * 255):02x}{int(green * 255):02x}{int(blue * 255):02x}"
        if colour not in taken:
            return colour
    raise SpotScopeError("There are too many classes to tell apart by colour.")
