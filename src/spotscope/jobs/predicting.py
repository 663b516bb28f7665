"""Predict a section with a model and keep the prediction in the section's store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spotscope.data.places import Places
from spotscope.data.runs import new_run_id, write_run
from spotscope.data.section import some
from spotscope.errors import SpotScopeError
from spotscope.jobs.opening import as_section
from spotscope.jobs.training import check_writable
from spotscope.progress import Progress

if TYPE_CHECKING:
    import os

    from spotscope.data.section import Section
    from spotscope.methods.base import Method


def predict_section(
    model: Method | str | os.PathLike[str],
    section: Section | str | os.PathLike[str],
    *,
    stride_um: float | None = None,
    on_grid: bool = True,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> str:
    """Predict on the section's spots, if it has any, and on a grid over its tissue.

    Parameters
    ----------
    model
        A trained method, or its folder.
    section
        Open, or a path.
    stride_um
        Of the grid; None takes half the spot pitch.
    on_grid
        False predicts on the spots alone.
    out
        Where to keep a slide that has no store yet; the slide stays where it is.
    progress
        Reports and cancels.

    Returns
    -------
    The id of the run, which `list_runs` and `read_gene` know.

    Raises
    ------
    SpotScopeError
        When the model cannot serve the section, there is no store, or it cannot be written.
    """
    progress = progress or Progress()
    method = as_model(model)
    opened = as_section(section)
    check_genes(method, opened)
    place = with_store(opened, out, progress.part(0.0, 0.02))
    spots = Places.on_spots(place) if place.has_spots else None
    grid = Places.on_grid(place, stride_um) if on_grid or spots is None else None
    total = sum(len(part) for part in (spots, grid) if part is not None)
    share = 0.02 + 0.88 * (len(spots) / total if spots is not None else 0.0)
    predicted_spots = predicted_grid = None
    if spots is not None:
        progress.report(0.02, f"Predicting {len(spots):,} spots of {place.name}")
        predicted_spots = method.predict(spots, progress=progress.part(0.02, share))
    if grid is not None:
        progress.report(share, f"Predicting {len(grid):,} places on {place.name}")
        predicted_grid = method.predict(grid, progress=progress.part(share, 0.9))
    made = predicted_spots or predicted_grid
    assert made is not None
    run_id = new_run_id(place, method.name, str(made.provenance.get("encoder") or ""))
    write_run(place, run_id, predicted_spots, predicted_grid, progress.part(0.9, 1.0))
    return run_id


def as_model(model: Method | str | os.PathLike[str]) -> Method:
    """Return a trained method; a folder is loaded."""
    from spotscope.methods.base import Method, load_method

    return model if isinstance(model, Method) else load_method(Path(model))


def with_store(
    section: Section, out: str | os.PathLike[str] | None, progress: Progress | None = None
) -> Section:
    """Return the section in a store that can be written: its own, or a new one at `out`.

    Raises
    ------
    SpotScopeError
        When there is no store and none was asked for, or it cannot be written.
    """
    if section.store is not None:
        if out is not None:
            raise SpotScopeError(
                f"Section '{section.name}' has a store, '{section.store.name}', and its"
                " predictions go there; leave out --out."
            )
        check_writable(section.store)
        return section
    if out is None:
        raise SpotScopeError(
            f"'{section.name}' is a slide alone and has no store to keep predictions in; say with"
            " --out NAME.zarr where to make one, or import it first."
        )
    from spotscope.data.store import write_section

    return write_section(section, out, link=can_be_linked(section), progress=progress)


def can_be_linked(section: Section) -> bool:
    """Whether the slide can be browsed where it lies; a flat picture is copied into a store."""
    from spotscope.slide.formats import flat

    picture = section.slide.path.suffix.lower() in flat.EXTENSIONS
    return not picture and len(section.slide.levels) > 1


def check_genes(method: Method, section: Section) -> None:
    """Refuse a section that measures none of the model's genes: the names are of another kind.

    Raises
    ------
    SpotScopeError
        When it has spots and shares no gene with the model.
    """
    if section.has_spots and not set(method.genes) & set(section.genes):
        raise SpotScopeError(
            f"Section '{section.name}' measures none of the {len(method.genes):,} genes that the"
            f" model predicts ({some(method.genes)}; the section has {some(section.genes)}); use a"
            " model of the same species whose genes are named alike."
        )
