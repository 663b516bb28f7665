from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spotscope.errors import SpotScopeError
from spotscope.slide.levels import LevelArray, PixelLevel
from spotscope.slide.open import open_slide
from spotscope.slide.patches import iter_patches, read_patches
from spotscope.slide.slide import Slide


def _slide(pixels: np.ndarray, mpp_um: float | None = 1.0, steps: tuple[int, ...] = (1,)) -> Slide:
    levels: list[LevelArray] = [
        PixelLevel(np.asarray(Image.fromarray(pixels).reduce(step))) for step in steps
    ]
    return Slide(Path("made"), "made", levels, tuple(map(float, steps)), mpp_um=mpp_um)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (1300, 1700, 3), np.uint8)


@pytest.fixture(scope="module")
def smooth() -> np.ndarray:
    """Waves that differ along rows, columns and colours, 40 px and longer."""
    row, col = np.mgrid[:1600, :2000].astype(np.float32)
    waves = [
        127 + 100 * np.sin(row / 17 + col / 90),
        127 + 100 * np.sin(col / 13),
        127 + 100 * np.cos(row / 40 - col / 20),
    ]
    return np.stack(waves, axis=2).round().astype(np.uint8)


def test_a_patch_at_native_size_is_the_pixels_around_its_centre(noise):
    centres = [(200, 300), (640, 1200), (511, 512), (1023, 1024)]
    even = read_patches(_slide(noise), centres, 64, 64)
    odd = read_patches(_slide(noise), centres, 65, 65)
    for k, (row, col) in enumerate(centres):
        np.testing.assert_array_equal(even[k], noise[row - 32 : row + 32, col - 32 : col + 32])
        np.testing.assert_array_equal(odd[k], noise[row - 32 : row + 33, col - 32 : col + 33])


def test_micrometres_are_turned_into_pixels_by_mpp(noise):
    patch = read_patches(_slide(noise, mpp_um=0.25), [(400, 500)], 16, 64)[0]
    np.testing.assert_array_equal(patch, noise[368:432, 468:532])


def test_outside_of_the_slide_is_white(noise):
    corner, beyond, far = read_patches(
        _slide(noise), [(0, 0), (1299, 1699), (-5000, 90000)], 40, 40
    )
    assert (corner[:20] == 255).all()
    assert (corner[:, :20] == 255).all()
    np.testing.assert_array_equal(corner[20:, 20:], noise[:20, :20])
    np.testing.assert_array_equal(beyond[:21, :21], noise[-21:, -21:])
    assert (beyond[21:] == 255).all()
    assert (far == 255).all()


def test_resampled_borders_fade_into_white_only_at_the_edge(smooth):
    dark = np.zeros_like(smooth)
    patch = read_patches(_slide(dark), [(0, 1000)], 300, 100)[0]
    assert (patch[:48] == 255).all()
    assert (patch[52:] == 0).all()


@pytest.mark.parametrize("steps", [(1,), (1, 2, 4), (1, 4)])
@pytest.mark.parametrize("output_px", [50, 100, 224, 300])
def test_a_patch_covers_the_same_tissue_at_any_resolution(smooth, steps, output_px):
    """The picture at 1 µm and the same tissue scanned at 0.5 µm give the same patches."""
    half = np.asarray(Image.fromarray(smooth).reduce(2))
    fine = _slide(smooth, 0.5, steps)
    coarse = _slide(half, 1.0, steps)
    # The first two lie on whole pixels of every level; of others, up to half an output pixel is
    # taken off where a level's pixels are given as they are.
    centres = np.array([(695.5, 895.5), (399.5, 1303.5), (60.25, 1990.75)])
    # Edges of pixels halve; centres of pixels, which lie half a pixel further, do not.
    same = (centres + 0.5) / 2 - 0.5
    one = read_patches(fine, centres, 200, output_px).astype(int)
    other = read_patches(coarse, same, 200, output_px).astype(int)
    assert np.abs(one - other)[:2].max() <= 6
    assert np.abs(one - other)[2].mean() < 6


def test_fractions_of_a_pixel_count_when_resampled(smooth):
    """Shifting the centre by one output pixel shifts the patch by exactly one."""
    slide = _slide(smooth)
    one, shifted = read_patches(slide, [(500.3, 700.6), (500.3, 703.6)], 300, 100).astype(int)
    assert np.abs(one[:, 1:] - shifted[:, :-1]).max() <= 1


def test_the_level_that_is_just_finer_is_read(smooth):
    asked: list[int] = []

    class Watched(PixelLevel):
        def __init__(self, pixels: np.ndarray, index: int) -> None:
            super().__init__(pixels)
            self.index = index

        def read(self, *span: int) -> np.ndarray:
            asked.append(self.index)
            return super().read(*span)

    slide = _slide(smooth, 0.5, (1, 2, 4, 8))
    slide.levels = [Watched(level[:], index) for index, level in enumerate(slide.levels)]
    for output_px, index in ((400, 0), (200, 1), (150, 1), (105, 1), (99, 2), (100, 2), (20, 3)):
        asked.clear()
        read_patches(slide, [(800, 800)], 200, output_px)
        assert set(asked) == {index}, output_px


def test_each_block_is_decoded_once_and_in_any_order(noise):
    count: dict[tuple[int, ...], int] = {}

    class Counted(PixelLevel):
        def read(self, *span: int) -> np.ndarray:
            count[span] = count.get(span, 0) + 1
            return super().read(*span)

    slide = _slide(noise)
    slide.levels = [Counted(noise)]
    rng = np.random.default_rng(3)
    centres = rng.uniform((0, 0), noise.shape[:2], (600, 2)).round()
    patches = read_patches(slide, centres, 48, 48, threads=3)
    assert len(count) == 3 * 4
    assert set(count.values()) == {1}
    row, col = np.ceil(centres[417] - 24).astype(int)
    expected = slide.read_region(0, row, col, 48, 48)
    np.testing.assert_array_equal(patches[417], expected)


def test_threads_change_nothing(slides):
    with open_slide(slides["ome-tiff"]) as slide:
        centres = np.random.default_rng(5).uniform((0, 0), slide.shape_px, (300, 2))
        one = read_patches(slide, centres, 30, 40, threads=1)
        many = read_patches(slide, centres, 30, 40, threads=4)
    np.testing.assert_array_equal(one, many)


def test_batches_hold_every_patch_once_and_no_more_than_asked(noise):
    slide = _slide(noise)
    centres = np.random.default_rng(7).uniform((0, 0), noise.shape[:2], (155, 2))
    whole = read_patches(slide, centres, 33, 20)
    seen = []
    for index, patches in iter_patches(slide, centres, 33, 20, batch=50):
        assert len(index) <= 50
        np.testing.assert_array_equal(patches, whole[index])
        seen.extend(index)
    assert sorted(seen) == list(range(155))


def test_memory_is_bounded_for_far_apart_patches():
    """Patches that need more blocks than may be kept are read group by group."""
    import tracemalloc

    class Endless(LevelArray):
        def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
            return np.full((bottom - top, right - left, 3), 90, np.uint8)

    slide = Slide(Path("x"), "x", [Endless(200_000, 200_000, (512, 512))], (1.0,), mpp_um=1.0)
    centres = np.stack(np.meshgrid(*[np.arange(500, 200_000, 7900.0)] * 2), -1).reshape(-1, 2)
    tracemalloc.start()
    for _, patches in iter_patches(slide, centres, 32, 32, threads=2):
        assert (patches == 90).all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(centres) * 512 * 512 * 3 > 450e6
    assert peak < 180e6


def test_no_centres_give_no_patches(noise):
    assert read_patches(_slide(noise), np.empty((0, 2)), 10, 8).shape == (0, 8, 8, 3)


def test_a_slide_without_mpp_is_refused_with_the_option_to_give(noise):
    with pytest.raises(SpotScopeError, match="states no micrometres per pixel.*--mpp"):
        read_patches(_slide(noise, mpp_um=None), [(5, 5)], 10, 8)


def test_positions_and_sizes_that_are_no_numbers_are_refused(noise):
    with pytest.raises(SpotScopeError, match="positions"):
        read_patches(_slide(noise), [(np.nan, 5)], 10, 8)
    for size in (0.0, -3.0, float("nan")):
        with pytest.raises(SpotScopeError, match="size above zero"):
            read_patches(_slide(noise), [(5, 5)], size, 8)


def test_patches_of_a_real_section_are_the_jpegs_pixels(shared_data, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    path = shared_data / "her2st" / "images" / "C2.jpg"
    centre = (4210, 5020)
    with open_slide(path, mpp_um=0.74, pyramid=False) as slide:
        patch = read_patches(slide, [centre], 224 * 0.74, 224)[0]
        assert slide.shape_px == (9911, 9274)
    with Image.open(path) as picture:
        box = (centre[1] - 112, centre[0] - 112, centre[1] + 112, centre[0] + 112)
        np.testing.assert_array_equal(patch, np.asarray(picture.crop(box)))
