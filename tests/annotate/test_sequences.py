"""Random edits, undo, redo, saves, full disks and kills against a model that keeps whole states.

`benchmarks/annotation_sequences.py` runs many more of them.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from spotscope.annotate.document import AnnotationDocument
from spotscope.annotate.journal import Journal
from spotscope.annotate.opening import open_annotations
from spotscope.annotate.regions import Region
from spotscope.annotate.saving import save_annotations
from spotscope.annotate.state import IMPORTED
from spotscope.data.section import Section
from spotscope.data.store import open_section

BARCODES = [f"{c}x{r}" for r in range(6) for c in range(7)]
CENTRES = np.array([[100.0 * r, 10.0 * c] for r in range(6) for c in range(7)])
SPOTS = st.lists(st.integers(0, 29), min_size=1, max_size=6)
CLASSES = st.sampled_from(["a", "b", "c", None])


class Annotating(RuleBasedStateMachine):
    """Annotations in a journal, beside a store that is as simple as can be."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.full = False
        self.patched = patch.object(Journal, "_opened", self._opening(Journal._opened))
        self.patched.start()
        self.set_up()
        self.document = self.open("Ada")
        self.history = [self.state()]
        self.at = 0
        self.saved = self.state()
        self.remember()

    # -- the store, which another machine has for real

    def set_up(self) -> None:
        self.stored: dict[str, Any] = {"labels": {IMPORTED: ["a", "b", None] * 14}}

    def open(self, annotator: str) -> AnnotationDocument:
        return AnnotationDocument(
            BARCODES, CENTRES, self.folder / "journal.jsonl", annotator, **self.stored
        )

    def put(self) -> None:
        key = f"{len(self.history)}-{np.random.default_rng().integers(1 << 60)}"
        state = self.document.begin_saving(key)
        self.stored = {
            "labels": {who: own.tolist() for who, own in state.labels.items()},
            "vocabulary": state.vocabulary,
            "regions": state.drawn,
            "saved": key,
        }
        self.document.end_saving(key)

    def put_and_die(self) -> None:
        """Be killed when the store has the save and the window does not know."""
        with patch.object(self.document, "end_saving"):
            self.put()

    # -- the model

    def state(self) -> Any:
        return (
            {who: self.document.labels(who).tolist() for who in ("Ada", "Bo", IMPORTED)},
            [(r.id, r.subtype, shapely.to_wkt(r.geometry)) for r in self.document.regions],
            self.document.vocabulary,
        )

    def made(self, done: int) -> None:
        if len(self.document._history.done) > done:
            self.history = [*self.history[: self.at + 1], self.state()]
            self.at += 1
        self.check()

    def check(self) -> None:
        assert self.state() == self.history[self.at]
        if self.document.unsaved == 0:
            assert self.state() == self.saved
        if self.document.flush():
            self.remember()
        assert (self.document.trouble is not None) == (not self.document.flush())

    def remember(self) -> None:
        self.on_disk = (self.history, self.at)

    def _opening(self, whole: Any) -> Any:
        def opened(journal: Journal) -> Any:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return whole(journal)

        return opened

    # -- what a user does

    @rule(spots=SPOTS, subtype=CLASSES)
    def assign(self, spots: list[int], subtype: str | None) -> None:
        done = len(self.document._history.done)
        self.document.assign(spots, subtype)
        assert all(self.document.labels()[s] == subtype for s in spots)
        self.made(done)

    @rule(pieces=st.lists(SPOTS, min_size=1, max_size=3), subtype=CLASSES, name=st.uuids())
    def stroke(self, pieces: list[list[int]], subtype: str | None, name: Any) -> None:
        done = len(self.document._history.done)
        for piece in pieces:
            self.document.assign(piece, subtype, group=str(name))
        self.made(done)

    @rule(x=st.integers(0, 300), y=st.integers(0, 400), subtype=CLASSES)
    def draw(self, x: int, y: int, subtype: str | None) -> None:
        done = len(self.document._history.done)
        self.document.add_regions([Region(shapely.box(x, y, x + 150, y + 120), subtype)])
        self.made(done)

    @rule(x=st.integers(0, 300), y=st.integers(0, 400), spots=SPOTS)
    def erase(self, x: int, y: int, spots: list[int]) -> None:
        done = len(self.document._history.done)
        self.document.erase(spots, shapely.box(x, y, x + 90, y + 90))
        self.made(done)

    @rule(which=st.integers(0, 3), unlabel=st.booleans())
    def remove(self, which: int, unlabel: bool) -> None:
        done = len(self.document._history.done)
        ids = [r.id for r in self.document.regions[which : which + 2]]
        self.document.remove_regions(ids, unlabel=unlabel)
        self.made(done)

    @rule(spots=SPOTS, subtype=CLASSES, who=st.sampled_from(["Ada", "Bo"]))
    def import_labels(self, spots: list[int], subtype: str | None, who: str) -> None:
        done = len(self.document._history.done)
        labels = {self.document.barcodes[spot]: subtype for spot in spots}
        self.document.import_labels(labels, annotator=who, title="Import")
        self.made(done)

    @rule(old=st.sampled_from("abc"), new=st.sampled_from("xyz"))
    def rename(self, old: str, new: str) -> None:
        known = self.document.vocabulary.names
        if old in known and new not in known:
            done = len(self.document._history.done)
            self.document.rename_class(old, new)
            self.made(done)

    @rule(name=st.sampled_from("abc"))
    def drop_class(self, name: str) -> None:
        done = len(self.document._history.done)
        self.document.set_vocabulary(self.document.vocabulary.without(name))
        self.made(done)

    @rule(who=st.sampled_from(["Ada", "Bo"]))
    def change_hands(self, who: str) -> None:
        self.document.annotator = who

    @rule()
    def undo(self) -> None:
        moved = self.document.undo()
        assert moved == (self.at > 0)
        self.at -= moved
        self.check()

    @rule()
    def redo(self) -> None:
        moved = self.document.redo()
        assert moved == (self.at < len(self.history) - 1)
        self.at += moved
        self.check()

    @precondition(lambda self: not self.full)
    @rule()
    def save(self) -> None:
        self.put()
        assert self.document.unsaved == 0
        self.saved = self.state()
        self.check()

    @rule(full=st.booleans())
    def fill_or_free_the_disk(self, full: bool) -> None:
        self.full = full

    @rule(torn=st.binary(max_size=12))
    def kill(self, torn: bytes) -> None:
        self.die(torn)
        self.history, self.at = self.on_disk
        self.check()

    @precondition(lambda self: not self.full)
    @rule()
    def kill_while_saving(self) -> None:
        self.put_and_die()
        self.saved = self.state()
        self.die(b"")
        assert self.document.unsaved == 0
        self.check()

    @precondition(lambda self: not self.full and self.document.unsaved == 0)
    @rule()
    def lose_the_journal(self) -> None:
        """Have everything saved, and open the store without what led there."""
        assert self.document.journal is not None
        self.put()
        self.document.close()
        self.document.journal.unlink()
        before = self.state()
        self.document = self.open(self.document.annotator)
        assert self.document.journal is not None
        self.history, self.at = [self.state()], 0
        assert self.state() == before
        self.saved = before
        self.check()

    def die(self, torn: bytes) -> None:
        # A killed process frees its lock and may leave part of a line behind.
        journal, annotator = self.document._journal, self.document.annotator
        assert journal is not None
        journal._closed_file()
        journal._lock.release()
        if journal.path.exists():
            with journal.path.open("ab") as file:
                file.write(torn.replace(b"\n", b""))
        self.full = False
        self.document = self.open(annotator)
        assert self.document.notes == []

    def teardown(self) -> None:
        if hasattr(self, "document"):
            self.full = False
            self.document.close()
        if hasattr(self, "patched"):
            self.patched.stop()
            shutil.rmtree(self.folder, ignore_errors=True)


class AnnotatingStore(Annotating):
    """The same in a real store, saved and opened as the window does it."""

    template: ClassVar[Path]

    def set_up(self) -> None:
        self.store = self.folder / "A1.zarr"
        shutil.copytree(self.template, self.store)
        self.section: Section = open_section(self.store)

    def open(self, annotator: str) -> AnnotationDocument:
        self.section = open_section(self.store)
        return open_annotations(self.section, annotator)

    def put(self) -> None:
        save_annotations(self.section, self.document)


def _settings(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


Annotating.TestCase.settings = _settings(40, 30)
TestRandomEditing = Annotating.TestCase


@pytest.mark.filterwarnings("ignore")
def test_random_editing_in_a_real_store_loses_nothing(tiny_stores: dict[str, Path]) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    AnnotatingStore.template = tiny_stores["A1"]
    run_state_machine_as_test(AnnotatingStore, settings=_settings(5, 20))
