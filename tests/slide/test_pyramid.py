from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import zarr

from spotscope.errors import Cancelled
from spotscope.progress import Progress
from spotscope.slide.levels import LevelArray, PixelLevel
from spotscope.slide.open import open_slide
from spotscope.slide.pyramid import halved, level_shapes, write_pyramid


def _mean_of_blocks(pixels: np.ndarray) -> np.ndarray:
    rows, cols = pixels.shape[:2]
    padded = np.pad(pixels, ((0, rows % 2), (0, cols % 2), (0, 0)), mode="edge").astype(float)
    blocks = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2, 3)
    return np.floor(blocks.mean(axis=(1, 3)) + 0.5).astype(np.uint8)


@pytest.mark.parametrize("size", [(1537, 2050), (2048, 1024), (1025, 3), (1800, 1601)])
def test_levels_are_lossless_and_means_of_two_by_two(size, tmp_path):
    pixels = np.random.default_rng(2).integers(0, 256, (*size, 3), np.uint8)
    shapes = write_pyramid(PixelLevel(pixels), tmp_path / "p.zarr")
    with open_slide(tmp_path / "p.zarr") as slide:
        assert [(3, *level.shape[:2]) for level in slide.levels] == shapes
        assert slide.downsamples == tuple(2.0**k for k in range(len(shapes)))
        expected = pixels
        for level in slide.levels:
            np.testing.assert_array_equal(level[:], expected)
            expected = _mean_of_blocks(expected)
    assert max(slide.levels[-1].shape[:2]) <= 1024


def test_it_is_an_ome_zarr_of_c_y_x_in_chunks_of_512(tmp_path):
    pixels = np.zeros((1100, 600, 3), np.uint8)
    pixels[..., 0], pixels[..., 2] = 10, 30
    write_pyramid(PixelLevel(pixels), tmp_path / "p.zarr", mpp_um=0.25)
    group = zarr.open_group(tmp_path / "p.zarr", mode="r")
    assert group["0"].shape == (3, 1100, 600)
    assert group["0"].chunks == (3, 512, 512)
    assert group["0"][:, 5, 5].tolist() == [10, 0, 30]
    multiscale = group.attrs["ome"]["multiscales"][0]
    assert [axis["name"] for axis in multiscale["axes"]] == ["c", "y", "x"]
    scale = multiscale["datasets"][1]["coordinateTransformations"][0]["scale"]
    assert scale == [1.0, 0.5, 0.5]
    with open_slide(tmp_path / "p.zarr") as slide:
        assert slide.mpp_um == 0.25
        assert slide.notes == ()


def test_without_the_source_the_first_level_is_its_half(tmp_path):
    pixels = np.random.default_rng(2).integers(0, 256, (1300, 2600, 3), np.uint8)
    shapes = write_pyramid(PixelLevel(pixels), tmp_path / "p.zarr", with_source=False)
    assert shapes == [(3, 650, 1300), (3, 325, 650)]
    with open_slide(tmp_path / "p.zarr") as slide:
        np.testing.assert_array_equal(slide.levels[0][:], _mean_of_blocks(pixels))


def test_white_glass_takes_no_room(tmp_path):
    pixels = np.full((2048, 2048, 3), 255, np.uint8)
    pixels[:100, :100] = 7
    write_pyramid(PixelLevel(pixels), tmp_path / "p.zarr")
    chunks = [path for path in (tmp_path / "p.zarr" / "0" / "c").rglob("*") if path.is_file()]
    assert len(chunks) == 1
    with open_slide(tmp_path / "p.zarr") as slide:
        np.testing.assert_array_equal(slide.levels[0][:], pixels)


class _Endless(LevelArray):
    """Costs nothing to read, and remembers the most that was read at once."""

    def __init__(self, rows: int, cols: int) -> None:
        super().__init__(rows, cols, (512, 512))
        self.most = 0

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        self.most = max(self.most, (bottom - top) * (right - left))
        return np.full((bottom - top, right - left, 3), 255, np.uint8)


def test_only_strips_of_the_source_lie_in_memory(tmp_path):
    source = _Endless(20_000, 4000)
    tracemalloc.start()
    write_pyramid(source, tmp_path / "p.zarr")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert source.most <= 512 * 2048
    assert peak < 0.25 * 20_000 * 4000 * 3


def test_progress_is_reported_and_cancelling_stops_it(tmp_path):
    heard: list[float] = []
    progress = Progress(lambda step: heard.append(step.fraction))
    write_pyramid(_Endless(3000, 600), tmp_path / "p.zarr", progress=progress)
    assert len(heard) == 6
    assert heard[-1] == 1
    progress.cancel.set()
    with pytest.raises(Cancelled):
        write_pyramid(_Endless(3000, 600), tmp_path / "q.zarr", progress=progress)


def test_halving_rounds_to_the_nearest_and_odd_sides_up():
    planes = np.array([[[0, 1, 9], [1, 1, 9], [4, 4, 5]]] * 3, np.uint8)
    assert halved(planes)[0].tolist() == [[1, 9], [4, 5]]
    assert level_shapes((5000, 1025, 3)) == [
        (5000, 1025, 3),
        (2500, 513, 3),
        (1250, 257, 3),
        (625, 129, 3),
    ]
