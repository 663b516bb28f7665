"""Open what the user named."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spotscope.data.cohort import Cohort
    from spotscope.data.section import Section


def as_section(section: Section | str | os.PathLike[str]) -> Section:
    """Return an open section; a path is opened."""
    if not isinstance(section, (str, os.PathLike)):
        return section
    from spotscope.data.store import open_section

    path = Path(section)
    if not path.exists():
        raise SpotScopeError(f"There is no '{path}'; check the name.")
    return open_section(path)


def as_cohort(sections: Iterable[Section | str | os.PathLike[str]]) -> Cohort:
    """Return open sections as a cohort."""
    from spotscope.data.cohort import Cohort

    return Cohort(tuple(as_section(section) for section in sections))


@dataclass(frozen=True)
class Listed:
    """What the store of a section with spots says of itself.

    Attributes
    ----------
    path
        The store.
    name, patient, n_spots
        Of the section.
    """

    path: Path
    name: str
    patient: str
    n_spots: int


def listed(path: Path) -> Listed | None:
    """Return what a store says of itself, without opening it; None for a section without spots."""
    from spotscope.data.store import ATTRIBUTE, root_attributes

    try:
        about = root_attributes(path).get(ATTRIBUTE)
    except SpotScopeError:
        return None
    if not about or not about.get("n_spots"):
        return None
    return Listed(path, str(about["name"]), str(about["patient"]), int(about["n_spots"]))


def listed_in(folder: Path) -> list[Listed]:
    """Return the sections with spots whose stores lie in a folder."""
    found = (listed(path) for path in sorted(folder.glob("*.zarr")))
    return [one for one in found if one is not None]
