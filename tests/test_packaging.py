"""napari finds the plugin however SpotScope was installed."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module, metadata
from pathlib import Path

import pytest

import spotscope

ROOT = Path(__file__).resolve().parents[1]

_ASK = """
import json, sys
from importlib import metadata
from npe2 import PluginManifest, PluginManager
manager = PluginManager()
manager.discover()
manifest = manager.get_manifest("spotscope")
import spotscope
print(json.dumps({
    "package": spotscope.__file__,
    "version": metadata.version("spotscope"),
    "widgets": [widget.display_name for widget in manifest.contributions.widgets],
    "samples": [sample.key for sample in manifest.contributions.sample_data],
    "readers": len(manifest.contributions.readers),
}))
"""


def _napari_sees(site: Path | None = None) -> dict:
    """Ask npe2, in a Python whose first folder of packages is `site`."""
    start = f"import sys; sys.path.insert(0, {str(site)!r})\n" if site else ""
    asked = subprocess.run(
        [sys.executable, "-c", start + _ASK], capture_output=True, text=True, check=False
    )
    assert asked.returncode == 0, asked.stderr
    return json.loads(asked.stdout.splitlines()[-1])


def _build(source: Path, out: Path, *kinds: str) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", *kinds, "--outdir", out, source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr


def _unpacked(wheel: Path, site: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def _assert_all_there(seen: dict) -> None:
    assert seen["version"] == spotscope.__version__
    assert {"Open", "Genes", "Predict", "Quality"} <= set(seen["widgets"])
    assert seen["samples"] == ["study"]
    assert seen["readers"] == 1


def test_the_manifest_is_one_real_file_at_the_top_that_the_package_links_to() -> None:
    inside = ROOT / "src" / "spotscope" / "napari.yaml"
    assert not (ROOT / "napari.yaml").is_symlink()
    assert inside.resolve() == ROOT / "napari.yaml"


def test_napari_finds_the_plugin_of_the_installed_distribution() -> None:
    _assert_all_there(_napari_sees())


def test_napari_finds_the_plugin_of_a_wheel(tmp_path: Path) -> None:
    _build(ROOT, tmp_path, "--wheel")
    (wheel,) = tmp_path.glob("*.whl")
    seen = _napari_sees(_unpacked(wheel, tmp_path / "site"))
    assert Path(seen["package"]).is_relative_to(tmp_path)
    _assert_all_there(seen)


def test_napari_finds_the_plugin_of_a_wheel_that_was_built_from_the_source_archive(
    tmp_path: Path,
) -> None:
    _build(ROOT, tmp_path)  # the archive, then the wheel from what the archive holds
    (wheel,) = tmp_path.glob("*.whl")
    seen = _napari_sees(_unpacked(wheel, tmp_path / "site"))
    assert Path(seen["package"]).is_relative_to(tmp_path)
    _assert_all_there(seen)


def test_a_wheel_holds_the_licence_and_nothing_but_the_package(tmp_path: Path) -> None:
    _build(ROOT, tmp_path, "--wheel")
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"spotscope"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert wheel.stat().st_size < 3_000_000


def test_every_manifest_target_exists() -> None:
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution("spotscope")
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(import_module(module), name)), command.python_name


def _metadata() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_version_is_the_same_everywhere() -> None:
    assert _metadata()["project"]["version"] == spotscope.__version__
    assert metadata.version("spotscope") == spotscope.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {spotscope.__version__}\n" in citation
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {spotscope.__version__}" in changes


def test_every_dependency_has_a_lower_bound_and_fits_its_pin() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    said = _metadata()
    lines = said["project"]["dependencies"] + said["dependency-groups"]["dev"]
    for needed in map(Requirement, lines):
        pinned = pins[canonicalize_name(needed.name)]
        assert needed.specifier.contains(pinned), f"{needed} is pinned to {pinned}"
        if needed.name != "napari" or not needed.extras:
            assert any(part.operator == ">=" for part in needed.specifier), str(needed)


def test_the_pinned_versions_name_no_host_and_no_path() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) > 200
    wrong = [pin for pin in pins if "/" in pin or "@" in pin or "+" in pin or "==" not in pin]
    assert wrong == []


@pytest.mark.skipif(sys.platform == "win32", reason="the two commands need make and bash")
@pytest.mark.parametrize("script", ["set-up.sh", "with-display.sh", "pin.sh"])
def test_the_scripts_are_sound_bash(script: str) -> None:
    path = ROOT / "scripts" / script
    assert path.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", path], check=True)
