"""Open what the user named."""

from __future__ import annotations

import os
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
