from __future__ import annotations

from spotscope.plugin.gene_search import aliases, known_as, resolve_gene, search_genes

GENES = ["ERBB2", "ERBB3", "GRB7", "MS4A1", "MIR4728ERBB2", "Cd3e"]


def test_an_exact_symbol_comes_before_those_that_begin_with_or_contain_it():
    assert search_genes(GENES, "erbb2") == ["ERBB2", "MIR4728ERBB2"]
    assert search_genes(GENES, "erbb") == ["ERBB2", "ERBB3", "MIR4728ERBB2"]


def test_the_name_of_an_antibody_finds_its_gene_first():
    assert search_genes(GENES, "HER2")[0] == "ERBB2"
    assert search_genes(GENES, "cd20") == ["MS4A1"]
    assert search_genes(GENES, "her") == ["ERBB2", "ERBB3"]


def test_mouse_symbols_are_found_too():
    assert search_genes(GENES, "CD3")[0] == "Cd3e"
    assert resolve_gene(GENES, "cd3") == "Cd3e"


def test_nothing_typed_lists_all_and_nonsense_none():
    assert search_genes(GENES, " ") == GENES
    assert search_genes(GENES, "qqq") == []
    assert resolve_gene(GENES, "qqq") is None


def test_a_gene_tells_its_usual_name_first_and_in_one_spelling():
    assert known_as("ERBB2")[0] == "HER2"
    assert "HER-2" not in known_as("ERBB2")
    assert known_as("NOSUCH") == []


def test_every_alias_is_upper_case_and_stands_for_something_else():
    for name, symbol in aliases().items():
        assert name == name.upper()
        assert symbol == symbol.upper()
        assert name != symbol
