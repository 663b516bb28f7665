"""The command about this computer."""

from __future__ import annotations

import typer

from spotscope.cli.running import console, progress_shown

_COLOURS = {"ok": "green", "note": "yellow", "broken": "red"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor() -> None:
    """Say what works on this computer, what does not, and how to mend it.

    Ends with status 1 when something is broken.
    """
    from rich.markup import escape
    from rich.table import Table

    from spotscope.jobs.doctor import doctor as look

    with progress_shown("Looking") as progress:
        checks = look(progress)
    table = Table("", "topic", "found", show_lines=False)
    for check in checks:
        mend = f"\n[italic]{escape(check.mend)}[/italic]" if check.mend else ""
        state = f"[{_COLOURS[check.state]}]{check.state}"
        table.add_row(state, check.topic, escape(check.found) + mend)
    console().print(table)
    if any(check.state == "broken" for check in checks):
        raise typer.Exit(1)
