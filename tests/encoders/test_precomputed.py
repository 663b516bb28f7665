from __future__ import annotations

import h5py
import numpy as np
import pytest
import zarr

from spotscope.data.places import Places
from spotscope.encoders.base import get_encoder
from spotscope.encoders.features import features, pooled_features
from spotscope.errors import SpotScopeError


@pytest.fixture(scope="module")
def section(make_section):
    return make_section("P1", "P")


def values(n, width=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def write_h5(file, section, rows, shift=0.0, corner=None):
    centres = np.asarray(section.centres_px)
    with h5py.File(file, "w") as group:
        group["features"] = rows
        group["coords"] = centres[:, ::-1] + shift
        if corner is not None:
            group["coords"].attrs["patch_size_level0"] = corner


@pytest.mark.parametrize("shift", [0.0, 11.0])
def test_features_are_found_by_x_and_y_whatever_their_order(tmp_path, section, shift):
    rows = values(section.n_spots)
    write_h5(tmp_path / "f.h5", section, rows, shift)
    order = np.random.default_rng(1).permutation(section.n_spots)
    places = Places(section, np.asarray(section.centres_px)[order])
    found = features(places, get_encoder(f"features:{tmp_path}/f.h5"))
    np.testing.assert_array_equal(found, rows[order])


def test_upper_left_corners_are_moved_to_the_centres(tmp_path, section):
    rows = values(section.n_spots)
    write_h5(tmp_path / "f.h5", section, rows, shift=-32.0, corner=65)
    found = features(Places.on_spots(section), get_encoder(f"features:{tmp_path}/f.h5"))
    np.testing.assert_array_equal(found, rows)


def test_a_zarr_and_the_names_of_other_tools_are_read(tmp_path, section):
    rows = values(section.n_spots)
    group = zarr.open_group(tmp_path / "f.zarr", mode="w")
    group["embeddings"] = rows[None]
    group["coords"] = np.asarray(section.centres_px)[:, ::-1]
    encoder = get_encoder(f"features:{tmp_path}/f.zarr")
    assert encoder.width == 5
    np.testing.assert_array_equal(features(Places.on_spots(section), encoder), rows)


def test_a_folder_has_a_file_for_each_section(tmp_path, section, make_section):
    other = make_section("P2", "P", 1)
    for each, seed in ((section, 0), (other, 1)):
        write_h5(tmp_path / f"{each.name}.h5", each, values(30, seed=seed))
    encoder = get_encoder(f"features:{tmp_path}")
    for each, seed in ((section, 0), (other, 1)):
        found = features(Places.on_spots(each), encoder)
        np.testing.assert_array_equal(found, values(30, seed=seed))
    with pytest.raises(SpotScopeError, match="no features of section 'P3'.*'P3.h5'"):
        features(Places.on_spots(make_section("P3", "P", 2)), encoder)


def test_places_too_far_from_all_features_are_counted_in_the_refusal(tmp_path, section):
    write_h5(tmp_path / "f.h5", section, values(30), shift=1000.0)
    encoder = get_encoder(f"features:{tmp_path}/f.h5")
    with pytest.raises(SpotScopeError, match="30 of 30 places of section 'P1' have no features"):
        features(Places.on_spots(section), encoder)


def test_surroundings_are_averaged_over_the_files_own_places(tmp_path, section):
    rows = values(30)
    write_h5(tmp_path / "f.h5", section, rows)
    encoder = get_encoder(f"features:{tmp_path}/f.h5")
    pooled = pooled_features(Places.on_spots(section), encoder, (61.0,))
    centres = np.asarray(section.centres_px)
    near = np.hypot(*(centres - centres[0]).T) <= 61
    assert near.sum() == 3
    np.testing.assert_allclose(pooled[0], [*rows[0], *rows[near].mean(0)], rtol=1e-5)


def test_features_of_another_width_are_refused(tmp_path, section, make_section):
    other = make_section("P2", "P", 1)
    write_h5(tmp_path / "P1.h5", section, values(30, 5))
    write_h5(tmp_path / "P2.h5", other, values(30, 6))
    encoder = get_encoder(f"features:{tmp_path}")
    with pytest.raises(SpotScopeError, match="has 6 features a patch where the first file has 5"):
        features(Places.on_spots(other), encoder)


def test_a_file_without_features_is_refused_with_what_it_holds(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as group:
        group["images"] = np.zeros(3)
    with pytest.raises(SpotScopeError, match="holds images; it needs `features`"):
        get_encoder(f"features:{tmp_path}/f.h5")


def test_features_that_are_not_finite_or_do_not_match_are_refused(tmp_path, section):
    rows = values(30)
    rows[3, 2] = np.nan
    write_h5(tmp_path / "nan.h5", section, rows)
    write_h5(tmp_path / "short.h5", section, values(29))
    with pytest.raises(SpotScopeError, match="not finite numbers"):
        get_encoder(f"features:{tmp_path}/nan.h5")
    with pytest.raises(SpotScopeError, match=r"shape \(29, 5\) and coords of shape \(30, 2\)"):
        get_encoder(f"features:{tmp_path}/short.h5")


def test_absent_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(SpotScopeError, match="There are no features at"):
        get_encoder(f"features:{tmp_path}/none.h5")
    (tmp_path / "bad.h5").write_bytes(b"no h5 at all")
    with pytest.raises(SpotScopeError, match=r"features in 'bad.h5' cannot be read"):
        get_encoder(f"features:{tmp_path}/bad.h5")


def test_encoding_new_patches_is_refused(tmp_path, section):
    write_h5(tmp_path / "f.h5", section, values(30))
    encoder = get_encoder(f"features:{tmp_path}/f.h5")
    with pytest.raises(SpotScopeError, match="cannot encode new patches"):
        encoder.encode(np.zeros((1, 224, 224, 3), np.uint8))
