from __future__ import annotations

import errno
import os
import shutil
import sys

import pytest
from PIL import ImageFile
from zarr.storage import LocalStore

from spotscope.errors import SpotScopeError
from spotscope.slide.open import open_slide


def test_a_cache_folder_without_room_is_said_and_left_empty(slides, tmp_path, monkeypatch, capfd):
    """Each file that zarr writes fails as on a full disk, but for the first few."""
    monkeypatch.setenv("SPOTSCOPE_CACHE", str(tmp_path))
    written: list[str] = []
    put = LocalStore.set

    async def full(self, key, value):
        written.append(key)
        if len(written) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        await put(self, key, value)

    monkeypatch.setattr(LocalStore, "set", full)
    with pytest.raises(SpotScopeError, match="'flat.png'.*no space left.*SPOTSCOPE_CACHE"):
        open_slide(slides["png"])
    assert len(written) > 5
    assert list((tmp_path / "pyramids").iterdir()) == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["jpeg", "png", "untiled tiff", "pyramidal tiff", "svs"])
def test_a_file_cut_short_is_refused_in_one_sentence(kind, keep, slides, tmp_path):
    whole = slides[kind].read_bytes()
    path = tmp_path / slides[kind].name
    path.write_bytes(whole[: min(int(keep * len(whole)), len(whole) - 40)])
    with pytest.raises(SpotScopeError, match=f"'{path.name}'.*(cut short|damaged)") as refused:
        open_slide(path)
    assert "\n" not in str(refused.value)


def test_a_jpeg_cut_short_is_refused_even_if_the_process_allows_it(slides, tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    path = tmp_path / "cut.jpg"
    path.write_bytes(slides["jpeg"].read_bytes()[:-4000])
    with pytest.raises(SpotScopeError, match="cut short"):
        open_slide(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_what_is_no_slide_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(SpotScopeError, match="There is no slide .*check the path"):
        open_slide(tmp_path / "absent.svs")
    with pytest.raises(SpotScopeError, match="neither an OME-Zarr"):
        open_slide(tmp_path)
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    with pytest.raises(SpotScopeError, match=r"reads \.svs, .*\.ndpi.*\.zarr.*\.jpg"):
        open_slide(text)
    (tmp_path / "empty.tif").touch()
    with pytest.raises(SpotScopeError, match="is empty"):
        open_slide(tmp_path / "empty.tif")
    for ending in (".svs", ".mrxs", ".tif", ".jpg", ".png"):
        wrong = tmp_path / f"text{ending}"
        wrong.write_text("no picture at all")
        with pytest.raises(SpotScopeError, match=f"'text{ending}'"):
            open_slide(wrong)
    (tmp_path / "empty.zarr").mkdir()
    (tmp_path / "empty.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    with pytest.raises(SpotScopeError, match="holds no picture"):
        open_slide(tmp_path / "empty.zarr")


def test_the_broken_files_are_refused_politely(shared_data):
    for path in (shared_data / "slides" / "broken").iterdir():
        with pytest.raises(SpotScopeError, match=path.name):
            open_slide(path)


@pytest.mark.skipif(sys.platform == "win32", reason="forbidding reads needs a POSIX file system")
def test_a_file_that_may_not_be_read_is_said_so(slides, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path = tmp_path / "secret.svs"
    shutil.copy(slides["svs"], path)
    path.chmod(0)
    with pytest.raises(SpotScopeError, match="check that you may read it"):
        open_slide(path)
