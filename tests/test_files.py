from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spotscope.errors import SpotScopeError
from spotscope.files import write_json, written_beside


def _left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_json(target, {"x": 1})

    def fail() -> None:
        with written_beside(target) as beside:
            beside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == '{\n  "x": 1\n}'
    assert _left(tmp_path) == {"a.json"}


def test_a_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for name in ("one", "two"):
        with written_beside(target) as beside:
            beside.mkdir()
            (beside / name).touch()
    assert _left(target) == {"two"}
    assert _left(tmp_path) == {"model"}


def test_what_a_killed_writer_left_is_swept_away(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from spotscope.files import written_beside\n"
        "with written_beside(Path(sys.argv[1])) as beside:\n"
        "    beside.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    target = tmp_path / "a.txt"
    subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert not target.exists()
    assert len(_left(tmp_path)) == 1
    with written_beside(target) as beside:
        beside.write_text("whole")
    assert _left(tmp_path) == {"a.txt"}


@pytest.mark.parametrize(
    ("number", "sentence"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "cannot be written")]
)
def test_the_systems_refusals_are_said_in_one_sentence(
    tmp_path: Path, number: int, sentence: str
) -> None:
    def refuse() -> None:
        with written_beside(tmp_path / "a.txt"):
            raise OSError(number, os.strerror(number))

    with pytest.raises(SpotScopeError, match=sentence):
        refuse()
    assert _left(tmp_path) == set()


@pytest.fixture
def small_disk(tmp_path: Path):
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)],
        check=False,
        capture_output=True,
    )
    if not done or done.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=False)


def test_a_full_disk_leaves_the_old_file_and_says_so(small_disk: Path) -> None:
    target = small_disk / "a.bin"
    target.write_bytes(b"old")

    def fill() -> None:
        with written_beside(target) as beside:
            beside.write_bytes(bytes(1_000_000))

    with pytest.raises(SpotScopeError, match="disk is full"):
        fill()
    assert target.read_bytes() == b"old"
    assert _left(small_disk) == {"a.bin"}
