from __future__ import annotations

import threading

import numpy as np
import pytest
from skimage.color import hed2rgb, rgb2hed

from spotscope.encoders.stain import StainEncoder, _uniform_codes, separate


@pytest.fixture(scope="module")
def encoder():
    return StainEncoder("cpu")


def tissue(nuclei, seed=0, px=224, radius=5.0, spread=0.0):
    """Return a pink patch with dark blue round nuclei, at least 16 px apart."""
    rng = np.random.default_rng(seed)
    sites = 12 + 20 * np.stack(np.mgrid[:10, :10], -1).reshape(-1, 2)
    centres = sites[rng.permutation(len(sites))[:nuclei]]
    rows, cols = np.mgrid[:px, :px]
    image = np.full((px, px, 3), (236, 168, 200), float)
    for row, col in centres:
        inside = np.hypot(rows - row, cols - col) <= radius + spread * rng.normal()
        image[inside] = (95, 60, 150)
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def test_stains_are_separated_like_scikit_image_does():
    import torch

    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, (2, 9, 9, 3), dtype=np.uint8)
    ours = separate(torch.from_numpy(images).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(ours, 6 * rgb2hed(images), atol=1e-5)


def test_a_pure_stain_is_found_as_that_stain_alone():
    import torch

    for stain in (0, 1):
        amounts = np.zeros((1, 4, 4, 3))
        amounts[..., stain] = 0.1
        image = np.round(hed2rgb(amounts)[0] * 255).astype(np.uint8)
        found = separate(torch.from_numpy(image[None]).permute(0, 3, 1, 2)).mean((0, 2, 3))
        assert found[stain] == pytest.approx(0.6, abs=0.02)
        assert all(found[other] < 0.02 for other in (0, 1) if other != stain)


def test_features_do_not_depend_on_how_the_patch_is_turned_or_mirrored(encoder):
    patch = tissue(40, radius=4, spread=1)
    turned = np.stack([np.rot90(each, k) for each in (patch, patch[:, ::-1]) for k in range(4)])
    rows = encoder.encode(np.ascontiguousarray(turned))
    apart = np.abs(rows - rows[0]).max(axis=0) / np.maximum(np.abs(rows[0]), 1e-2)
    assert {n: a for n, a in zip(encoder.feature_names, apart, strict=True) if a > 2e-3} == {}


def test_features_do_not_depend_on_the_other_patches_of_the_batch(encoder):
    patches = np.stack([tissue(5 * k, seed=k) for k in range(19)])
    together = encoder.encode(patches)
    assert together.shape == (19, encoder.width)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together[7:9], encoder.encode(patches[7:9]), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(together, encoder.encode(patches))


@pytest.mark.parametrize("value", [0, 128, 255])
def test_an_even_patch_gives_finite_features_and_no_nuclei(encoder, value):
    patch = np.full((1, 224, 224, 3), value, np.uint8)
    figures = encoder.measure(patch)
    assert np.isfinite(list(figures.values())).all()
    assert figures["nuclei count"][0] == 0
    assert figures["bare"][0] == (1 if value == 255 else 0)


def test_nuclei_are_counted(encoder):
    counts = [0, 10, 30, 60, 90]
    found = encoder.measure(np.stack([tissue(n) for n in counts]))["nuclei count"]
    np.testing.assert_allclose(found, counts, atol=1)


def test_larger_nuclei_are_found_at_larger_scales(encoder):
    small, large = tissue(30, radius=3.0), tissue(30, radius=8.0)
    figures = encoder.measure(np.stack([small, large]))
    assert figures["nuclei of sigma 1.4"][0] > 0.8 > 0.2 > figures["nuclei of sigma 1.4"][1]
    assert figures["nuclei of sigma 2.8"][1] > 0.8 > 0.2 > figures["nuclei of sigma 2.8"][0]
    assert figures["nuclear area"][1] > 2 * figures["nuclear area"][0]


def test_fibres_that_run_one_way_are_told_from_grains(encoder):
    rng = np.random.default_rng(0)
    rows, cols = np.mgrid[:224, :224]
    stripes = 40 * np.sin((rows + 0.6 * cols) / 4)
    grains = 40 * rng.normal(size=(224, 224))
    patches = np.stack([180 + stripes, 180 + grains]).clip(0, 255)
    patches = np.repeat(patches[..., None], 3, axis=-1).astype(np.uint8)
    fibres = encoder.measure(patches)["fibres parallel 2 px"]
    assert fibres[0] > 0.8 > 0.1 > fibres[1]


def test_fat_is_told_from_slits_by_the_size_of_its_gaps(encoder):
    fat, slits = (np.full((224, 224, 3), 150, np.uint8) for _ in range(2))
    fat[20:132, 20:132] = 255
    slits.reshape(224, 14, 16, 3)[:, :, :4] = 255
    figures = encoder.measure(np.stack([fat, slits]))
    assert figures["bare"] == pytest.approx([0.25, 0.25], abs=0.01)
    assert figures["bare gaps over 28 px"][0] > 0.1
    assert figures["bare gaps over 28 px"][1] == 0


def test_there_are_58_uniform_patterns_of_8_neighbours():
    assert (_uniform_codes() < 9).sum() == 58


def test_encoding_leaves_the_threads_of_others_as_they_were(encoder):
    import torch

    usual = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        encoder.encode(np.stack([tissue(3)] * 20))
        seen = []
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert (torch.get_num_threads(), seen) == (2, [2])
    finally:
        torch.set_num_threads(usual)


def test_counted_nuclei_follow_the_cells_that_experts_marked(encoder, shared_data):
    from PIL import Image

    patches, cells = [], []
    for file in sorted((shared_data / "cells" / "images").glob("*.png")):
        image = Image.open(file).convert("RGB")
        # At 20x, 0.5 µm per pixel, 328 px are as wide as the encoder's patch.
        rows = np.loadtxt(shared_data / "cells" / "labels" / f"{file.stem}.txt", ndmin=2)
        box = (0, 0, 328, 328)
        patches.append(np.asarray(image.resize((224, 224), Image.Resampling.BOX, box)))
        cells.append(int((rows[:, :2] < 328).all(axis=1).sum()))
    found = encoder.measure(np.stack(patches))["nuclei count"]
    assert np.corrcoef(found, cells)[0, 1] > 0.8
    assert np.mean(found) == pytest.approx(np.mean(cells), rel=0.25)
