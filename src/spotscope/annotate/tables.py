"""Labels by barcode: Loupe Browser's CSV, and label files of first-generation ST."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from spotscope.data.readers.base import label_of
from spotscope.errors import SpotScopeError
from spotscope.files import written_beside

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


def read_labels(path: Path, barcodes: Sequence[str]) -> dict[str, str | None]:
    """Read the class of each barcode from a CSV of Loupe Browser or a first-generation label file.

    Parameters
    ----------
    path
        Loupe's export (barcode, category; empty cells are unlabelled), a table with columns
        x, y and label, whose spots are called by their rounded grid position ``XxY``, or one
        whose first column names spots of the section, with the class in the column ``label`` or
        else the second.
    barcodes
        The section's spots, to settle whether barcodes end in ``-1``.

    Raises
    ------
    SpotScopeError
        When the file is none of these.
    """
    name = Path(path).name
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            first = file.readline()
        # The commonest of the usual separators in the first line; pandas' own guess is slow.
        separator = max("\t;,", key=first.count)
        table = pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise SpotScopeError(
            f"'{name}' is not a label table; export the category from Loupe Browser as CSV."
        ) from error
    columns = {str(c).strip().lower(): c for c in table.columns}
    if {"x", "y", "label"} <= columns.keys():
        keys = _grid_names(table[columns["x"]], table[columns["y"]], name)
        values = table[columns["label"]]
    elif table.shape[1] >= 2:
        keys = _settled(table.iloc[:, 0].str.strip().tolist(), barcodes)
        stated = str(table.columns[0]).strip().lower() in ("barcode", "barcodes")
        if not stated and not set(keys) & set(map(str, barcodes)):
            raise _no_labels(name)
        values = table[columns.get("label", table.columns[1])]
    else:
        raise _no_labels(name)
    return {key: label_of(value) for key, value in zip(keys, values, strict=True)}


def write_labels(labels: Mapping[str, str | None], path: Path, category: str = "subtype") -> None:
    """Write (barcode, category) as Loupe Browser reads it; unlabelled spots are left empty."""
    table = pd.DataFrame({"Barcode": list(labels), category: [v or "" for v in labels.values()]})
    with written_beside(Path(path)) as beside:
        table.to_csv(beside, index=False)


def _no_labels(name: str) -> SpotScopeError:
    return SpotScopeError(
        f"'{name}' needs the columns 'Barcode' and a category (Loupe Browser), the section's spots"
        " and their 'label', or 'x', 'y' and 'label' (first-generation ST)."
    )


def _grid_names(x: pd.Series[str], y: pd.Series[str], name: str) -> list[str]:
    try:
        columns, rows = (_rounded(v.astype(float).to_numpy()) for v in (x, y))
    except ValueError as error:
        raise SpotScopeError(
            f"'{name}' has grid positions x, y that are not numbers; export it again."
        ) from error
    return [f"{c}x{r}" for c, r in zip(columns, rows, strict=True)]


def _rounded(values: NDArray[Any]) -> NDArray[np.int64]:
    if not np.isfinite(values).all():
        raise ValueError("not finite")
    return np.rint(values).astype(np.int64)


def _settled(keys: list[str], barcodes: Sequence[str]) -> list[str]:
    known = set(map(str, barcodes))
    if any(k in known for k in keys):
        return keys
    cut = [k.rsplit("-", 1)[0] for k in keys]
    if any(k in known for k in cut):
        return cut
    with_one = [f"{k}-1" for k in keys]
    return with_one if any(k in known for k in with_one) else keys
