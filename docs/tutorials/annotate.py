"""Drives a real window as a pathologist would, and takes the pictures of annotate.md.

    python docs/tutorials/annotate.py --out docs/images

Mouse and keys go through Qt, as a hand's do. The first window is killed while its edits are not
yet saved into the section; a second one opens the section again. What was there at each step is
written to facts.json in the work folder, which the tests read. Needs a display, or a virtual one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SIZE = (1366, 820)
ANNOTATOR = "Dr. Reed"
CLASSES = ("invasive cancer", "connective tissue", "adipose tissue", "immune infiltrate")
SECTION = "P1A.zarr"


class Hand:
    """A mouse and a keyboard over the canvas of a viewer; places are (row, col) in µm."""

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._canvas = viewer.window._qt_viewer.canvas.native

    def drag(self, places_um: Sequence[Any], erase: bool = False) -> None:
        """Press at the first place, go through the others, let go at the last."""
        from qtpy.QtCore import QEvent, Qt

        none, left = Qt.MouseButton.NoButton, Qt.MouseButton.LeftButton
        keys = Qt.KeyboardModifier.ShiftModifier if erase else Qt.KeyboardModifier.NoModifier
        path = self._fine([self._on_screen(place) for place in places_um])
        self._send(QEvent.Type.MouseMove, path[0], none, none, keys)
        self._send(QEvent.Type.MouseButtonPress, path[0], left, left, keys)
        for point in path[1:]:
            self._send(QEvent.Type.MouseMove, point, none, left, keys)
        self._send(QEvent.Type.MouseButtonRelease, path[-1], left, none, keys)

    def press(self, key: str, control: bool = False) -> None:
        """Press a key over the slide."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        held = Qt.KeyboardModifier.ControlModifier if control else Qt.KeyboardModifier.NoModifier
        QTest.keyClick(self._canvas, getattr(Qt.Key, f"Key_{key}"), held)
        QTest.qWait(100)

    def _on_screen(self, place_um: Any) -> np.ndarray:
        camera = self._viewer.scene.camera
        middle = np.array([self._canvas.height(), self._canvas.width()]) / 2
        return (np.asarray(place_um) - np.array(camera.center[-2:])) * camera.zoom + middle

    @staticmethod
    def _fine(path: list[np.ndarray]) -> list[np.ndarray]:
        """Go in steps of some pixels, as a mouse does."""
        found = [path[0]]
        for start, end in zip(path, path[1:], strict=False):
            steps = max(2, int(np.abs(end - start).max() / 10))
            found += [start + (end - start) * t for t in np.linspace(0, 1, steps + 1)[1:]]
        return found

    def _send(self, kind: Any, place: np.ndarray, button: Any, buttons: Any, keys: Any) -> None:
        from qtpy.QtCore import QPointF
        from qtpy.QtGui import QMouseEvent
        from qtpy.QtTest import QTest
        from qtpy.QtWidgets import QApplication

        point = QPointF(float(round(place[1])), float(round(place[0])))
        event = QMouseEvent(kind, point, self._canvas.mapToGlobal(point), button, buttons, keys)
        QApplication.sendEvent(self._canvas, event)
        QTest.qWait(8)


class Session:
    """One window with the section of the tutorial open, its pictures and its facts."""

    def __init__(self, work: Path, out: Path) -> None:
        import napari
        from qtpy.QtTest import QTest

        from spotscope.plugin import docks
        from spotscope.plugin.drawing import workspace_of
        from spotscope.plugin.script import open_section

        self.work, self.out = work, out
        self.viewer = napari.Viewer(title="SpotScope")
        self.viewer.window.resize(*SIZE)
        docks.open_dock(self.viewer, "Workspace")
        QTest.qWait(300)
        open_section(self.viewer, work / SECTION)
        self.workspace = workspace_of(self.viewer)
        self.annotate = docks.open_dock(self.viewer, "Annotate")
        self.hand = Hand(self.viewer)
        self.wait(lambda: self.workspace.annotating.is_open)

    def dock(self, name: str) -> Any:
        """Bring a dock to the front."""
        from spotscope.plugin import docks

        return docks.open_dock(self.viewer, name)

    def click(self, button: Any) -> None:
        """Click on a button."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        assert button.isEnabled(), button.toolTip()
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        QTest.qWait(100)

    def wait(self, until: Callable[[], bool], seconds: float = 180.0) -> None:
        """Let the window work until something is so."""
        from qtpy.QtTest import QTest

        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, "the window did not get there in time"
            QTest.qWait(50)

    def picture(self, name: str) -> None:
        """Take a picture, small enough for a page."""
        from PIL import Image

        from spotscope.plugin import capture_window

        path = capture_window(self.viewer, self.work / "window.png", SIZE)
        with Image.open(path) as taken:
            taken.save(self.out / f"annotate-{name}.jpg", quality=88, subsampling=0)

    def note(self, name: str, **more: Any) -> None:
        """Write down what is labelled now."""
        path = self.work / "facts.json"
        facts = json.loads(path.read_text()) if path.exists() else {}
        labels = [one for one in self.workspace.annotations.merged() if one is not None]
        facts[name] = {"spots": dict(Counter(labels)), **more}
        path.write_text(json.dumps(facts, indent=1))


def tissue(study: Path, subtype: str) -> np.ndarray:
    """Return a line (n, 2) in µm around the largest field of a subtype, as an eye sees it."""
    import shapely

    from spotscope.data.store import open_section

    section = open_section(study / SECTION)
    assert section.labels is not None
    assert section.mpp_um is not None
    own = np.asarray(section.labels == subtype)
    spots = shapely.points(section.centres_px[own] * section.mpp_um)
    fields = shapely.get_parts(shapely.union_all(shapely.buffer(spots, 60)))
    largest = fields[np.argmax(shapely.area(fields))]
    line = shapely.simplify(shapely.buffer(largest, -25), 8).exterior
    return np.asarray(line.coords)


def prepare(work: Path) -> None:
    """Make a section whose subtypes are known, and the same without labels, to annotate."""
    from spotscope.data.simulate import StudySettings
    from spotscope.data.store import open_section, write_section
    from spotscope.jobs.study import make_study

    small = StudySettings(shape_px=(1600, 2000))
    make_study(work / "study", n_patients=1, sections_per_patient=1, settings=small)
    section = open_section(work / "study" / SECTION)
    assert section.spots is not None
    del section.spots.obs["subtype"]
    write_section(section, work / SECTION)


def first(session: Session) -> None:
    """Annotate, learn, review, correct; then the window is killed."""
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    session.picture("open")
    study, hand, dock = session.work / "study", session.hand, session.annotate
    session.workspace.annotating.name_annotator(ANNOTATOR)
    for name in CLASSES:
        QTest.keyClicks(dock.new, name)
        QTest.keyClick(dock.new, Qt.Key.Key_Return)

    session.click(dock.tools.buttons["lasso"])
    hand.press("1")
    hand.drag(tissue(study, "invasive cancer"))
    session.note("lasso")
    session.picture("lasso")

    hand.press("2")
    hand.drag(tissue(study, "adipose tissue"))  # the wrong class
    session.note("wrong")
    hand.press("Z", control=True)
    session.note("undone")
    hand.drag(tissue(study, "connective tissue"))
    session.picture("undo")

    session.click(dock.tools.buttons["brush"])
    for key, name in (("3", "adipose tissue"), ("4", "immune infiltrate")):
        hand.press(key)
        ring = tissue(study, name)
        middle = ring.mean(axis=0)
        hand.drag([middle + (corner - middle) * 0.55 for corner in ring])
    session.note("brush")
    session.picture("brush")

    review = session.dock("Review")
    session.wait(lambda: review.start.isEnabled())
    session.click(review.start)
    session.wait(
        lambda: session.workspace.subtypes.run is not None and not review.learning.running
    )
    session.picture("map")

    session.click(review.tabs.button(2))
    hand.press("N")
    target = session.workspace.review.current
    assert target is not None
    session.picture("review")
    hand.press("A")
    session.note("accepted", told=target.told, spots_there=len(target.spots))
    hand.press("4")
    session.note("corrected")
    session.picture("correct")
    os.kill(os.getpid(), signal.SIGKILL)  # the power goes


def again(session: Session) -> None:
    """Open the section after the kill, and save."""
    session.note("again", state=session.workspace.annotating.state())
    session.picture("again")
    session.click(session.annotate.kept.save)
    session.wait(lambda: session.workspace.annotations.unsaved == 0)
    session.note("saved", state=session.workspace.annotating.state())
    session.viewer.close()


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--work", type=Path, help="folder for the study; a temporary one without")
    parser.add_argument("--stage", choices=("first", "again"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        {"first": first, "again": again}[args.stage](Session(args.work, args.out))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = args.work or Path(folder)
        prepare(work)
        args.out.mkdir(parents=True, exist_ok=True)
        # Nobody's own settings, models or recent files.
        own = {name: str(work / "own") for name in ("SPOTSCOPE_DATA", "SPOTSCOPE_CACHE")}
        for stage, ends_with in (("first", -signal.SIGKILL), ("again", 0)):
            command = [sys.executable, __file__, "--out", str(args.out), "--work", str(work)]
            ended = subprocess.run([*command, "--stage", stage], env=os.environ | own, check=False)
            if ended.returncode != ends_with:
                sys.exit(f"The window '{stage}' ended with {ended.returncode}.")


if __name__ == "__main__":
    main()
