from __future__ import annotations

import numpy as np
import pytest
import shapely

from spotscope.annotate.regions import (
    Region,
    region_from_rings,
    regions_from_spots,
    spots_in_regions,
)
from spotscope.errors import SpotScopeError

# 4 rows x 6 columns, 10 px apart; asymmetric, so that swapped axes show.
CENTRES = np.array([[10.0 * r, 10.0 * c] for r in range(4) for c in range(6)])


def _inside(owner: np.ndarray) -> set[tuple[int, int]]:
    return {(i // 6, i % 6) for i in np.flatnonzero(owner >= 0)}


def test_a_region_takes_the_spots_by_row_and_col() -> None:
    drawn = np.array([[-1, 35], [-1, 55], [15, 55], [15, 35]])  # rows -1..15, cols 35..55
    owner = spots_in_regions([region_from_rings([drawn], "x")], CENTRES)
    assert _inside(owner) == {(0, 4), (0, 5), (1, 4), (1, 5)}


def test_rings_come_back_in_the_order_they_were_drawn() -> None:
    drawn = np.array([[0.0, 35.0], [0.0, 55.0], [15.0, 55.0], [15.0, 35.0]])
    hole = np.array([[5.0, 40.0], [5.0, 45.0], [10.0, 45.0]])
    outer, inner = region_from_rings([drawn, hole], "x").rings()
    assert outer[:-1].tolist() == drawn.tolist()
    assert inner[:-1].tolist() == hole.tolist()


def test_spots_in_a_hole_are_outside() -> None:
    ring = Region(
        shapely.Polygon(
            shapely.box(-5, -5, 35, 35).exterior, [shapely.box(5, 5, 25, 25).exterior.coords]
        ),
        "x",
    )
    owner = spots_in_regions([ring], CENTRES)
    assert (1, 1) not in _inside(owner)
    assert (0, 0) in _inside(owner)


def test_the_region_drawn_last_wins_or_the_smallest_one() -> None:
    small = Region(shapely.box(-5, -5, 15, 15), "small")
    large = Region(shapely.box(-5, -5, 95, 95), "large")
    assert spots_in_regions([small, large], CENTRES)[0] == 1
    assert spots_in_regions([small, large], CENTRES, overlap="smallest")[0] == 0
    assert spots_in_regions([large, small], CENTRES, overlap="smallest")[0] == 1


def test_border_rules_differ_on_a_spot_that_the_border_cuts() -> None:
    # The border at x = 8 cuts discs of radius 4 around x = 10: their centres lie outside.
    left = [Region(shapely.box(-50, -50, 8, 50), "x")]
    columns = {
        rule: {c for _, c in _inside(spots_in_regions(left, CENTRES, diameter_px=8, border=rule))}
        for rule in ("centre", "half", "touch")
    }
    assert columns == {"centre": {0}, "half": {0}, "touch": {0, 1}}


def test_half_a_disc_is_measured_by_area() -> None:
    # The border at x = 10.2 leaves a little more than half of the discs around x = 10 inside,
    # and one at x = 9.8 a little less.
    for edge, expected in ((10.2, {0, 1}), (9.8, {0})):
        region = [Region(shapely.box(-50, -50, edge, 50), "x")]
        owner = spots_in_regions(region, CENTRES, diameter_px=8, border="half")
        assert {c for _, c in _inside(owner)} == expected


def test_a_lasso_that_crosses_itself_is_mended() -> None:
    bow_tie = np.array([[0.0, 0.0], [10.0, 10.0], [0.0, 10.0], [10.0, 0.0]])
    region = region_from_rings([bow_tie], "x")
    assert region.geometry.is_valid
    assert region.area_px == pytest.approx(50)


def test_a_drawing_without_area_is_refused() -> None:
    with pytest.raises(SpotScopeError, match="encloses nothing"):
        region_from_rings([np.array([[0.0, 0.0], [5.0, 5.0], [10.0, 10.0]])], "x")


def test_spots_to_regions_and_back_gives_the_same_labels() -> None:
    labels = [
        None if r == 3 else ("left" if c < 2 else "right") for r in range(4) for c in range(6)
    ]
    regions = regions_from_spots(labels, CENTRES, pitch_px=10)
    assert [r.geometry.geom_type for r in regions] == ["Polygon", "Polygon"]
    owner = spots_in_regions(regions, CENTRES)
    assert [regions[o].subtype if o >= 0 else None for o in owner] == labels
    assert regions[0].area_px == pytest.approx(600, rel=0.03)


def test_half_of_a_disc_is_decided_as_its_area_says_on_winding_borders() -> None:
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    radius = 60 * (1 + 0.25 * np.sin(9 * angle) + 0.1 * np.sin(31 * angle))
    ring = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    outline = shapely.Polygon(ring, [np.array([[-9, -9], [9, -9], [9, 9], [-9, 9]])])
    centres = rng.uniform(-90, 90, (1500, 2))
    discs = shapely.buffer(shapely.points(centres[:, ::-1]), 6, quad_segs=64)
    share = shapely.area(shapely.intersection(discs, outline)) / shapely.area(discs)
    clear = np.abs(share - 0.5) > 1e-3
    owner = spots_in_regions([Region(outline, "a")], centres, diameter_px=12, border="half")
    assert np.array_equal((owner == 0)[clear], (share >= 0.5)[clear])
    assert ((share > 0.05) & (share < 0.95)).sum() > 100


@pytest.mark.parametrize("turn", np.linspace(0.1, 6.0, 7))
def test_half_a_disc_is_measured_when_the_border_runs_through_its_centre(turn: float) -> None:
    # A long sliver from the centre outwards holds under half of the disc, a half plane half of it.
    centre = np.array([[30_000.0, 20_000.0]])
    towards = np.array([np.cos(turn), np.sin(turn)])
    across = np.array([-towards[1], towards[0]])
    for depth_px, expected in ((2.0, -1), (9_000.0, 0)):
        ring = [
            centre[0, ::-1] + along * towards + deep * across
            for along, deep in ((-9e3, 0), (9e3, 0), (9e3, depth_px), (-9e3, depth_px))
        ]
        region = [Region(shapely.Polygon(ring), "a")]
        owner = spots_in_regions(region, centre, diameter_px=12, border="half")
        assert owner.tolist() == [expected]


def test_half_of_a_spot_without_a_size_is_its_centre() -> None:
    region = [Region(shapely.box(-1, -1, 15, 15), "a")]
    owners = [spots_in_regions(region, CENTRES, border=rule) for rule in ("half", "centre")]
    assert np.array_equal(*owners)
