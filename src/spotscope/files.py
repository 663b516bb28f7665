"""Writing so that nothing is ever half-made: beside the target, then renamed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Iterator


def cache_folder() -> Path:
    """Return the folder for what can be made again; `SPOTSCOPE_CACHE` overrides it."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("SPOTSCOPE_CACHE")
    folder = Path(chosen) if chosen else user_cache_path("spotscope")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def written_beside(target: Path) -> Iterator[Path]:
    """Give a path beside `target` to write a file or folder to, renamed to `target` at the end.

    When the block fails or is killed, `target` is as it was before; what a kill leaves beside it
    is swept away at the next write.

    Raises
    ------
    SpotScopeError
        When the folder cannot be written or the disk is full.
    """
    target = Path(target)
    with said_plainly(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        put_right(target)
        beside = target.with_name(_part(target))
        try:
            yield beside
            _swap(beside, target)
        except BaseException:
            _remove(beside)
            raise


@contextmanager
def staging_folder(folder: Path, name: str) -> Iterator[Path]:
    """Give an empty folder inside `folder`, for parts that the block itself moves into place.

    It is gone after the block, and what a killed writer left of one is swept away by the next.
    """
    target = Path(folder) / name
    with said_plainly(target):
        put_right(target)
        stage = target.with_name(_part(target))
        stage.mkdir()
        try:
            yield stage
        finally:
            _remove(stage)


@contextmanager
def said_plainly(target: Path) -> Iterator[None]:
    """Turn the system's refusals to write `target` into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SpotScopeError(
                f"The disk is full: '{target.name}' was not written and nothing else was changed;"
                f" make room in '{target.parent}' or choose another place."
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise SpotScopeError(
                f"The folder '{target.parent}' cannot be written; choose another place or ask for"
                " the right to write there."
            ) from error
        raise


def write_json(target: Path, content: Any) -> None:
    """Write `content` as readable JSON, whole or not at all."""
    with written_beside(target) as beside:
        beside.write_text(json.dumps(content, indent=2, ensure_ascii=False, sort_keys=False))


def swap_folder(new: Path, target: Path) -> None:
    """Give two folders each other's name; where the system can, at no moment is one missing."""
    if _exchanged(new, target):
        return
    # A folder cannot be renamed over another one, so the old one steps aside first, under a name
    # by which `put_right` knows it after a kill.
    old = target.with_name(f"{_part(target)}.old")
    target.rename(old)
    new.rename(target)
    old.rename(new)


def _exchanged(one: Path, other: Path) -> bool:
    """Swap two names in one step, as Linux and macOS can on most file systems."""
    import ctypes

    exchange, here = 2, -100  # RENAME_EXCHANGE, AT_FDCWD of Linux; RENAME_SWAP of macOS is 2 too
    paths = os.fsencode(one), os.fsencode(other)
    if sys.platform == "linux":
        call, arguments = "renameat2", (here, paths[0], here, paths[1], exchange)
    elif sys.platform == "darwin":
        call, arguments = "renamex_np", (*paths, exchange)
    else:
        return False
    function = getattr(ctypes.CDLL(None, use_errno=True), call, None)
    return function is not None and function(*arguments) == 0


def _swap(beside: Path, target: Path) -> None:
    if target.is_dir():
        swap_folder(beside, target)
        _remove(beside)
    else:
        beside.replace(target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _part(target: Path) -> str:
    return f".{target.name}.{os.getpid()}-{uuid.uuid4().hex[:6]}.part"


def put_right(target: Path) -> None:
    """Remove what killed writers left beside `target`, and put it back when one took it away."""
    for left in target.parent.glob(f".{target.name}.*.part*"):
        owner = left.name.removeprefix(f".{target.name}.").split("-")[0]
        if owner.isdigit() and not _runs(int(owner)):
            if left.name.endswith(".old") and not target.exists():
                left.rename(target)
            else:
                _remove(left)


def _runs(pid: int) -> bool:
    if os.name == "nt":  # os.kill(pid, 0) would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
