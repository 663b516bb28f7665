"""Score methods on sections that they have not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from spotscope.evaluate.crossval import evaluate_methods
from spotscope.jobs.opening import as_cohort

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from spotscope.data.panels import PanelSettings
    from spotscope.data.section import Section
    from spotscope.evaluate.crossval import Evaluation
    from spotscope.progress import Progress


def evaluate(
    names: Sequence[str],
    sections: Sequence[Section | str | os.PathLike[str]],
    *,
    split: Literal["patient", "section"] = "patient",
    test: Sequence[Section | str | os.PathLike[str]] = (),
    encoder: str = "auto",
    settings: Mapping[str, dict[str, Any]] | None = None,
    panel: PanelSettings | None = None,
    markers: Sequence[str] = (),
    progress: Progress | None = None,
) -> Evaluation:
    """Open the sections and score the methods; see `evaluate_methods`.

    Raises
    ------
    SpotScopeError
        As `evaluate_methods`, or when a section cannot be opened.
    """
    return evaluate_methods(
        names,
        as_cohort(sections),
        split,
        encoder,
        settings,
        progress,
        test=as_cohort(test) if test else None,
        panel=panel,
        markers=markers,
    )
