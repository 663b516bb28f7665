"""A form made from a pydantic model: what a method can be told, its dock shows."""

from __future__ import annotations

import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLineEdit,
    QSpinBox,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from pydantic.fields import FieldInfo

_LARGE = 1_000_000_000


class SettingsForm(QWidget):
    """Fields for the settings of a pydantic model, those of its parts among them.

    Parameters
    ----------
    settings
        The model class.
    preset
        Values that differ from the model's own.
    without
        Fields that are chosen elsewhere.
    """

    edited = Signal()

    def __init__(
        self,
        settings: type[BaseModel],
        preset: dict[str, Any] | None = None,
        without: Collection[str] = (),
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._reads: dict[tuple[str, ...], Callable[[], Any]] = {}
        self._first: dict[tuple[str, ...], Any] = {}
        self._preset = preset or {}
        for path, field in _fields(settings):
            if path[0] in without:
                continue
            default = field.get_default(call_default_factory=True)
            default = None if default is PydanticUndefined else default
            shown = self._preset.get(path[0], default) if len(path) == 1 else default
            widget, read = _editor(field, shown, self.edited.emit)
            widget.setToolTip(field.description or "")
            layout.addRow(field.title or path[-1].replace("_", " ").capitalize(), widget)
            self._reads[path] = read
            self._first[path] = read()

    def values(self) -> dict[str, Any]:
        """Return the preset and what was changed, as the model takes it; it is not checked yet.

        What was left as it is, is left to the model: some settings follow from others.
        """
        entered = dict(self._preset)
        for path, read in self._reads.items():
            if read() == self._first[path]:
                continue
            place = entered
            for part in path[:-1]:
                place = place.setdefault(part, {})
            place[path[-1]] = read()
        return entered


def _fields(
    settings: type[BaseModel], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Yield the fields of a model and of the models within it."""
    for name, field in settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields(kind, (*path, name))
        else:
            yield (*path, name), field


def _editor(
    field: FieldInfo, default: Any, edited: Callable[[], None]
) -> tuple[QWidget, Callable[[], Any]]:
    """Return the widget for a field, and what reads it."""
    kind, optional = _without_none(field.annotation)
    if get_origin(kind) is Literal:
        return _choice(list(get_args(kind)), default, edited)
    if kind is bool:
        box = QCheckBox()
        box.setChecked(bool(default))
        box.toggled.connect(lambda _: edited())
        return box, box.isChecked
    if kind in (int, float) and not optional:
        return _spin(kind, field, default, edited)
    return _line(kind, default, optional, edited)


def _without_none(kind: Any) -> tuple[Any, bool]:
    if get_origin(kind) in (Union, types.UnionType):
        parts = [part for part in get_args(kind) if part is not type(None)]
        return (parts[0] if len(parts) == 1 else str), len(parts) < len(get_args(kind))
    return kind, False


def _choice(
    values: list[Any], default: Any, edited: Callable[[], None]
) -> tuple[QWidget, Callable[[], Any]]:
    box = QComboBox()
    for value in values:
        box.addItem(str(value).replace("_", " "), value)
    box.setCurrentIndex(max(values.index(default) if default in values else 0, 0))
    box.currentIndexChanged.connect(lambda _: edited())
    return box, box.currentData


def _spin(
    kind: type, field: FieldInfo, default: Any, edited: Callable[[], None]
) -> tuple[QWidget, Callable[[], Any]]:
    low, high = _bounds(field)
    if kind is int:
        whole = QSpinBox()
        whole.setRange(int(low), int(high))
        whole.setValue(int(default or 0))
        whole.valueChanged.connect(lambda _: edited())
        return whole, whole.value
    box = QDoubleSpinBox()
    # As many decimals as a small default such as a learning rate needs to be seen.
    box.setDecimals(6 if default and abs(default) < 0.01 else 3)
    box.setRange(low, high)
    box.setValue(float(default or 0))
    box.valueChanged.connect(lambda _: edited())
    return box, box.value


def _bounds(field: FieldInfo) -> tuple[float, float]:
    low, high = -float(_LARGE), float(_LARGE)
    for rule in field.metadata:
        low = float(getattr(rule, "ge", None) or getattr(rule, "gt", None) or low)
        high = float(getattr(rule, "le", None) or getattr(rule, "lt", None) or high)
        if getattr(rule, "ge", None) == 0 or getattr(rule, "gt", None) == 0:
            low = 0.0
    return low, high


def _line(
    kind: Any, default: Any, optional: bool, edited: Callable[[], None]
) -> tuple[QWidget, Callable[[], Any]]:
    """Return a line of text; lists are entered with commas between their parts."""
    many = get_origin(kind) in (list, tuple, set)
    if many:
        text = ", ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in default)
    else:
        text = "" if default is None else str(default)
    line = QLineEdit(text)
    line.textChanged.connect(lambda _: edited())
    if many:
        line.setPlaceholderText("with commas between")
    elif kind is Path:
        line.setPlaceholderText("path of a file")
    elif optional:
        line.setPlaceholderText("automatic")

    def read() -> Any:
        entered = line.text().strip()
        if many:
            return [part.strip() for part in entered.split(",") if part.strip()]
        return entered if entered or not optional else None

    return line, read
