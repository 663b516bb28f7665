from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from spotscope.data.section import row_col, x_y
from spotscope.data.spots import SpotTable, make_spots
from spotscope.errors import SpotScopeError

SHAPE_PX = (100, 200)


def table(counts=None, **changes) -> SpotTable:
    counts = np.array([[1, 0, 2], [0, 3, 0], [4, 0, 0]]) if counts is None else np.asarray(counts)
    rows = np.arange(len(counts)) * 10.0
    parts = {
        "genes": [f"G{i}" for i in range(counts.shape[1])],
        "barcodes": [f"s{i}" for i in range(counts.shape[0])],
        "centres_px": np.column_stack([rows, np.full(len(counts), 5)]),
    }
    return SpotTable(lambda: csr_matrix(counts), **(parts | changes))


def test_rows_and_columns_are_swapped_into_x_and_y_and_back():
    centres = np.array([[1.5, 2.0], [3.0, 4.25]])
    np.testing.assert_array_equal(x_y(centres), [[2.0, 1.5], [4.25, 3.0]])
    np.testing.assert_array_equal(row_col(x_y(centres)), centres)


def test_spots_keep_counts_names_positions_and_labels():
    spots, notes = make_spots(table(labels=["tumour", None, "fat"]), SHAPE_PX, "t")
    assert notes == []
    np.testing.assert_array_equal(spots.X.toarray(), [[1, 0, 2], [0, 3, 0], [4, 0, 0]])
    assert list(spots.obs_names) == ["s0", "s1", "s2"]
    np.testing.assert_array_equal(spots.obsm["spatial"], [[5, 0], [5, 10], [5, 20]])
    assert list(spots.obs["subtype"].cat.categories) == ["fat", "tumour"]
    assert list(spots.obs["subtype"].isna()) == [False, True, False]


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, "1 counts of 'C2' are missing"), (np.inf, "missing"), (-1, "1 counts.*negative")]
    + [(0.5, "1 counts.*not whole numbers")],
)
def test_counts_that_are_not_raw_are_refused_in_one_sentence(value, words):
    with pytest.raises(SpotScopeError, match=words):
        make_spots(table([[1.0, value], [2.0, 3.0]]), SHAPE_PX, "C2")


def test_features_of_one_gene_name_are_summed_with_a_note():
    spots, notes = make_spots(table(genes=["A", "B", "A"]), SHAPE_PX, "t")
    assert list(spots.var_names) == ["A", "B"]
    np.testing.assert_array_equal(spots.X.toarray(), [[3, 0], [0, 3], [4, 0]])
    assert notes == ["1 gene names come more than once (A); their counts were summed."]


def test_a_few_spots_outside_the_image_are_left_out_and_many_are_refused():
    centres = np.column_stack([np.linspace(0, 99, 40), np.full(40, 199.4)])
    counts = np.ones((40, 2))
    centres[7] = (100.0, 20.0)
    spots, notes = make_spots(table(counts, centres_px=centres), SHAPE_PX, "t")
    assert spots.n_obs == 39
    assert "s7" not in spots.obs_names
    assert notes == ["1 spots outside the image were left out."]
    with pytest.raises(SpotScopeError, match="40 of the 40 spots.*200 × 100 px.*reach 1994 × 99"):
        make_spots(table(counts, centres_px=centres * [0.99, 10]), SHAPE_PX, "t")


def test_spots_without_a_count_are_left_out_with_a_note():
    spots, notes = make_spots(table([[1, 2], [0, 0], [3, 0]]), SHAPE_PX, "t")
    assert list(spots.obs_names) == ["s0", "s2"]
    assert notes == ["1 spots without a single count were left out."]
    with pytest.raises(SpotScopeError, match="No spot of 't' has a count"):
        make_spots(table(np.zeros((3, 2))), SHAPE_PX, "t")


def test_two_spots_of_one_name_are_refused():
    with pytest.raises(SpotScopeError, match=r"1 spots of 't' have the same name.*\(a\)"):
        make_spots(table(barcodes=["a", "b", "a"]), SHAPE_PX, "t")


def test_a_missing_position_is_refused():
    centres = np.array([[1.0, 1.0], [np.nan, 2.0], [3.0, 3.0]])
    with pytest.raises(SpotScopeError, match="1 spots of 't' have no position"):
        make_spots(table(centres_px=centres), SHAPE_PX, "t")


def test_parts_of_different_length_are_refused():
    with pytest.raises(SpotScopeError, match=r"do not fit together \(3 × 3 counts, 3 spots, 2"):
        make_spots(table(genes=["A", "B"]), SHAPE_PX, "t")
