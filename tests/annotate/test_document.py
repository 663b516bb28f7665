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
        assert second.next_redo == "Mark 1 spot as stroma"
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
