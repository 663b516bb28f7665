from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from spotscope.annotate.tables import read_labels, write_labels
from spotscope.errors import SpotScopeError


def test_a_loupe_export_goes_in_and_comes_out_the_same(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "annotations" / "loupe" / "8270_10_pathology_annotation.csv"
    table = pd.read_csv(source)
    labels = read_labels(source, table["Barcode"].tolist())
    assert sum(v is None for v in labels.values()) == 12
    write_labels(labels, tmp_path / "out.csv", "pathology_annotation")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out.csv"), table)


def test_barcodes_match_with_and_without_their_suffix(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("Barcode,class\nAAAC-1,tumour\nAAAG-1,\n")
    assert read_labels(file, ["AAAC", "AAAG"]) == {"AAAC": "tumour", "AAAG": None}
    file.write_text("Barcode,class\nAAAC,tumour\n")
    assert read_labels(file, ["AAAC-1"]) == {"AAAC-1": "tumour"}


def test_first_generation_labels_join_on_rounded_grid_positions(shared_data: Path) -> None:
    labels = read_labels(shared_data / "her2st" / "labels" / "B1.tsv", [])
    found = pd.Series([v for v in labels.values() if v]).value_counts()
    # class totals of section B1 as published: invasive, connective, adipose, breast glands
    assert sorted(found.tolist()) == [41, 63, 70, 95]


def test_a_table_that_names_the_sections_spots_is_taken_whatever_its_columns_are_called(
    tmp_path: Path,
) -> None:
    file = tmp_path / "a.tsv"
    file.write_text("spot\tpatch\tlabel\n25x13\t1\ttumour\n24x13\t2\t\n")
    assert read_labels(file, ["25x13", "24x13"]) == {"25x13": "tumour", "24x13": None}
    with pytest.raises(SpotScopeError, match="needs the columns"):
        read_labels(file, ["1x1"])


def test_a_table_without_labels_says_what_it_needs(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("gene,value\nERBB2,3\n")
    with pytest.raises(SpotScopeError, match="needs the columns"):
        read_labels(file, [])
