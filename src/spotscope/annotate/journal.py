"""The annotation journal: one line an edit, on disk before the window answers.

A line is appended and synced for each edit, undo and redo, so that a kill at any moment loses at
most the line that was being written. When the disk refuses, lines wait in memory, the reason is
said, and they are written in order when there is room again.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from spotscope.errors import SpotScopeError
from spotscope.files import written_beside

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT = 1


class Journal:
    """An append-only file of JSON lines with one writer.

    Parameters
    ----------
    path
        The journal; made with the first line.
    header
        Makes what the first line keeps: `barcodes`, the spots in the order that the lines number
        them, and `base`, what there was before the first edit.

    Attributes
    ----------
    read_only
        Another window writes this journal; this one only reads.
    trouble
        One sentence while lines wait for the disk, else None.
    """

    def __init__(self, path: Path, header: Callable[[], dict[str, Any]]) -> None:
        self.path = Path(path)
        self._header = header
        self.trouble: str | None = None
        self._waiting: list[bytes] = []
        self._file: IO[bytes] | None = None
        # A window may save in the background while its user goes on drawing.
        self._writing = threading.RLock()
        # Half a line may be on disk after the disk filled; the next write starts from here.
        self._good_end = 0
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        self.read_only = not self._locked()

    def read(self) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        """Return the first line, None when nothing was ever written, and the whole lines after it.

        A last line cut off by a kill is left out, and overwritten by the next one.

        Raises
        ------
        SpotScopeError
            When the journal is of a newer version or damaged before its last line.
        """
        if not self.path.exists():
            return None, []
        content = self.path.read_bytes()
        self._good_end = content.rfind(b"\n") + 1
        lines = content[: self._good_end].splitlines()
        if not lines:
            return None, []
        try:
            header, *entries = [json.loads(line) for line in lines]
            version = header["spotscope_journal"]
            if version <= FORMAT and not {"barcodes", "base"} <= header.keys():
                raise ValueError("the first line is not whole")
        except (ValueError, KeyError, TypeError) as error:
            raise SpotScopeError(
                f"The annotation journal '{self.path}' is damaged; move it away to start afresh,"
                " and keep it: its lines can be read with a text editor."
            ) from error
        if version > FORMAT:
            raise SpotScopeError(
                f"The annotation journal '{self.path.name}' was written by a newer SpotScope;"
                " update SpotScope to open it."
            )
        return header, entries

    def append(self, entry: dict[str, Any]) -> None:
        """Put one line on disk, or keep it until the disk takes it."""
        if self.read_only:
            raise SpotScopeError(
                "Another window is annotating this section; close it there to write here."
            )
        with self._writing:
            if self._good_end == 0 and not self._waiting:
                self._waiting.append(self._first_line())
            self._waiting.append(_line(entry))
            self.flush()

    def begin_again(self, entries: list[dict[str, Any]]) -> None:
        """Set the journal aside as ``.old`` and start one with the header of now."""
        old = old_name(self.path)
        content = b"".join([self._first_line(), *map(_line, entries)])
        shutil.copy2(self.path, old)
        with written_beside(self.path) as beside:
            beside.write_bytes(content)
        self._good_end = len(content)

    def flush(self) -> bool:
        """Write what waits; return whether everything is on disk."""
        with self._writing:
            return not self._waiting or self._flushed()

    def close(self) -> None:
        """Write what waits and let another window write."""
        self.flush()
        self._closed_file()
        self._lock.release()

    def _flushed(self) -> bool:
        try:
            content = b"".join(self._waiting)
            file = self._opened()
            file.seek(self._good_end)
            file.truncate()
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            self.trouble = (
                f"Your last {len(self._waiting)} edits are kept in memory only, because"
                f" '{self.path.parent}' cannot be written ({error.strerror}); make room and they"
                " are written by themselves."
            )
            # A buffered file may hold half of what failed; a fresh one starts clean.
            self._closed_file()
            return False
        self._good_end += len(content)
        self._waiting.clear()
        self.trouble = None
        return True

    def _first_line(self) -> bytes:
        return _line({"spotscope_journal": FORMAT, **self._header()})

    def _locked(self) -> bool:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        except OSError:  # a folder that cannot be written
            return False
        return True

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self._file = open(self.path, "r+b" if self.path.exists() else "w+b")  # noqa: SIM115
        return self._file

    def _closed_file(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None


def old_name(journal: Path) -> Path:
    """Return a free name to set a journal aside under: ``.old``, ``.old2`` …"""
    old, number = journal.with_name(f"{journal.name}.old"), 1
    while old.exists():
        number += 1
        old = journal.with_name(f"{journal.name}.old{number}")
    return old


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
