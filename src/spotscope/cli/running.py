"""Run a command so that it shows how far it is, can be cancelled, and fails in one sentence."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from spotscope.errors import Cancelled, SpotScopeError

if TYPE_CHECKING:
    from rich.console import Console

    from spotscope.progress import Progress, Step

BAD_INPUT, DEFECT, CANCELLED = 2, 1, 130

_LINE_SECONDS = 30
"""Where no bar can be drawn, such as in a log, a line is written about this often."""
_STOPS = (signal.SIGINT, signal.SIGTERM)

# Raised by typer to end a command or to say how it is used; its own `main` deals with them.
_TYPERS_OWN: tuple[type[BaseException], ...] = (
    typer.Exit,
    typer.Abort,
    typer.BadParameter.__mro__[2],
)


class Commands(TyperGroup):
    """The commands; what they raise becomes one sentence and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was typed."""
        try:
            return super().invoke(ctx)
        except _TYPERS_OWN:
            raise
        except SpotScopeError as error:
            complain(str(error))
            raise typer.Exit(BAD_INPUT) from error
        except (Cancelled, KeyboardInterrupt) as stopped:
            complain("Cancelled; what was under way was not written.", "yellow")
            raise typer.Exit(CANCELLED) from stopped
        except BrokenPipeError:
            raise
        except Exception as error:
            if os.environ.get("SPOTSCOPE_DEBUG"):
                raise
            kind = type(error).__name__
            complain(
                f"SpotScope failed where it should not have ({kind}: {error}); please report it,"
                " with what SPOTSCOPE_DEBUG=1 prints before the same command."
            )
            raise typer.Exit(DEFECT) from error


MANY = ("--sections", "--test", "--groups")


class ManyValues(TyperCommand):
    """A command whose options in `MANY` take several values in a row."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat such an option before each of its values, which is how typer takes them."""
        return super().parse_args(ctx, _repeated(args, MANY))


def _repeated(args: list[str], options: tuple[str, ...]) -> list[str]:
    spread: list[str] = []
    current = None
    for arg in args:
        if arg.startswith("-"):
            current = arg if arg in options else None
            if current is None:
                spread.append(arg)
        elif current is not None:
            spread += [current, arg]
        else:
            spread.append(arg)
    if args and args[-1] in options:  # without a value: let typer say so
        spread.append(args[-1])
    return spread


def console() -> Console:
    """Return where results go."""
    from rich.console import Console

    return Console(highlight=False)


def say(sentence: str) -> None:
    """Write what is about to be done."""
    typer.secho(sentence, dim=True)


def complain(sentence: str, colour: str = "red") -> None:
    """Write a sentence to the standard error, unbroken when it goes to a file."""
    typer.secho(sentence, fg=colour, err=True)


def note(sentence: str) -> None:
    """Write what the user should know beside the result."""
    complain(f"Note: {sentence}", "yellow")


@contextmanager
def progress_shown(title: str) -> Iterator[Progress]:
    """Show a bar while the block runs; Ctrl-C cancels at the next step, a second one at once."""
    from spotscope.progress import Progress

    cancel = threading.Event()
    with _cancelled_by_signal(cancel), _listener(title) as listen:
        yield Progress(listen, cancel)


@contextmanager
def _cancelled_by_signal(cancel: threading.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()

    before = {number: signal.signal(number, stop) for number in _STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _listener(title: str) -> Iterator[Any]:
    from rich.console import Console

    errors = Console(stderr=True, highlight=False)
    if not errors.is_terminal:
        yield _Lines(title)
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=errors, transient=True) as bars:
        task = bars.add_task(title, total=1.0, left="")

        def listen(step: Step) -> None:
            bars.update(
                task,
                completed=step.fraction,
                description=step.message or title,
                left=_left(step.seconds_left),
            )

        yield listen


class _Lines:
    """Writes a line now and then, for logs."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._last = time.monotonic()

    def __call__(self, step: Step) -> None:
        now = time.monotonic()
        if now - self._last >= _LINE_SECONDS:
            self._last = now
            said = f"{step.message or self._title}: {step.fraction:.0%} {_left(step.seconds_left)}"
            print(said.rstrip(), file=sys.stderr, flush=True)


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes} min {seconds:02d} s left" if minutes else f"{seconds} s left"
