"""Ask a model that predicts by retrieval which measured spots it used at a place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.data.places import Places
from spotscope.errors import SpotScopeError
from spotscope.jobs.opening import as_section, listed_in
from spotscope.progress import Progress
from spotscope.slide.patches import read_patches

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from spotscope.data.section import Section
    from spotscope.methods.base import Method


@dataclass(frozen=True)
class Neighbour:
    """A reference spot that a prediction was made from.

    Attributes
    ----------
    section, barcode
        Which spot.
    similarity
        Of its embedding to the place's: the cosine, or minus the distance.
    weight
        Its share in the prediction; those of a place sum to one.
    measured
        log1p CP10k of the gene that was asked for; None when it is not known.
    subtype
        None when the spot has none, or its section is not at hand.
    patch
        (px, px, 3) uint8, the spot as the model sees it; None when it was not asked for or its
        section is not at hand.
    centre_px
        Row, col on its slide.
    store
        Of its section; None when that is not at hand.
    """

    section: str
    barcode: str
    similarity: float
    weight: float
    measured: float | None = None
    subtype: str | None = None
    patch: NDArray[np.uint8] | None = None
    centre_px: tuple[float, float] | None = None
    store: Path | None = None


@dataclass(frozen=True)
class Answer:
    """Why a model predicts what it does at a place.

    Attributes
    ----------
    centre_px
        Row, col of the place.
    patch
        (px, px, 3) uint8, the tissue there as the model sees it.
    patch_um
        The side of a patch on the tissue.
    neighbours
        All spots that the prediction averages, nearest first.
    metric
        "cosine" or "euclidean": what the similarities are.
    gene
        That was asked for.
    predicted, spread
        Of that gene: the weighted mean over the neighbours and its standard deviation, log1p
        CP10k; None when the model does not predict it.
    """

    centre_px: tuple[float, float]
    patch: NDArray[np.uint8]
    patch_um: float
    neighbours: list[Neighbour]
    metric: str
    gene: str | None
    predicted: float | None
    spread: float | None


def why_no_neighbours(method: type[Method] | Method) -> str | None:
    """Return why a method has no spots to show, as a sentence, or None when it has."""
    if hasattr(method, "spots_used"):
        return None
    return (
        f"{method.title} works a value out from the picture and looks no measured spots up, so"
        " there are none to show; choose a model that predicts by retrieval, such as BLEEP or"
        " nearest neighbours."
    )


def neighbours_at(
    model: Method | str | os.PathLike[str],
    section: Section,
    centre_px: tuple[float, float],
    gene: str | None = None,
    *,
    sections: Iterable[Section] = (),
    pictures: int = 12,
    picture_px: int = 128,
    progress: Progress | None = None,
) -> Answer:
    """Return the reference spots that a model uses at a place, with their pictures.

    Parameters
    ----------
    model
        Trained, or its folder.
    section
        That the place is on; the model must not have been trained on it.
    centre_px
        Row, col in level-0 pixels.
    gene
        Whose measured values are wanted.
    sections
        Of the reference, as far as they are at hand; see `sections_at_hand`.
    pictures
        How many neighbours get a picture.
    picture_px
        Side of a picture.

    Raises
    ------
    SpotScopeError
        When the place is off the slide, the model looks no spots up, or it was trained on the
        section.
    """
    from spotscope.jobs.predicting import as_model

    progress = progress or Progress()
    method: Any = as_model(model)
    if reason := why_no_neighbours(method):
        raise SpotScopeError(reason)
    rows, cols = section.slide.shape_px
    if not (0 <= centre_px[0] < rows and 0 <= centre_px[1] < cols):
        raise SpotScopeError("This place lies beside the slide; click on the tissue.")
    place = Places(section, np.array([centre_px], np.float64))
    (found,) = method.spots_used(place, progress.part(0.0, 0.6))
    column = method.genes.index(gene) if gene in method.genes else None
    neighbours = [
        Neighbour(
            str(found.sections[k]),
            str(found.barcodes[k]),
            float(found.similarity[k]),
            float(found.weights[k]),
            None if column is None else float(found.measured[k, column]),
        )
        for k in range(len(found.sections))
    ]
    size_um = method.provenance.patch_um
    names = sorted({one.section for one in neighbours})
    for name in progress.part(0.6, 1.0).track(names, "Cutting pictures"):
        known = next((one for one in sections if one.name == name), None)
        if known is not None:
            _fill_in(neighbours, known, gene, size_um, pictures, picture_px)
    return Answer(
        (float(centre_px[0]), float(centre_px[1])),
        read_patches(section.slide, place.centres_px, size_um, picture_px)[0],
        size_um,
        neighbours,
        found.metric,
        gene,
        None if column is None else float(found.expression[column]),
        None if column is None else float(found.spread[column]),
    )


def sections_at_hand(
    names: Collection[str], folders: Iterable[Path], opened: Sequence[Section] = ()
) -> list[Section]:
    """Return the sections of these names that are open, or whose store lies in a folder."""
    found = {one.name: one for one in opened if one.name in names and one.has_spots}
    for folder in folders:
        for one in listed_in(folder):
            if one.name in names and one.name not in found:
                found[one.name] = as_section(one.path)
    return list(found.values())


def _fill_in(
    neighbours: list[Neighbour],
    section: Section,
    gene: str | None,
    size_um: float,
    pictures: int,
    picture_px: int,
) -> None:
    """Tell of the neighbours on a section what its store knows; in place."""
    row_of = {str(barcode): row for row, barcode in enumerate(section.barcodes)}
    own = [
        (k, row_of[one.barcode])
        for k, one in enumerate(neighbours)
        if one.section == section.name and one.barcode in row_of
    ]
    if not own:  # another section of that name
        return
    rows = [row for _, row in own]
    centres, labels = section.centres_px[rows], section.labels
    values = None
    if gene is not None and gene in section.genes and neighbours[own[0][0]].measured is None:
        values = section.expression([gene])[rows, 0]
    wanted = [place for place, (k, _) in enumerate(own) if k < pictures]
    cut = read_patches(section.slide, centres[wanted], size_um, picture_px) if wanted else ()
    patches = dict(zip(wanted, cut, strict=True))
    for place, (k, row) in enumerate(own):
        before = neighbours[k]
        label = None if labels is None or labels.codes[row] < 0 else str(labels[row])
        neighbours[k] = replace(
            before,
            measured=before.measured if values is None else float(values[place]),
            subtype=label,
            patch=patches.get(place),
            centre_px=(float(centres[place, 0]), float(centres[place, 1])),
            store=section.store,
        )
