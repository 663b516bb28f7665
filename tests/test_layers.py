"""The layers of docs/architecture.md, held against what the source imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "spotscope"
WINDOW = {
    "napari",
    "qtpy",
    "PyQt6",
    "PySide6",
    "PyQt5",
    "superqt",
    "magicgui",
    "vispy",
    "pyqtgraph",
}
TABLES = {"anndata", "scanpy", "spatialdata", "scvi", "squidpy"}
HEAVY = TABLES | {"torch", "torchvision", "timm", "lightning", "sklearn", "skimage", "dask"}
HEAVY |= {"zarr", "tifffile", "openslide"}


@dataclass(frozen=True)
class Import:
    """One import: where it stands, what it takes, and when it runs."""

    file: str
    line: int
    target: str
    when: str  # "start", "call" or "types"

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.target}"


def _imports(path: Path) -> list[Import]:
    found: list[Import] = []
    file = path.relative_to(SOURCE).as_posix()

    def visit(node: ast.AST, when: str) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(file, node.lineno, name.name, when) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute"
            names = [f"{node.module}.{name.name}" for name in node.names]
            found.extend(Import(file, node.lineno, name, when) for name in names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for child in node.body:
                visit(child, "types")
        else:
            within = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                visit(child, "call" if within and when == "start" else when)

    visit(ast.parse(path.read_text(encoding="utf-8")), "start")
    return found


@cache
def all_imports() -> list[Import]:
    return [found for path in sorted(SOURCE.rglob("*.py")) for found in _imports(path)]


def layer_of(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def imported_layer(target: str) -> str | None:
    """Return the layer that `spotscope.x…` names; None for other packages and for our version."""
    parts = target.split(".")
    if parts[0] != "spotscope" or len(parts) < 2 or parts[1].startswith("__"):
        return None
    return parts[1]


@cache
def table() -> dict[str, set[str]]:
    """Return for each layer of the document which layers it may import, itself among them."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \|.*\| (.+?) \|$", text, flags=re.MULTILINE)
    base = {name.strip("`") for name in rows[0][0].split(", ")}
    allowed: dict[str, set[str]] = {name: set(base) for name in base}
    for names, may in rows[1:]:
        layer = names.strip("`/")
        above = set(allowed)
        named = set(re.findall(r"`(\w+)/?`", may.split(";")[0]))
        chosen = above if may.startswith("all") else named
        assert chosen <= above, f"{layer} may import {chosen - above}, which stand below it"
        allowed[layer] = {layer} | base | set().union(*(allowed[name] for name in chosen))
    return allowed


def test_every_part_of_the_source_stands_in_the_table() -> None:
    parts = {layer_of(path.relative_to(SOURCE).as_posix()) for path in SOURCE.rglob("*.py")}
    assert parts - {"__init__", "__main__"} <= set(table())


def test_imports_run_one_way() -> None:
    wrong = [
        str(found)
        for found in all_imports()
        if (layer := layer_of(found.file)) in table()
        and (target := imported_layer(found.target)) is not None
        and target not in table()[layer]
        and not (layer == "cli" and target == "plugin" and found.when == "call")
    ]
    assert wrong == []


def test_the_plugin_is_imported_by_view_and_demo_alone() -> None:
    importers = {
        found.file
        for found in all_imports()
        if imported_layer(found.target) == "plugin" and layer_of(found.file) != "plugin"
    }
    assert len(importers) <= 2
    assert all(layer_of(file) == "cli" for file in importers), importers


def test_nothing_but_the_plugin_imports_napari_or_qt() -> None:
    """The commands that open a window start napari, when they run."""
    wrong = [
        str(found)
        for found in all_imports()
        if found.target.split(".")[0] in WINDOW
        and layer_of(found.file) != "plugin"
        and not (found.file == "cli/windows.py" and found.when == "call")
    ]
    assert wrong == []


@pytest.mark.parametrize("layer", ["slide", "nets", "training"])
def test_what_runs_on_a_bare_machine_imports_no_tables_and_no_window(layer: str) -> None:
    forbidden = TABLES | WINDOW
    wrong = [
        str(found)
        for found in all_imports()
        if layer_of(found.file) == layer
        and found.target.split(".")[0] in forbidden
        and found.when != "types"
    ]
    assert wrong == []


def test_heavy_packages_are_imported_when_they_are_needed() -> None:
    """The networks are torch through and through; what uses them imports them when it runs."""
    wrong = [
        str(found)
        for found in all_imports()
        if found.when == "start"
        and found.target.split(".")[0] in HEAVY
        and layer_of(found.file) not in ("nets", "training")
    ]
    wrong += [
        str(found)
        for found in all_imports()
        if found.when == "start"
        and imported_layer(found.target) in ("nets", "training")
        and layer_of(found.file) not in ("nets", "training")
    ]
    assert wrong == []


_PROBE = """
import sys, time
{before}
start = time.process_time()
import {module}
seconds = time.process_time() - start
heavy = sorted(set({heavy!r}) & (set(sys.modules) - {known}))
print(seconds, *heavy)
"""


def _import(module: str, before: str = "", known: str = "set()") -> tuple[float, list[str]]:
    """Import in a fresh Python; return its processor seconds and the heavy packages it took."""
    code = _PROBE.format(before=before, module=module, heavy=sorted(HEAVY), known=known)
    best, heavy = float("inf"), []
    for _ in range(3):  # the first one may have to read cold files
        said = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout.split()
        best, heavy = min(best, float(said[0])), said[1:]
        if best < 0.5:
            break
    return best, heavy


def test_importing_spotscope_is_light() -> None:
    seconds, heavy = _import("spotscope")
    assert heavy == []
    assert seconds < 0.5


def _manifest_modules() -> list[str]:
    import yaml

    manifest = yaml.safe_load((ROOT / "napari.yaml").read_text(encoding="utf-8"))
    commands = manifest["contributions"]["commands"]
    return sorted({command["python_name"].split(":")[0] for command in commands})


def test_importing_what_the_manifest_names_is_light_in_a_napari_that_runs() -> None:
    modules = _manifest_modules()
    assert modules
    before = (
        "import napari.viewer, napari.layers, magicgui, qtpy.QtWidgets; known = set(sys.modules)"
    )
    for module in modules:
        seconds, heavy = _import(module, before, "known")
        assert heavy == [], module
        assert seconds < 0.5, module
