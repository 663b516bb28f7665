"""Finding a gene by its symbol, part of it, or the name that the clinic uses; no Qt."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@cache
def aliases() -> dict[str, str]:
    """Return gene symbols by the names of proteins and antibodies, such as HER2 and CD20."""
    text = files("spotscope.plugin").joinpath("aliases.json").read_text(encoding="utf-8")
    return json.loads(text)


def known_as(gene: str) -> list[str]:
    """Return the other names of a gene, each in one spelling, the usual ones first."""
    return _names_of().get(gene.upper(), [])


@cache
def _names_of() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, symbol in aliases().items():
        names = found.setdefault(symbol, [])
        plain = name.replace("-", "")
        if plain not in (symbol, *names):
            names.append(plain)
    return found


def search_genes(genes: Sequence[str], text: str) -> list[str]:
    """Return the genes that fit what was typed, the best fit first.

    An exact symbol comes first, then the symbol that an exact other name stands for, then symbols
    that begin with the text, symbols of other names that begin with it, and symbols that contain
    it. Case does not matter, so that mouse symbols are found as well.
    """
    wanted = text.strip().upper()
    if not wanted:
        return list(genes)
    exact = aliases().get(wanted)
    begun = {symbol for name, symbol in aliases().items() if name.startswith(wanted)}
    ranked: list[list[str]] = [[], [], [], [], []]
    for gene in genes:
        symbol = gene.upper()
        if symbol == wanted:
            ranked[0].append(gene)
        elif symbol == exact:
            ranked[1].append(gene)
        elif symbol.startswith(wanted):
            ranked[2].append(gene)
        elif symbol in begun:
            ranked[3].append(gene)
        elif wanted in symbol:
            ranked[4].append(gene)
    return [gene for rank in ranked for gene in rank]


def resolve_gene(genes: Sequence[str], text: str) -> str | None:
    """Return the one gene that `text` names, exactly or by another name, or None."""
    wanted = text.strip().upper()
    names = (wanted, aliases().get(wanted))
    return next((gene for name in names for gene in genes if gene.upper() == name), None)
