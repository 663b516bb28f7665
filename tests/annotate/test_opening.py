from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from spotscope.annotate.opening import open_annotations
from spotscope.annotate.state import IMPORTED
from spotscope.annotate.vocabulary import PALETTE
from spotscope.data.section import Section
from spotscope.data.store import open_section, write_section


@pytest.fixture
def section(tiny_stores: dict[str, Path], tmp_path: Path) -> Section:
    """A section without labels, in a store of its own."""
    shutil.copytree(tiny_stores["A1"], tmp_path / "A1.zarr")
    return open_section(tmp_path / "A1.zarr")


def test_edits_are_back_when_the_section_is_opened_again(section: Section) -> None:
    first = open_annotations(section, "Ada")
    first.assign([0, 3], "tumour")
    first.close()
    assert first.journal == section.store.with_name("A1.annotations.jsonl")  # type: ignore[union-attr]
    assert first.diameter_px == 40.0
    second = open_annotations(open_section(section.store), "Ada")  # type: ignore[arg-type]
    assert second.counts() == {"tumour": 2}
    assert second.unsaved == 1


def test_labels_of_an_import_belong_to_nobody_and_get_safe_colours(
    make_section: Callable[..., Section], tmp_path: Path
) -> None:
    made = make_section("L", "P")
    made.measured().obs["subtype"] = pd.Categorical(["fat", "gland", None] * 10)
    document = open_annotations(write_section(made, tmp_path / "L.zarr"), "Ada")
    assert document.annotators == [IMPORTED, "Ada"]
    assert document.labels(IMPORTED)[:3].tolist() == ["fat", "gland", None]
    assert document.merged()[:3].tolist() == ["fat", "gland", None]
    assert [c.colour for c in document.vocabulary.classes] == list(PALETTE[:2])
    assert document.unsaved == 0


def test_erasing_takes_an_imported_label_too(
    make_section: Callable[..., Section], tmp_path: Path
) -> None:
    made = make_section("L", "P")
    made.measured().obs["subtype"] = pd.Categorical(["fat"] * 30)
    document = open_annotations(write_section(made, tmp_path / "L.zarr"), "Ada")
    document.assign([0], None)
    assert document.merged()[:2].tolist() == [None, "fat"]
    document.undo()
    assert document.merged()[0] == "fat"


def test_a_slide_alone_takes_regions_and_keeps_its_journal_beside_it(
    make_section: Callable[..., Section], tmp_path: Path
) -> None:
    import shapely

    from spotscope.annotate.regions import Region

    section = make_section("S", "P", with_spots=False)
    section.slide.path = tmp_path / "S.png"
    first = open_annotations(section, "Ada")
    first.add_regions([Region(shapely.box(10, 10, 50, 50), "tumour")])
    first.close()
    assert (tmp_path / "S.png.annotations.jsonl").exists()
    second = open_annotations(section, "Ada")
    assert [r.subtype for r in second.regions] == ["tumour"]
    assert second.merged().tolist() == []


def test_a_folder_that_cannot_be_written_sends_the_journal_to_the_users_folder_and_says_so(
    section: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: home / name)

    def refused(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "TemporaryFile", refused)
        first = open_annotations(section, "Ada")
    first.assign([0], "tumour")
    first.close()
    assert first.journal is not None
    assert home in first.journal.parents
    assert str(first.journal) in first.notes[0]
    # When the folder can be written later, what is kept away from it is not forgotten.
    assert open_annotations(section, "Ada").counts() == {"tumour": 1}


def test_a_second_window_is_read_only_and_says_so(section: Section) -> None:
    first = open_annotations(section, "Ada")
    first.assign([0], "tumour")
    second = open_annotations(section, "Bo")
    assert second.read_only
    assert "Another window" in second.notes[0]
    assert second.labels("Ada")[0] == "tumour"
