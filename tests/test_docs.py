"""What the documents tell to type exists, and what they link to is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
)
LARGEST_PICTURE = 700_000


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _blocks(page: Path, language: str) -> str:
    text = page.read_text(encoding="utf-8")
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.M))


def _commands(page: Path) -> list[list[str]]:
    """Return each command of the page's shell blocks, split into words, without comments."""
    joined = _blocks(page, "(?:sh|bash|console)").replace("\\\n", " ")
    lines = (line.strip().removeprefix("$ ") for line in joined.splitlines())
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def _options() -> dict[str, set[str]]:
    """Return the options of every command of the command line."""
    import typer.main

    from spotscope.cli import app

    def options(command: Any) -> set[str]:
        own = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        inner = getattr(command, "commands", {}).values()
        return own.union({"--help"}, *map(options, inner))

    group = typer.main.get_command(app)
    return {name: options(command) for name, command in group.commands.items()}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    local = [target.split("#")[0] for target in targets if "://" not in target]
    missing = [target for target in local if target and not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_command_of_a_page_exists_with_its_options(page: Path) -> None:
    known = _options()
    targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), flags=re.M))
    for words in _commands(page):
        if words[0] == "make":
            assert set(words[1:]) <= targets, words
        if words[0] == "spotscope" and len(words) > 1 and not words[1].startswith("-"):
            assert words[1] in known, words
            used = {word.split("=")[0] for word in words[2:] if word.startswith("--")}
            assert used <= known[words[1]], words


def test_the_readme_tells_the_two_commands() -> None:
    told = _commands(ROOT / "README.md")
    assert ["make", "demo"] in told
    assert ["make", "test"] in told


def test_the_script_that_checks_submissions_runs_the_readmes_tests() -> None:
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("a source archive does not hold it")
    assert script.stat().st_mode & 0o111
    assert "make test" in script.read_text().splitlines()


def test_every_page_is_reached_from_the_readme() -> None:
    found, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in found:
            continue
        found.add(page)
        for target in re.findall(r"\]\(([^)\s#]+)", page.read_text(encoding="utf-8")):
            if "://" in target:
                continue
            path = (page.parent / target).resolve()
            pages = sorted(path.glob("*.md")) if path.is_dir() else [path]
            todo += [page for page in pages if page.suffix == ".md" and page.exists()]
    assert [_name(page) for page in PAGES if page not in found] == []


def test_pictures_are_small_enough_to_keep() -> None:
    for picture in (ROOT / "docs" / "images").glob("*"):
        assert picture.stat().st_size < LARGEST_PICTURE, picture.name


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_python_blocks_of_a_page_are_python(page: Path) -> None:
    for block in re.findall(
        r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M
    ):
        if page.name != "architecture.md":  # its contracts are shorter than Python
            compile(block, _name(page), "exec")
