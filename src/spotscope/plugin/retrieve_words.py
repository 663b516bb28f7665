"""What Retrieve says of a place and of the spots that a prediction there was made from."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from spotscope.plugin.widgets import two_decimals

if TYPE_CHECKING:
    from spotscope.jobs.retrieving import Answer, Neighbour
    from spotscope.plugin.opened import OpenSection

PICTURES = 12
"""Neighbours that are shown."""


def said_here(section: OpenSection, answer: Answer) -> str:
    """Say what the model makes of the place, and what was measured there."""
    gene = answer.gene
    lines = [f"<b>This place</b> on {section.name}, {answer.patch_um:.0f} µm wide"]
    if gene is None:
        lines.append("Choose a gene in Genes to see its values.")
    elif answer.predicted is None or answer.spread is None:
        lines.append(f"The model does not predict {gene}.")
    else:
        spread = two_decimals(answer.spread)
        lines.append(f"{gene} predicted {two_decimals(answer.predicted)} (± {spread})")
    spot = section.spot_at(answer.centre_px)
    if spot is not None and gene is not None and section.measures(gene):
        lines.append(f"Measured here {two_decimals(float(section.measured(gene)[spot]))}")
    if spot is not None and section.subtypes is not None:
        names, codes = section.subtypes
        if codes[spot] >= 0:
            lines.append(names[codes[spot]])
    return "<br>".join(lines)


def said_of(one: Neighbour, answer: Answer) -> str:
    """Say what is known of a neighbour."""
    alike = f"similarity {two_decimals(one.similarity)}"
    if answer.metric == "euclidean":
        alike = f"distance {two_decimals(-one.similarity)}"
    lines = [f"{one.section} · {one.barcode}", one.subtype or "", alike]
    if one.measured is not None:
        lines.append(f"{answer.gene} measured {two_decimals(one.measured)}")
    return "\n".join(filter(None, lines))


def said_used(answer: Answer) -> str:
    """Say of what the prediction was made, in sum."""
    used = answer.neighbours
    sections = Counter(one.section for one in used)
    said = f"Made from the {len(used)} measured spots that look most alike to the model: "
    said += ", ".join(f"{count} on {name}" for name, count in sections.most_common(4))
    subtypes = Counter(one.subtype for one in used if one.subtype)
    if subtypes:
        said += "; " + ", ".join(f"{count} {name}" for name, count in subtypes.most_common(3))
    few = f" The nearest {PICTURES}:" if len(used) > PICTURES else " The nearest first:"
    return f"{said}.{few}"
