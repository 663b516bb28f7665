from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely

from spotscope.annotate import saving
from spotscope.annotate.opening import open_annotations
from spotscope.annotate.regions import Region
from spotscope.annotate.saving import save_annotations
from spotscope.annotate.state import IMPORTED
from spotscope.data.section import Section
from spotscope.data.store import open_section, write_section
from spotscope.errors import SpotScopeError

HOLED = shapely.Polygon(
    [(100, 100), (300, 100), (300, 250), (100, 250)],
    [[(150, 130), (200, 130), (200, 200), (150, 200)]],
)
TWO = shapely.MultiPolygon([shapely.box(20, 20, 40, 40), shapely.box(60, 20, 90, 40)])


@pytest.fixture
def section(make_section: Callable[..., Section], tmp_path: Path) -> Section:
    """A section whose spots came with labels."""
    made = make_section("A", "P")
    made.measured().obs["subtype"] = pd.Categorical(["fat", "gland", None] * 10)
    return write_section(made, tmp_path / "A.zarr")


def _again(section: Section) -> Section:
    assert section.store is not None
    return open_section(section.store)


def _files(section: Section, but: tuple[str, ...]) -> dict[str, tuple[bytes, int]]:
    """Return content and time of every file of the store, but some."""
    assert section.store is not None
    return {
        name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in section.store.rglob("*")
        if path.is_file()
        and not (name := path.relative_to(section.store).as_posix()).startswith(but)
    }


def test_what_is_saved_is_there_without_the_journal(section: Section) -> None:
    first = open_annotations(section, "Ada")
    first.assign([0, 1], "tumour")
    first.add_regions([Region(HOLED, "nest"), Region(TWO, "tumour"), Region(TWO, None)])
    first.set_vocabulary(first.vocabulary.changed("nest", colour="#123456", key=9))
    assert first.unsaved == 3
    save_annotations(section, first)
    assert first.unsaved == 0
    first.close()
    first.journal.unlink()  # type: ignore[union-attr]
    second = open_annotations(_again(section), "Ada")
    assert second.annotators == [IMPORTED, "Ada"]
    assert second.vocabulary == first.vocabulary
    for who in second.annotators:
        assert second.labels(who).tolist() == first.labels(who).tolist()
    assert [r.to_json() for r in second.regions] == [r.to_json() for r in first.regions]
    assert second.unsaved == 0
    assert second.next_undo is None


def test_spatialdata_shows_the_regions_over_the_image(section: Section) -> None:
    import spatialdata

    document = open_annotations(section, "Ada")
    document.add_regions([Region(HOLED, "nest"), Region(TWO, "tumour")])
    save_annotations(section, document)
    read = spatialdata.read_zarr(section.store)
    shapes = spatialdata.transform(read["annotations"], to_coordinate_system="global")
    # The corner of pixel (0, 0) is at 0 there, its centre here.
    assert shapes.geometry.iloc[0].equals(shapely.transform(HOLED, lambda xy: xy + 0.5))
    assert shapes.geometry.iloc[1].equals(shapely.transform(TWO, lambda xy: xy + 0.5))
    assert shapes["subtype"].tolist() == ["nest", "tumour"]
    assert shapes["colour"].tolist() == [
        document.vocabulary.get(name).colour  # type: ignore[union-attr]
        for name in ("nest", "tumour")
    ]
    assert shapes["annotator"].tolist() == ["Ada", "Ada"]
    # The spots that it finds in the regions are those that were labelled.
    circles = spatialdata.transform(read["spots"], to_coordinate_system="global")
    within = [shapes.geometry.iloc[0].covers(p) for p in circles.geometry]
    assert (read["table"].obs["annotation_Ada"] == "nest").tolist() == within
    assert any(within)
    picture = spatialdata.get_extent(read["slide"], coordinate_system="global")
    extent = spatialdata.get_extent(read["annotations"], coordinate_system="global")
    assert picture["x"][0] <= extent["x"][0] < extent["x"][1] <= picture["x"][1]
    assert "micrometres" in spatialdata.transformations.get_transformation(
        read["annotations"], get_all=True
    )


def test_training_sees_merged_labels_without_the_class_to_exclude(section: Section) -> None:
    document = open_annotations(section, "Ada")
    document.set_vocabulary(document.vocabulary.with_class("fold", exclude=True))
    document.assign([0], "fold")
    document.assign([2], "tumour")
    save_annotations(section, document)
    for seen in (section, _again(section)):
        assert seen.labels is not None
        assert pd.isna(seen.labels[0])
        assert list(seen.labels[1:3]) == ["gland", "tumour"]
        assert set(seen.labels.categories) == {"fat", "gland", "tumour"}
        assert seen.measured().obs["annotation_Ada"].iloc[0] == "fold"


def test_saving_leaves_everything_else_as_it_was(section: Section) -> None:
    document = open_annotations(section, "Ada")
    own = ("tables/table/obs/", "shapes/annotations/", "zarr.json")
    before = _files(section, own)
    index = (section.store / "tables/table/obs/_index/c/0").read_bytes()  # type: ignore[operator]
    document.assign([0], "tumour")
    document.add_regions([Region(HOLED, "nest")])
    save_annotations(section, document)
    assert _files(section, own) == before
    assert (section.store / "tables/table/obs/_index/c/0").read_bytes() == index  # type: ignore[operator]
    # After everything was taken back and saved, the store holds what the import put there.
    while document.undo():
        pass
    save_annotations(section, document)
    assert not (section.store / "shapes/annotations").exists()  # type: ignore[operator]
    assert list(_again(section).measured().obs) == [
        "region",
        "instance_id",
        "annotation_imported",
        "subtype",
    ]


def test_undo_goes_back_past_a_save_after_a_kill_and_nothing_is_done_twice(
    section: Section,
) -> None:
    first = open_annotations(section, "Ada")
    first.assign([0, 1], "tumour")
    first.add_regions([Region(HOLED, "nest")])
    save_annotations(section, first)
    first.assign([2], "stroma")
    first.undo()
    assert first.unsaved == 0
    first.redo()
    assert first.unsaved == 1
    first.close()
    section = _again(section)
    second = open_annotations(section, "Ada")
    assert second.unsaved == 1
    assert len(second.regions) == 1
    assert second.labels()[:3].tolist() == first.labels()[:3].tolist()
    assert [second.undo() for _ in range(4)] == [True, True, True, False]
    assert second.unsaved == 2
    assert second.regions == []
    assert second.labels().tolist() == [None] * 30
    assert second.merged()[:3].tolist() == ["fat", "gland", None]
    # What is in the store is undone by a save alone.
    assert list(_again(section).labels[:2]) == ["tumour", "tumour"]  # type: ignore[index]
    second.assign([5], "stroma")
    assert second.unsaved == 3
    save_annotations(section, second)
    assert second.unsaved == 0
    assert list(_again(section).labels[:2]) == ["fat", "gland"]  # type: ignore[index]


def test_a_full_disk_leaves_the_store_as_it_was_and_says_so(
    section: Section, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = open_annotations(section, "Ada")
    document.assign([0], "tumour")
    document.add_regions([Region(HOLED, "nest")])
    save_annotations(section, document)
    document.assign([4], "stroma")
    document.add_regions([Region(TWO, "nest")])
    before = _files(section, ())

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    steps = ((shutil, "copyfile"), (saving, "_write_shapes"), (saving, "consolidate"))
    for where, step in steps:
        with monkeypatch.context() as patched:
            patched.setattr(where, step, full)
            with pytest.raises(SpotScopeError, match="The disk is full"):
                save_annotations(section, document)
        assert _files(section, ()) == before, step
        assert document.unsaved == 2
    save_annotations(section, document)
    assert document.unsaved == 0


def _save_until(step: str, store: Path) -> None:
    """Save, and be killed before a step of it."""
    section = open_section(store)
    document = open_annotations(section, "Ada")
    document.assign([4], "stroma")
    document.add_regions([Region(TWO, "stroma")])

    def killed(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    whole = saving.swap_folder
    calls = []

    def second(new: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            killed()
        whole(new, target)

    setattr(saving, *{"between": ("swap_folder", second), "last": ("consolidate", killed)}[step])
    save_annotations(section, document)


@pytest.mark.parametrize("step", ["between", "last"])
def test_a_kill_while_saving_leaves_a_store_that_opens_and_loses_nothing(
    section: Section, step: str
) -> None:
    import spatialdata

    document = open_annotations(section, "Ada")
    document.assign([0], "tumour")
    document.add_regions([Region(HOLED, "nest")])
    save_annotations(section, document)
    document.close()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_save_until, args=(step, section.store))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    read = spatialdata.read_zarr(section.store)
    assert len(read["annotations"]) in (1, 2)
    assert read["table"].obs["annotation_Ada"].iloc[0] == "tumour"
    section = _again(section)
    again = open_annotations(section, "Ada")
    assert again.notes == []
    assert again.labels()[4] == "stroma"
    assert len(again.regions) == 2
    assert again.unsaved == 2
    save_annotations(section, again)
    assert len(spatialdata.read_zarr(section.store)["annotations"]) == 2
    assert not list(section.store.glob(".annotations*"))  # type: ignore[union-attr]


def test_a_store_saved_on_another_computer_is_taken_over_and_undo_brings_ours_back(
    section: Section, tmp_path: Path
) -> None:
    document = open_annotations(section, "Ada")
    document.assign([0], "tumour")
    document.close()
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(section.store, elsewhere / "A.zarr")  # type: ignore[arg-type]
    other = open_section(elsewhere / "A.zarr")
    theirs = open_annotations(other, "Bo")
    theirs.assign([29], "stroma")
    theirs.add_regions([Region(HOLED, "nest")])
    save_annotations(other, theirs)
    shutil.rmtree(section.store)  # type: ignore[arg-type]
    shutil.copytree(elsewhere / "A.zarr", section.store)  # type: ignore[arg-type]
    for said in (1, 0):
        again = open_annotations(_again(section), "Ada")
        assert sum("undo brings back" in note for note in again.notes) == said
        assert again.labels("Bo")[29] == "stroma"
        assert again.labels("Ada")[0] is None
        assert again.unsaved == 0
        again.close()
    again = open_annotations(_again(section), "Ada")
    again.undo()
    assert again.labels("Ada")[0] == "tumour"
    assert again.unsaved == 1


def test_edits_on_a_saved_store_whose_journal_is_lost_are_back_and_counted(
    section: Section,
) -> None:
    document = open_annotations(section, "Ada")
    document.assign([0], "tumour")
    save_annotations(section, document)
    document.close()
    assert document.journal is not None
    document.journal.unlink()
    second = open_annotations(_again(section), "Ada")
    second.assign([1], "tumour")
    second.close()
    third = open_annotations(_again(section), "Ada")
    assert (third.notes, third.unsaved, third.counts()["tumour"]) == ([], 1, 2)


def test_labels_of_a_new_import_come_beside_what_was_annotated(
    section: Section, make_section: Callable[..., Section]
) -> None:
    document = open_annotations(section, "Ada")
    document.assign([0], "tumour")
    save_annotations(section, document)
    document.close()
    assert section.store is not None
    shutil.rmtree(section.store)
    made = make_section("A", "P")
    made.measured().obs["subtype"] = pd.Categorical(["fat", "fat", None] * 10)
    again = open_annotations(write_section(made, section.store), "Ada")
    assert again.labels("Ada")[0] == "tumour"
    assert again.labels(IMPORTED)[:3].tolist() == ["fat", "fat", None]
    assert again.unsaved > 0


def test_a_slide_alone_says_where_its_annotations_are_kept(
    make_section: Callable[..., Section], tmp_path: Path
) -> None:
    section = make_section("S", "P", with_spots=False)
    section.slide.path = tmp_path / "S.png"
    document = open_annotations(section, "Ada")
    with pytest.raises(SpotScopeError, match=r"import it first.*S\.png\.annotations\.jsonl"):
        save_annotations(section, document)


def test_a_slide_in_a_store_without_spots_keeps_its_regions(
    make_section: Callable[..., Section], tmp_path: Path
) -> None:
    section = write_section(make_section("S", "P", with_spots=False), tmp_path / "S.zarr")
    document = open_annotations(section, "Ada")
    document.add_regions([Region(HOLED, "nest")])
    save_annotations(section, document)
    document.close()
    document.journal.unlink()  # type: ignore[union-attr]
    again = open_annotations(_again(section), "Ada")
    assert [r.to_json() for r in again.regions] == [r.to_json() for r in document.regions]


def test_the_second_window_cannot_save(section: Section) -> None:
    first = open_annotations(section, "Ada")
    second = open_annotations(_again(section), "Bo")
    with pytest.raises(SpotScopeError, match="Another window"):
        save_annotations(section, second)
    first.close()


def test_annotators_whose_names_look_alike_keep_columns_of_their_own(section: Section) -> None:
    document = open_annotations(section, "A/B")
    document.assign([0], "tumour")
    document.annotator = "A B"
    document.assign([0], "stroma")
    save_annotations(section, document)
    document.close()
    document.journal.unlink()  # type: ignore[union-attr]
    again = open_annotations(_again(section), "A/B")
    assert (again.labels("A/B")[0], again.labels("A B")[0]) == ("tumour", "stroma")
    assert np.array_equal(again.labels(IMPORTED), document.labels(IMPORTED))
