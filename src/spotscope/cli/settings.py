"""Settings as they are typed: `--set name=value`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

Kind = TypeVar("Kind", bound="BaseModel")


def fields(kind: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    """Return the settings by the name to type; those within a group are `group.name`."""
    found: dict[str, FieldInfo] = {}
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and hasattr(inner, "model_fields"):
            found |= fields(inner, f"{prefix}{name}.")
        else:
            found[prefix + name] = field
    return found


def split_pairs(pairs: Sequence[str]) -> list[tuple[str, str]]:
    """Return name and value of each `name=value`.

    Raises
    ------
    SpotScopeError
        When there is no equals sign.
    """
    for pair in pairs:
        if "=" not in pair:
            raise SpotScopeError(
                f"'--set {pair}' has no value; write it as --set name=value, such as"
                " --set panel.n_genes=200."
            )
    return [(name.strip(), value.strip()) for name, _, value in (p.partition("=") for p in pairs)]


def parse(kind: type[BaseModel], pairs: Sequence[tuple[str, str]], owner: str) -> dict[str, Any]:
    """Return settings as nested values, of which only the names are checked here.

    Raises
    ------
    SpotScopeError
        When the settings have no such name.
    """
    known = fields(kind)
    content: dict[str, Any] = {}
    for name, text in pairs:
        if name not in known:
            raise SpotScopeError(
                f"'{owner}' has no setting '{name}'; its settings are {', '.join(known)}."
            )
        *groups, last = name.split(".")
        place = content
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = _value(known[name], text)
    return content


def checked(kind: type[Kind], content: dict[str, Any]) -> Kind:
    """Return the settings.

    Raises
    ------
    SpotScopeError
        When a value does not fit.
    """
    from pydantic import ValidationError

    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise SpotScopeError(
            f"The setting '{name}' cannot be {first['input']}: {first['msg']}."
        ) from error


def parse_for_many(
    kinds: dict[str, type[BaseModel]], pairs: Sequence[tuple[str, str]]
) -> dict[str, dict[str, Any]]:
    """Return the settings of several methods.

    `name=value` is for every method that has the setting, `method.name=value` for one.

    Raises
    ------
    SpotScopeError
        When no method has the setting.
    """
    chosen: dict[str, list[tuple[str, str]]] = {method: [] for method in kinds}
    for name, text in pairs:
        method, _, rest = name.partition(".")
        if method in kinds:
            chosen[method].append((rest, text))
            continue
        having = [method for method, kind in kinds.items() if name in fields(kind)]
        if not having:
            known = dict.fromkeys(each for kind in kinds.values() for each in fields(kind))
            raise SpotScopeError(
                f"None of {', '.join(kinds)} has a setting '{name}'; there are {', '.join(known)}."
            )
        for method in having:
            chosen[method].append((name, text))
    return {method: parse(kinds[method], found, method) for method, found in chosen.items()}


def _value(field: FieldInfo, text: str) -> Any:
    """Read a value as JSON where it is JSON, as a list where a list is wanted, else as text."""
    if get_origin(field.annotation) in (list, tuple, set):
        if not text.startswith("["):
            return [part.strip() for part in text.split(",") if part.strip()]
    elif field.annotation is str or text in get_args(field.annotation):  # a choice named "none"
        return text
    try:
        return json.loads(text)
    except ValueError:
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)
