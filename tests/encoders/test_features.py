from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from spotscope.data.places import Places
from spotscope.encoders.base import Encoder
from spotscope.encoders.features import disc_means, features, pooled_features
from spotscope.errors import Cancelled, SpotScopeError
from spotscope.files import cache_folder
from spotscope.progress import Progress
from spotscope.slide.patches import read_patches


class Counting(Encoder):
    """Mean colour, and how many patches were encoded; slow when asked."""

    name, width, patch_um, patch_px = "counting", 3, 40.0, 10

    def __init__(self, fingerprint="counting-1", seconds=0.0):
        self.fingerprint, self.seconds, self.encoded = fingerprint, seconds, 0

    def encode(self, patches):
        time.sleep(self.seconds * len(patches))
        self.encoded += len(patches)
        return self.checked(patches).mean(axis=(1, 2), dtype=np.float32)


@pytest.fixture
def section(make_section, tmp_path, monkeypatch):
    monkeypatch.setenv("SPOTSCOPE_CACHE", str(tmp_path / "cache"))
    return make_section("F1", "F")


def test_features_are_those_of_the_patches_in_the_order_of_the_places(section):
    centres = np.asarray(section.centres_px)[np.random.default_rng(0).permutation(30)]
    wanted = Counting().encode(read_patches(section.slide, centres, 40.0, 10))
    np.testing.assert_allclose(features(Places(section, centres), Counting()), wanted, rtol=1e-6)


def test_a_patch_covers_the_same_tissue_at_every_resolution(make_section):
    from dataclasses import replace

    from spotscope.data.section import Section
    from spotscope.slide.levels import PixelLevel

    coarse = make_section("F2", "F", with_spots=False)
    image = np.asarray(coarse.slide.levels[0][:])
    fine = replace(
        coarse.slide,
        levels=[PixelLevel(image.repeat(2, axis=0).repeat(2, axis=1))],
        mpp_um=0.5,
        fingerprint="fine",
    )
    centres = np.array([[100.0, 120.0], [200.0, 310.0]])
    seen = features(Places(coarse, centres), Counting())
    again = features(Places(Section("F2", "F", fine), 2 * centres + 0.5), Counting())
    np.testing.assert_allclose(again, seen, atol=0.5)


def test_what_was_encoded_is_kept_and_reused(section):
    encoder, places = Counting(), Places.on_spots(section)
    first = features(places, encoder)
    assert encoder.encoded == 30
    np.testing.assert_array_equal(features(places, encoder), first)
    assert encoder.encoded == 30


def test_other_weights_patches_places_or_scale_are_encoded_anew(section):
    places = Places.on_spots(section)
    features(places, Counting())
    other = Counting("counting-2")
    features(places, other)
    wider = Counting()
    wider.patch_um = 50.0
    features(places, wider)
    moved = Counting()
    features(Places(section, places.centres_px + 1), moved)
    section.slide.mpp_um = 1.1
    scaled = Counting()
    features(places, scaled)
    assert [e.encoded for e in (other, wider, moved, scaled)] == [30] * 4


def test_a_damaged_cache_is_made_again(section):
    encoder, places = Counting(), Places.on_spots(section)
    first = pooled_features(places, encoder, (80.0,))
    for file in (cache_folder() / "features").iterdir():
        file.write_bytes(file.read_bytes()[:50])
    np.testing.assert_array_equal(pooled_features(places, Counting(), (80.0,)), first)


def test_cancelling_works_within_a_second_and_leaves_no_cache(section):
    cancel = threading.Event()
    progress = Progress(cancel=cancel)
    threading.Timer(0.3, cancel.set).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        features(Places.on_spots(section), Counting(seconds=0.1), progress)
    assert time.monotonic() - began < 1.3
    assert not list(cache_folder().glob("features/*"))


def test_progress_rises_to_the_end(section):
    steps = []
    pooled_features(Places.on_spots(section), Counting(), (80.0,), Progress(steps.append))
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)


def test_a_slide_without_scale_is_refused(section):
    section.slide.mpp_um = None
    with pytest.raises(SpotScopeError, match="--mpp"):
        features(Places.on_spots(section), Counting())


def test_surroundings_of_even_tissue_are_the_tissue(section):
    seen = pooled_features(Places(section, np.array([[180.0, 210.0]])), Counting(), (60.0, 90.0))
    assert seen.shape == (1, 9)
    np.testing.assert_allclose(seen[0, 3:6], seen[0, :3], atol=12)


def test_a_spot_a_grid_cell_and_a_lone_point_see_the_same_surroundings(section):
    spots = pooled_features(Places.on_spots(section), Counting(), (80.0,), centred=True)
    alone = Places(section, np.asarray(section.centres_px)[7:8])
    one = pooled_features(alone, Counting(), (80.0,), centred=True)
    np.testing.assert_allclose(one[0], spots[7], rtol=1e-5, atol=1e-4)
    rows, cols = np.mgrid[60:310:10.0, 60:370:10.0].reshape(2, -1)
    fine = Places(section, np.stack([rows, cols], 1))
    dense = pooled_features(fine, Counting(), (80.0,), centred=True)
    at = np.flatnonzero((fine.centres_px == alone.centres_px).all(axis=1))[0]
    np.testing.assert_allclose(dense[at], spots[7], rtol=1e-5, atol=1e-4)


def test_encoded_surroundings_are_shared_by_later_jobs(section):
    pooled_features(Places.on_spots(section), Counting(), (80.0,))
    later = Counting()
    pooled_features(Places(section, np.array([[180.0, 210.0]])), later, (60.0,))
    assert later.encoded == 1


def test_centred_features_of_a_slide_have_no_common_tint(make_section):
    from dataclasses import replace

    from spotscope.data.section import Section
    from spotscope.slide.levels import PixelLevel

    section = make_section("F3", "F", 4)
    image = np.asarray(section.slide.levels[0][:]).astype(int)
    tinted = np.where(image < 250, image - np.array([0, 20, 10]), image).clip(0).astype(np.uint8)
    slide = replace(section.slide, levels=[PixelLevel(tinted)], fingerprint="tinted")
    places = Places.on_spots(section)
    other = Places(Section("F3", "F", slide), places.centres_px)
    plain, tint = (pooled_features(p, Counting(), ()) for p in (places, other))
    assert np.abs(plain - tint).max() > 15
    plain, tint = (pooled_features(p, Counting(), (), centred=True) for p in (places, other))
    assert np.abs(plain - tint).max() < 4  # cells on the rim hold some glass


def test_disc_means_are_plain_means_and_the_nearest_where_there_is_none():
    rng = np.random.default_rng(0)
    around, centres = rng.uniform(0, 100, (200, 2)), rng.uniform(0, 100, (40, 2))
    values = rng.normal(size=(200, 4)).astype(np.float32)
    found = disc_means(centres, around, values, 15.0)
    for centre, mean in zip(centres, found, strict=True):
        near = np.hypot(*(around - centre).T) <= 15
        np.testing.assert_allclose(mean, values[near].mean(0), rtol=1e-4, atol=1e-5)
    far = disc_means(np.array([[500.0, 500.0]]), around, values, 1.0)
    np.testing.assert_array_equal(far[0], values[around.sum(1).argmax()])


def test_no_places_give_no_features(section):
    nowhere = Places(section, np.zeros((0, 2)))
    assert pooled_features(nowhere, Counting(), (80.0,), centred=True).shape == (0, 6)
