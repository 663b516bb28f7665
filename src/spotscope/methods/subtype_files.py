"""A subtype classifier's folder: safetensors and JSON, whole or not at all."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.errors import SpotScopeError
from spotscope.files import write_json, written_beside
from spotscope.methods.base import ARRAYS, FORMAT, PROVENANCE, SETTINGS, read_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

    from spotscope.methods.base import Arrays


def write_classifier(
    folder: str | Path, arrays: Arrays, settings: BaseModel, record: dict[str, Any]
) -> None:
    """Write a classifier's arrays, settings and record to a folder."""
    from safetensors.numpy import save_file

    with written_beside(Path(folder)) as beside:
        beside.mkdir()
        whole = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
        save_file(whole, beside / ARRAYS)
        write_json(beside / SETTINGS, settings.model_dump(mode="json"))
        write_json(beside / PROVENANCE, {"format": FORMAT, **record})


@contextmanager
def read_classifier(folder: str | Path, name: str) -> Iterator[tuple[str, dict[str, Any], Arrays]]:
    """Give the settings (JSON), record and arrays of a folder, to a block that takes them up.

    Raises
    ------
    SpotScopeError
        When it is no such classifier, of a newer version, or not whole.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(folder)
    record = read_record(folder)
    if record["method"] != name:
        raise SpotScopeError(
            f"The model in '{folder}' predicts expression ('{record['method']}'), not subtypes;"
            " use it with `spotscope predict`."
        )
    try:
        yield (folder / SETTINGS).read_text(encoding="utf-8"), record, load_file(folder / ARRAYS)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise SpotScopeError(
            f"The subtype classifier in '{folder}' is damaged ({error}); copy or train it again."
        ) from error
