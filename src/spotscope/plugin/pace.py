"""How long predicting takes on this computer, remembered from the last times."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from spotscope.plugin.recent import data_folder

if TYPE_CHECKING:
    from pathlib import Path

# Places a second on two cores, until this computer has shown its own pace.
_FIRST_GUESS = {"auto": 150.0, "stain": 150.0, "resnet50": 8.0, "densenet121": 8.0}
_OTHER_NETWORK = 20.0
_LONG_ENOUGH_S = 5.0


def seconds_for(encoder: str, n_places: int) -> float:
    """Estimate how long it takes to encode places; what was encoded before takes no time."""
    rate = _rates().get(encoder) or _FIRST_GUESS.get(encoder, _OTHER_NETWORK)
    return n_places / rate


def learn_pace(encoder: str, n_places: int, seconds: float) -> None:
    """Remember how long a run took, when it was long enough to tell."""
    from spotscope.errors import SpotScopeError
    from spotscope.files import write_json

    if seconds < _LONG_ENOUGH_S or n_places < 1:
        return
    rates = _rates()
    rates[encoder] = 0.5 * (rates.get(encoder) or n_places / seconds) + 0.5 * n_places / seconds
    try:
        write_json(_file(), rates)
    except (SpotScopeError, OSError):
        return


def _rates() -> dict[str, float]:
    try:
        said = json.loads(_file().read_text(encoding="utf-8"))
        return {str(name): float(rate) for name, rate in said.items() if float(rate) > 0}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _file() -> Path:
    return data_folder() / "pace.json"
