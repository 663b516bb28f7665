from __future__ import annotations

import numpy as np
import pytest

from spotscope.plugin.raster import SpotRaster


def lattice(rows=6, cols=8, pitch=10.0, start=(100.0, 200.0)):
    grid = np.stack(np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij"), -1)
    return grid.reshape(-1, 2) * pitch + start


def test_each_pixel_shows_the_spot_that_lies_over_it():
    centres = lattice()
    raster = SpotRaster.of(centres, diameter_px=10.0, pitch_px=10.0)
    rows, cols = np.indices(raster.spot_of.shape)
    places = np.stack([rows, cols], -1) * raster.step_px + raster.origin_px
    shown = centres[raster.spot_of]
    assert np.abs(places - shown).max() <= 5.0  # no pixel is farther than half a bin


def test_bins_that_touch_leave_no_gap_and_round_spots_do():
    bins = SpotRaster.of(lattice(), diameter_px=10.0, pitch_px=10.0)
    spots = SpotRaster.of(lattice(), diameter_px=5.5, pitch_px=10.0)
    assert np.isfinite(bins.image(np.ones(48))).all()
    covered = np.isfinite(spots.image(np.ones(48))).mean()
    assert covered == pytest.approx(np.pi * 2.75**2 / 100, rel=0.15)


def test_every_spot_is_seen_in_order():
    raster = SpotRaster.of(lattice(), diameter_px=10.0, pitch_px=10.0)
    image = raster.image(np.arange(48, dtype=np.float32))
    assert set(np.unique(image)) == set(range(48))
    assert image[0, 0] == 0
    assert image[-1, -1] == 47
    assert image.dtype == np.float32


def test_a_huge_section_stays_within_what_a_texture_holds(monkeypatch):
    monkeypatch.setattr("spotscope.plugin.raster._MOST_PIXELS_A_SIDE", 60)
    centres = np.array([[0.0, 0.0], [0.0, 1e6], [1e6, 0.0]])
    raster = SpotRaster.of(centres, diameter_px=2.0, pitch_px=2.0)
    assert max(raster.spot_of.shape) <= 61
