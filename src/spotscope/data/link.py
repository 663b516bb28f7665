"""A slide that stays where it is: how it is remembered and found again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from spotscope.errors import SpotScopeError
from spotscope.slide import fingerprint


def remember(slide_path: Path, store: Path) -> dict[str, Any]:
    """Return what finds the slide again: where it lies, seen from here and from the store.

    The key is of the file's size and of pieces all over it, so that a slide of many gigabytes is
    checked in a moment each time the section is opened.
    """
    slide_path = slide_path.resolve()
    try:
        relative: str | None = os.path.relpath(slide_path, store.parent.resolve())
    except ValueError:  # another drive on Windows
        relative = None
    return {
        "path": str(slide_path),
        "relative": relative,
        "size": _size(slide_path),
        "key": _key(slide_path),
    }


def find(link: dict[str, Any], store: Path) -> Path:
    """Return where the slide lies now.

    It is looked for where it lay as seen from the store, where it lay on this machine, and
    beside the store.

    Raises
    ------
    SpotScopeError
        When it is gone, or what lies there is another slide.
    """
    known = Path(link["path"])
    beside = store.parent / known.name
    # A store made on Windows names the slide by the other slash.
    beside_too = store.parent / str(link["path"]).replace("\\", "/").rsplit("/", 1)[-1]
    places = [known, beside, beside_too]
    if link.get("relative"):
        places.insert(0, store.parent / link["relative"])
    changed = None
    for place in places:
        if place.exists():
            if _size(place) == link["size"] and _key(place) == link["key"]:
                return Path(os.path.normpath(place))
            changed = changed or place
    if changed is not None:
        raise SpotScopeError(
            f"The slide '{changed}' is not the one that section '{store.name}' was made of; put"
            " the original back or import the section again."
        )
    raise SpotScopeError(
        f"The slide of section '{store.name}' is not at '{known}' any more; put it back, or"
        f" beside the store in '{store.parent}'."
    )


def _files(path: Path) -> list[Path]:
    """Return the files of a slide; some formats are a folder, MRXS a file and a folder."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    data = path.with_suffix("")
    more = _files(data) if path.suffix.lower() == ".mrxs" and data.is_dir() else []
    return [path, *more]


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in _files(path))


def _key(path: Path) -> str:
    files = _files(path)
    largest = max(files, key=lambda file: (file.stat().st_size, str(file)), default=path)
    return fingerprint.of_file(largest, str(len(files)))
