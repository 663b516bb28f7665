from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule

from spotscope.annotate.document import AnnotationDocument
from spotscope.annotate.regions import Region
from spotscope.errors import SpotScopeError

BARCODES = [f"{c}x{r}" for r in range(6) for c in range(7)]
CENTRES = np.array([[100.0 * r, 10.0 * c] for r in range(6) for c in range(7)])


def _open(folder: Path, annotator: str = "A", **given: object) -> AnnotationDocument:
    return AnnotationDocument(BARCODES, CENTRES, folder / "journal.jsonl", annotator, **given)  # type: ignore[arg-type]


def _same(first: AnnotationDocument, second: AnnotationDocument) -> None:
    assert first.annotators == second.annotators
    for who in first.annotators:
        assert first.labels(who).tolist() == second.labels(who).tolist()
    assert first.vocabulary == second.vocabulary
    assert [r.to_json() for r in first.regions] == [r.to_json() for r in second.regions]
    assert (first.next_undo, first.next_redo) == (second.next_undo, second.next_redo)


def test_reopening_gives_every_edit_and_the_undo_history_back(tmp_path: Path) -> None:
    first = _open(tmp_path)
    first.assign([0, 1, 2], "invasive")
    first.assign([2], "adipose")
    first.assign([0], None)
    first.undo()
    first.close()
    second = _open(tmp_path)
    _same(first, second)
    assert second.labels()[:3].tolist() == ["invasive", "invasive", "adipose"]
    assert second.redo()
    assert second.labels()[0] is None


def test_pieces_of_one_brush_stroke_are_undone_together(tmp_path: Path) -> None:
    document = _open(tmp_path)
    document.assign([5], "stroma")
    for piece in ([0, 1], [2], [3, 4]):
        document.assign(piece, "tumour", group="stroke-1")
    document.undo()
    assert document.counts() == {"stroma": 1}
    document.redo()
    assert document.counts() == {"stroma": 1, "tumour": 5}


def test_an_import_is_one_step_and_undo_keeps_what_was_there(tmp_path: Path) -> None:
    document = _open(tmp_path)
    document.assign([3], "stroma")
    left = document.import_labels(
        {"0x0": "tumour", "3x0": "fat", "nowhere": "fat"}, annotator="A", title="Import"
    )
    assert left == 1
    document.undo()
    assert document.counts()["stroma"] == 1
    assert document.labels()[0] is None


def test_labels_of_no_known_barcode_are_refused(tmp_path: Path) -> None:
    document = _open(tmp_path)
    with pytest.raises(SpotScopeError, match="None of the 1 barcodes"):
        document.import_labels({"AAAC-1": "tumour"}, annotator="A", title="Import")


def test_a_line_cut_off_by_a_kill_is_left_out_and_overwritten(tmp_path: Path) -> None:
    first = _open(tmp_path)
    first.assign([0], "tumour")
    first.assign([1], "tumour")
    first.close()
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-5])
    second = _open(tmp_path)
    assert second.labels()[:2].tolist() == ["tumour", None]
    second.assign([2], "stroma")
    second.close()
    assert _open(tmp_path).labels()[:3].tolist() == ["tumour", None, "stroma"]


def test_a_second_window_opens_read_only_and_says_so(tmp_path: Path) -> None:
    first = _open(tmp_path)
    first.assign([0], "tumour")
    second = _open(tmp_path)
    assert second.read_only
    assert second.labels()[0] == "tumour"
    with pytest.raises(SpotScopeError, match="Another window"):
        second.assign([1], "tumour")
    assert not second.undo()
    first.close()
    assert not _open(tmp_path).read_only


def _annotate_until_killed(folder: Path, told: object) -> None:
    document = _open(folder)
    for number in range(10_000):
        document.assign([number % len(BARCODES)], f"class {number % 5}")
        told.value = number + 1  # type: ignore[attr-defined]


def test_a_killed_window_loses_no_finished_edit(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    told = context.Value("i", 0)
    process = context.Process(target=_annotate_until_killed, args=(tmp_path, told))
    process.start()
    deadline = time.monotonic() + 60
    while told.value < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
    process.join()
    document = _open(tmp_path)
    assert not document.read_only
    undone = 0
    while document.undo():
        undone += 1
    assert undone >= told.value >= 20


def test_edits_wait_in_memory_while_the_disk_is_full_and_are_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = _open(tmp_path)
    document.assign([0], "tumour")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        document.assign([1], "stroma")
        assert document.trouble is not None
        assert "memory only" in document.trouble
        document.assign([2], "fat")
    assert document.labels()[:3].tolist() == ["tumour", "stroma", "fat"]
    assert document.flush()
    assert document.trouble is None
    document.close()
    assert _open(tmp_path).labels()[:3].tolist() == ["tumour", "stroma", "fat"]


def test_labels_follow_their_barcodes_when_the_spots_are_others(tmp_path: Path) -> None:
    first = _open(tmp_path)
    first.assign([0, 5, 41], "tumour")
    first.assign([5], "stroma")
    first.undo()
    first.close()
    kept = list(reversed(range(len(BARCODES) - 1)))
    barcodes = [BARCODES[i] for i in kept]
    for _ in range(2):  # the second opening reads the journal that was begun again
        second = AnnotationDocument(barcodes, CENTRES[kept], tmp_path / "journal.jsonl", "A")
        marked = {b for b, v in zip(barcodes, second.labels(), strict=True) if v == "tumour"}
        assert marked == {"0x0", "5x0"}
        assert second.next_redo == "Mark 1 spots as stroma"
        second.close()
    assert (tmp_path / "journal.jsonl.old").exists()


def test_renaming_a_class_renames_it_for_every_annotator_and_region(tmp_path: Path) -> None:
    document = _open(tmp_path)
    document.add_regions([Region(shapely.box(-5, -50, 15, 150), "tumour")])
    document.import_labels({"6x5": "tumour"}, annotator="B", title="Import")
    document.rename_class("tumour", "invasive")
    assert document.labels("B")[-1] == "invasive"
    assert document.regions[0].subtype == "invasive"
    assert document.counts() == {"invasive": 4}
    document.undo()
    assert document.counts() == {"tumour": 4}


def test_removing_a_class_takes_its_labels_and_undo_brings_them_back(tmp_path: Path) -> None:
    document = _open(tmp_path)
    document.assign([0, 1], "tumour")
    document.set_vocabulary(document.vocabulary.without("tumour"))
    assert document.labels()[0] is None
    document.undo()
    assert document.labels()[:2].tolist() == ["tumour", "tumour"]


def test_the_editors_own_label_wins_and_others_count_where_they_agree(tmp_path: Path) -> None:
    document = _open(
        tmp_path,
        labels={
            "B": ["x", "x", "x", *[None] * 39],
            "C": ["x", "y", None, *[None] * 39],
        },
    )
    document.assign([0], "mine")
    assert document.merged()[:4].tolist() == ["mine", None, "x", None]


class Annotating(RuleBasedStateMachine):
    """Random edits, undo, redo and kills against a model that keeps whole states."""

    edits = Bundle("edits")

    @initialize(folder=st.just(None))
    def begin(self, folder: None) -> None:
        import tempfile

        self.folder = Path(tempfile.mkdtemp())
        self.document = _open(self.folder)
        self.history = [self.state()]
        self.at = 0

    def state(self) -> tuple[list[str | None], list[str]]:
        return self.document.labels().tolist(), [r.id for r in self.document.regions]

    def made(self) -> None:
        if self.state() != self.history[self.at]:
            self.history = [*self.history[: self.at + 1], self.state()]
            self.at += 1

    @rule(
        spots=st.lists(st.integers(0, len(BARCODES) - 1), min_size=1, max_size=6),
        subtype=st.sampled_from(["a", "b", None]),
    )
    def assign(self, spots: list[int], subtype: str | None) -> None:
        self.document.assign(spots, subtype)
        assert all(self.document.labels()[s] == subtype for s in spots)
        self.made()

    @rule(x=st.integers(0, 50), y=st.integers(0, 400))
    def draw(self, x: int, y: int) -> None:
        self.document.add_regions([Region(shapely.box(x, y, x + 15, y + 120), "c")])
        self.made()

    @rule()
    def undo(self) -> None:
        moved = self.document.undo()
        assert moved == (self.at > 0)
        self.at -= moved
        assert self.state() == self.history[self.at]

    @rule()
    def redo(self) -> None:
        moved = self.document.redo()
        assert moved == (self.at < len(self.history) - 1)
        self.at += moved
        assert self.state() == self.history[self.at]

    @rule(torn=st.binary(max_size=12))
    def kill(self, torn: bytes) -> None:
        # A killed process frees its lock and may leave part of a line behind.
        self.document._journal._closed_file()  # type: ignore[union-attr]
        self.document._journal._lock.release()  # type: ignore[union-attr]
        journal = self.folder / "journal.jsonl"
        if journal.exists():
            with journal.open("ab") as file:
                file.write(torn.replace(b"\n", b""))
        self.document = _open(self.folder)
        assert self.state() == self.history[self.at]

    def teardown(self) -> None:
        if hasattr(self, "document"):
            self.document.close()


Annotating.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestRandomEditing = Annotating.TestCase


def test_erasing_cuts_the_outline_and_is_one_step_with_its_spots(tmp_path: Path) -> None:
    document = _open(tmp_path)
    document.add_regions([Region(shapely.box(-5, -5, 35, 5), "tumour")])
    marked = document.labels()
    document.erase([0, 1], shapely.box(-5, -5, 15, 5))
    assert document.regions[0].area_px == pytest.approx(200)
    assert document.counts() == {"tumour": 2}
    document.undo()
    assert document.regions[0].area_px == pytest.approx(400)
    assert (document.labels() == marked).all()
    document.erase([], shapely.box(-10, -10, 50, 10))
    assert document.regions == []
