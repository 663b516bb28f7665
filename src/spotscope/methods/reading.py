"""A model's folder: what lies in it, and how it is read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Arrays = dict[str, NDArray[Any]]

FORMAT = 1
"""Of the model folder; raised when an older SpotScope could not read it any more."""
ARRAYS, SETTINGS, GENES, PROVENANCE = (
    "model.safetensors",
    "settings.json",
    "genes.json",
    "provenance.json",
)


def read_record(folder: Path) -> dict[str, Any]:
    """Return the provenance of the model in a folder, without loading the model.

    Raises
    ------
    SpotScopeError
        When it is no model, or of a newer version.
    """
    if not (folder / PROVENANCE).is_file():
        raise SpotScopeError(
            f"'{folder}' is no model: it lacks '{PROVENANCE}'; name the folder that"
            " `spotscope train` wrote."
        )
    record = read_json(folder, PROVENANCE)
    if not isinstance(record, dict) or not isinstance(record.get("method"), str):
        raise SpotScopeError(f"'{folder / PROVENANCE}' does not say which method made the model.")
    if int(record.get("format", 0)) > FORMAT:
        made_by = record.get("versions", {}).get("spotscope", "a newer version")
        raise SpotScopeError(
            f"The model in '{folder}' was made by a newer SpotScope ({made_by}); update SpotScope"
            " to use it."
        )
    return record


def read_json(folder: Path, name: str) -> Any:
    """Return the content of one of a model's files.

    Raises
    ------
    SpotScopeError
        When it is missing or damaged.
    """
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _not_whole(folder, name) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SpotScopeError(
            f"'{folder / name}' is damaged; copy or train the model again."
        ) from error


def read_arrays(folder: Path) -> Arrays:
    """Return all that a model has learnt, as named arrays.

    Raises
    ------
    SpotScopeError
        When the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(folder / ARRAYS)
    except FileNotFoundError as error:
        raise _not_whole(folder, ARRAYS) from error
    except SafetensorError as error:
        raise SpotScopeError(
            f"'{folder / ARRAYS}' is damaged; copy or train the model again."
        ) from error


def _not_whole(folder: Path, name: str) -> SpotScopeError:
    return SpotScopeError(
        f"The model in '{folder}' lacks '{name}'; copy the whole folder or train it again."
    )


def packed(names: Iterable[object]) -> NDArray[np.uint8]:
    """Return names as bytes, to lie among the arrays."""
    return np.frombuffer(json.dumps([str(name) for name in names]).encode(), np.uint8)


def unpacked(array: NDArray[Any]) -> list[str]:
    """Return the names that `packed` made bytes of."""
    return [str(name) for name in json.loads(np.asarray(array).tobytes())]
