from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from npe2 import PluginManifest


@pytest.fixture(scope="module")
def manifest():
    """The manifest as the installed distribution gives it."""
    return PluginManifest.from_distribution("spotscope")


def test_the_installed_distribution_has_a_manifest_whose_targets_exist(manifest):
    assert manifest.name == "spotscope"
    assert manifest.display_name == "SpotScope"
    manifest.validate_imports()


def test_every_menu_is_one_that_napari_lets_plugins_add_to(manifest):
    from napari._app_model.constants._menus import MenuId

    accepted = {str(menu) for menu in MenuId.contributables()}
    assert manifest.contributions.menus
    assert set(manifest.contributions.menus) <= accepted


def test_every_contribution_names_a_command_that_there_is(manifest):
    known = {command.id for command in manifest.contributions.commands}
    named = [widget.command for widget in manifest.contributions.widgets]
    named += [reader.command for reader in manifest.contributions.readers]
    named += [sample.command for sample in manifest.contributions.sample_data]
    named += [item.command for items in manifest.contributions.menus.values() for item in items]
    assert set(named) == known


def test_the_docks_have_the_names_that_we_open_them_by(manifest):
    from spotscope.plugin.docks import HOMES

    homes = {command.id: command.python_name for command in manifest.contributions.commands}
    widgets = {w.display_name: homes[w.command] for w in manifest.contributions.widgets}
    assert widgets == HOMES


def test_the_reader_takes_every_ending_that_it_is_offered(manifest):
    from spotscope.plugin.reader import PICTURE_ENDINGS, SCANNER_ENDINGS

    (reader,) = manifest.contributions.readers
    assert reader.accepts_directories
    wanted = {f"*{ending}" for ending in (".zarr", *SCANNER_ENDINGS, *PICTURE_ENDINGS)}
    assert set(reader.filename_patterns) == wanted


_ASK = """
import importlib, json, sys, time
import qtpy.QtWidgets, superqt  # napari has them; a busy machine takes most of the time for them
started = time.process_time()
for target in {targets!r}:
    module, _, name = target.partition(":")
    getattr(importlib.import_module(module), name)
heavy = ["torch", "scanpy", "anndata", "spatialdata", "napari", "pyqtgraph", "dask", "zarr"]
heavy += ["sklearn", "skimage", "scipy", "pandas"]
print(json.dumps({{"seconds": time.process_time() - started,
                   "heavy": [name for name in heavy if name in sys.modules]}}))
"""


def _imported(targets):
    ask = [sys.executable, "-c", _ASK.format(targets=targets)]
    answers = []
    for _ in range(3):
        done = subprocess.run(ask, capture_output=True, text=True, check=True)
        answers.append(json.loads(done.stdout))
        if answers[-1]["seconds"] < 0.4:
            break
        time.sleep(0.5)
    return min(answers, key=lambda answer: answer["seconds"])


def test_each_target_imports_nothing_heavy_and_within_half_a_second(manifest):
    for command in manifest.contributions.commands:
        answer = _imported([command.python_name])
        assert answer["heavy"] == [], command.id
        assert answer["seconds"] < 0.5, command.id
