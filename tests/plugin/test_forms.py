from __future__ import annotations

import pytest
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QFormLayout

from spotscope.methods.base import methods
from spotscope.plugin.forms import SettingsForm


def field(form: SettingsForm, title: str):
    """Return the widget beside a title."""
    layout = form.layout()
    assert isinstance(layout, QFormLayout)
    for row in range(layout.rowCount()):
        label = layout.itemAt(row, QFormLayout.ItemRole.LabelRole).widget()
        if label.text() == title:
            return layout.itemAt(row, QFormLayout.ItemRole.FieldRole).widget()
    raise AssertionError(title)


@pytest.mark.parametrize("name", ["bleep", "clip", "st_gchb", "tpirbae"])
def test_a_contrastive_form_shows_the_temperature_that_is_used(qtbot, name):
    kind = methods()[name].Settings
    form = SettingsForm(kind)
    qtbot.addWidget(form)
    shown = field(form, "Temperature"), field(form, "Unit length")
    assert isinstance(shown[0], QDoubleSpinBox)
    assert isinstance(shown[1], QCheckBox)
    assert (shown[0].value(), shown[1].isChecked()) == (kind().temperature, kind().normalise)
    field(form, "As published").setChecked(True)
    published = kind.model_validate(form.values())
    assert (published.temperature, published.normalise) == (1.0, False)


def test_what_is_left_as_it_is_is_left_to_the_settings(qtbot):
    for method in methods().values():
        form = SettingsForm(method.Settings)
        qtbot.addWidget(form)
        assert form.values() == {}, method.name
