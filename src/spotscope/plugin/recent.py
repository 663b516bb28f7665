"""The sections that were opened last."""

from __future__ import annotations

import json
import os
from pathlib import Path

_KEPT = 8


def recent() -> list[Path]:
    """Return the sections opened last that are still there, the last one first."""
    try:
        listed = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [Path(path) for path in listed if isinstance(path, str) and Path(path).exists()]


def remember(path: Path) -> None:
    """Put a section first among the recent ones; what cannot be written is not remembered."""
    from spotscope.errors import SpotScopeError
    from spotscope.files import write_json

    path = Path(path).resolve()
    listed = [path, *(one for one in recent() if one != path)][:_KEPT]
    try:
        write_json(_file(), [str(one) for one in listed])
    except (SpotScopeError, OSError):
        return


def data_folder() -> Path:
    """Return where the plugin keeps models and samples; `SPOTSCOPE_DATA` overrides it."""
    from platformdirs import user_data_path

    chosen = os.environ.get("SPOTSCOPE_DATA")
    return Path(chosen) if chosen else user_data_path("spotscope")


def _file() -> Path:
    return data_folder() / "recent.json"
