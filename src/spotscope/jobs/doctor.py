"""What works on this computer, what does not, and how to mend it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Literal

from spotscope import __version__
from spotscope.errors import Cancelled, SpotScopeError
from spotscope.files import cache_folder
from spotscope.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

State = Literal["ok", "note", "broken"]

_GB = 1024**3
_LEAST_FREE_GB = 5
_LEAST_MEMORY_GB = 4
_WINDOW_SECONDS = 60
_CACHE_FILES = 200_000
"""Counting more than these would take longer than the rest of the checks."""

# A Qt without a usable display ends its process, so it is asked in one of its own.
_ASK_OPENGL = """
import json
from qtpy import API_NAME, QT_VERSION, QtGui, QtWidgets
application = QtWidgets.QApplication([])
surface = QtGui.QOffscreenSurface()
surface.create()
context = QtGui.QOpenGLContext()
ready = context.create() and context.makeCurrent(surface)
said = {"binding": API_NAME, "qt": QT_VERSION, "platform": application.platformName()}
if ready:
    from vispy.gloo import gl
    said["renderer"] = gl.glGetParameter(gl.GL_RENDERER)
    said["version"] = gl.glGetParameter(gl.GL_VERSION)
    said["texture"] = int(gl.glGetParameter(gl.GL_MAX_TEXTURE_SIZE))
print("SPOTSCOPE " + json.dumps(said), flush=True)
"""
_SOFTWARE_RENDERERS = ("llvmpipe", "softpipe", "swrast", "swiftshader", "gdi generic")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    topic
        What it is, in two or three words.
    state
        `"ok"`; `"note"`: works, with a limit; `"broken"`: SpotScope cannot do its work.
    found
        What was found.
    mend
        One sentence that says how to mend it; empty when there is nothing to mend.
    """

    topic: str
    state: State
    found: str
    mend: str = ""


def doctor(progress: Progress | None = None) -> list[Check]:
    """Look at all that SpotScope stands on.

    Returns
    -------
    The checks, in reading order. The command ends with status 1 when one of them is broken.
    """
    progress = progress or Progress()
    checks: list[Check] = []
    for topic, look in progress.track(list(_LOOKS.items()), "Looking at this computer"):
        try:
            checks += look()
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001 - a part that fails to answer is what is sought
            said = str(error).strip().splitlines() or [type(error).__name__]
            mend = (
                "Do what the sentence says and look again."
                if isinstance(error, SpotScopeError)
                else "Install SpotScope again as you did the first time; that repairs its parts."
            )
            checks.append(Check(topic, "broken", said[0], mend))
    return checks


def _versions() -> Iterator[Check]:
    found = f"SpotScope {__version__}, Python {platform.python_version()}"
    found += f", {platform.system()} {platform.machine()}"
    yield Check("SpotScope", "ok", found)
    shown = ("torch", "torchvision", "napari", "spatialdata", "anndata", "zarr", "numpy")
    wrong = list(_wrong_packages())
    if wrong:
        mend = "Install SpotScope again as you did the first time; that brings them up to date."
        yield Check("Packages", "broken", "; ".join(wrong), mend)
    else:
        versions = (f"{name} {metadata.version(name)}" for name in shown)
        yield Check("Packages", "ok", ", ".join(versions))


def _wrong_packages() -> Iterator[str]:
    """Say which packages that SpotScope needs are absent or too old."""
    from packaging.requirements import Requirement

    for line in metadata.requires("spotscope") or ():
        needed = Requirement(line)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            yield f"{needed.name} is not installed"
            continue
        if not needed.specifier.contains(version, prereleases=True):
            yield f"{needed.name} is {version}, SpotScope needs {needed.specifier}"


def _device() -> Iterator[Check]:
    import torch

    if torch.cuda.is_available():
        graphics = torch.cuda.get_device_properties(0)
        found = f"{graphics.name}, {graphics.total_memory / _GB:.0f} GB (CUDA)"
        yield Check("Device", "ok", found)
    elif torch.backends.mps.is_available():
        yield Check("Device", "ok", "Apple graphics (MPS)")
    else:
        found = f"processor, {torch.get_num_threads()} threads"
        if shutil.which("nvidia-smi"):
            mend = "Update the NVIDIA driver, or install the torch that fits it."
            yield Check("Device", "note", f"{found}; torch cannot use the NVIDIA card", mend)
        else:
            yield Check("Device", "ok", found)


def _memory() -> Iterator[Check]:
    import psutil

    memory = psutil.virtual_memory()
    found = f"{memory.available / _GB:.1f} GB of {memory.total / _GB:.0f} GB free"
    if memory.available < _LEAST_MEMORY_GB * _GB:
        mend = f"Close other programs; training needs about {_LEAST_MEMORY_GB} GB."
        yield Check("Memory", "note", found, mend)
    else:
        yield Check("Memory", "ok", found)


def _window() -> Iterator[Check]:
    env = dict(os.environ, PYTHONWARNINGS="ignore")
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK_OPENGL],
            env=env,
            capture_output=True,
            text=True,
            timeout=_WINDOW_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        mend = "Restart the computer's desktop, or update its graphics driver."
        yield Check("Window", "broken", f"no answer in {_WINDOW_SECONDS} seconds", mend)
        return
    said = [line for line in asked.stdout.splitlines() if line.startswith("SPOTSCOPE ")]
    yield from _window_checks(
        json.loads(said[0].removeprefix("SPOTSCOPE ")) if said else None, asked.stderr, _display()
    )


def _window_checks(said: dict | None, errors: str, display: bool) -> Iterator[Check]:
    """Judge what a Qt of our own said of the window and of OpenGL."""
    if said is None and ("QtBindingsNotFoundError" in errors or "No module named" in errors):
        mend = "Install Qt for the window: 'pip install \"spotscope[pyqt6]\"'."
        yield Check("Window", "note", "no Qt; the command line works without", mend)
    elif said is None and not display:
        mend = "Start it on a computer with a screen, or put 'xvfb-run -a' before the command."
        yield Check("Window", "note", "no display; the command line works without", mend)
    elif said is None:
        reason = next(reversed(errors.strip().splitlines()), "Qt did not start")
        mend = "Install Qt's system libraries: on Debian and Ubuntu 'make setup' names them."
        yield Check("Window", "broken", reason, mend)
    else:
        yield Check("Window", "ok", f"{said['binding']}, Qt {said['qt']} ({said['platform']})")
        yield _opengl_check(said)


def _opengl_check(said: dict) -> Check:
    if "renderer" not in said:
        mend = "Update the graphics driver, or on Linux install libgl1-mesa-dri."
        return Check("OpenGL", "broken", "no OpenGL: no layer can be drawn", mend)
    found = f"{said['version']}, {said['renderer']}, textures to {said['texture']} px"
    if any(name in said["renderer"].lower() for name in _SOFTWARE_RENDERERS):
        mend = "It works; a graphics driver would draw large slides faster."
        return Check("OpenGL", "note", f"{found}; drawn by the processor", mend)
    return Check("OpenGL", "ok", found)


def _display() -> bool:
    if sys.platform != "linux":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _plugin() -> Iterator[Check]:
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution("spotscope")
    commands = len(manifest.contributions.commands or ())
    found = f"napari {metadata.version('napari')} finds the plugin and its {commands} commands"
    yield Check("Plugin", "ok", found)


def _cache() -> Iterator[Check]:
    mend = "Set SPOTSCOPE_CACHE to a folder that you can write, or mend the folder's rights."
    try:
        folder = cache_folder()
        probe = folder / f".doctor-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        where = os.environ.get("SPOTSCOPE_CACHE") or "the cache folder"
        yield Check("Cache", "broken", f"{where} cannot be written ({error.strerror})", mend)
        return
    size, whole = _size(folder)
    yield Check("Cache", "ok", f"{folder}, {'' if whole else 'over '}{size / _GB:.2f} GB")
    free = shutil.disk_usage(folder).free / _GB
    if free < _LEAST_FREE_GB:
        mend = f"Make room: less than {_LEAST_FREE_GB} GB are soon full; the cache may be deleted."
        yield Check("Disk", "note", f"{free:.1f} GB free", mend)
    else:
        yield Check("Disk", "ok", f"{free:.0f} GB free")


def _size(folder: Path) -> tuple[int, bool]:
    """Return the bytes below `folder`, and whether all of it was counted."""
    total = counted = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_size
            except OSError:
                continue  # another process removed it
        counted += len(names)
        if counted > _CACHE_FILES:
            return total, False
    return total, True


def _formats() -> Iterator[Check]:
    import openslide

    from spotscope.slide.open import readable_formats

    families = (f"{name} {' '.join(ends)}" for name, ends in readable_formats().items())
    found = "; ".join(families) + f" (OpenSlide {openslide.__library_version__})"
    yield Check("Readable slides", "ok", found)


def _encoders() -> Iterator[Check]:
    from spotscope.encoders.base import encoders

    known = [info for info in encoders() if ":" not in info.spec]  # the others take any file
    ready = ", ".join(info.spec for info in known if info.at_hand)
    without = ", ".join(info.spec for info in known if not info.at_hand)
    if without:
        mend = "'spotscope encoders' says how weights are had; stain needs none."
        yield Check("Encoders", "note", f"ready: {ready}; without weights: {without}", mend)
    else:
        yield Check("Encoders", "ok", ready)


def _methods() -> Iterator[Check]:
    from spotscope.methods.base import methods

    yield Check("Methods", "ok", ", ".join(methods()))


_LOOKS: dict[str, Callable[[], Iterator[Check]]] = {
    "Packages": _versions,
    "Device": _device,
    "Memory": _memory,
    "Window": _window,
    "Plugin": _plugin,
    "Cache": _cache,
    "Readable slides": _formats,
    "Encoders": _encoders,
    "Methods": _methods,
}
