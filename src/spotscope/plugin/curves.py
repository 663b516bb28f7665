"""The curves of a training: what is kept of its progress, and what they say; no Qt."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SHARES = {"top1": "first", "top5": "among the first five"}


class Curves:
    """Figures of a training against the epochs done, as its progress tells them.

    Attributes
    ----------
    points
        By name ("loss", "chance", "val_loss", "top1", "top5"): epochs done, and the values.
    """

    def __init__(self) -> None:
        self.points: dict[str, tuple[list[float], list[float]]] = {}

    def add(self, values: Mapping[str, float]) -> bool:
        """Take in the figures of a step; say whether there was anything to draw."""
        if "loss" not in values or "epochs_done" not in values:
            return False
        at = values["epochs_done"]
        shown = {
            # A loss with further parts is not comparable with chance; its contrastive part is.
            "loss": values.get("contrastive", values["loss"]),
            **{name: values[name] for name in ("chance", *SHARES) if name in values},
        }
        for name, value in shown.items():
            self._append(name, at, value)
        held = values.get("val_contrastive", values.get("val_loss"))
        if held is not None and at >= 1:
            self._append("val_loss", math.floor(at), held)
        return True

    def said(self) -> str:
        """Say the last figures in words."""
        loss, chance = self.last("loss"), self.last("chance")
        if loss is None:
            return ""
        said = f"Loss {loss:.3g}" + (f", guessing {chance:.3g}" if chance else "")
        if (held := self.last("val_loss")) is not None:
            said += f", on the validation patients {held:.3g}"
        top1, top5 = self.last("top1"), self.last("top5")
        if top1 is None or top5 is None or not chance:
            return f"{said}."
        batch = round(math.exp(chance))
        return (
            f"{said}. Shown {batch} patches and {batch} spots, it names a patch's own spot first"
            f" in {_percent(top1)} (guessing {_percent(1 / batch)}), among five in"
            f" {_percent(top5)}."
        )

    def last(self, name: str) -> float | None:
        """Return the newest value of a curve."""
        values = self.points.get(name, ([], []))[1]
        return values[-1] if values else None

    def _append(self, name: str, at: float, value: float) -> None:
        places, values = self.points.setdefault(name, ([], []))
        if not math.isfinite(value) or (places and at < places[-1]):
            return
        if places and at == places[-1]:
            values[-1] = value
        else:
            places.append(at)
            values.append(value)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"
