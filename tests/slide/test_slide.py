from __future__ import annotations

import json
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from spotscope.slide.open import open_slide


@pytest.mark.parametrize("kind", ["jpeg", "tiled tiff", "svs", "ome-zarr 0.4"])
def test_dask_levels_are_square_chunked_and_equal_the_levels(kind, slides):
    with open_slide(slides[kind]) as slide:
        for lazy, level in zip(slide.dask_levels, slide.levels, strict=True):
            assert lazy.shape == level.shape
            assert lazy.dtype == np.uint8
            tall, wide = lazy.chunksize[:2]
            assert 256 <= max(tall, wide) <= 1024 or (tall, wide) == level.shape[:2]
            np.testing.assert_array_equal(lazy[3:40, 5:90].compute(), level[3:40, 5:90])


def test_read_region_is_white_outside_and_safe_in_threads(slides, picture):
    with open_slide(slides["svs"]) as slide:
        region = slide.read_region(0, -10, 1090, 30, 20)
        assert (region[:10] == 255).all()
        assert (region[:, 10:] == 255).all()
        np.testing.assert_array_equal(region[10:, :10], picture[:20, 1090:])
        assert (slide.read_region(0, 5000, 5000, 4, 4) == 255).all()
        wrong: list[int] = []

        def read(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(20):
                row, col = int(rng.integers(0, 600)), int(rng.integers(0, 1000))
                if (slide.read_region(0, row, col, 64, 64) != _cut(picture, row, col)).any():
                    wrong.append(seed)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def _cut(picture: np.ndarray, row: int, col: int) -> np.ndarray:
    return picture[row : row + 64, col : col + 64]


def test_levels_are_sliced_like_arrays(slides, picture):
    with open_slide(slides["tiled tiff"]) as slide:
        level = slide.levels[0]
        np.testing.assert_array_equal(level[5], picture[5])
        np.testing.assert_array_equal(level[-1, -1], picture[-1, -1])
        np.testing.assert_array_equal(level[..., 1], picture[..., 1])
        np.testing.assert_array_equal(level[100:20:-7, ::50, 2], picture[100:20:-7, ::50, 2])
        assert level[10:10].shape == (0, 1100, 3)
        with pytest.raises(IndexError):
            level[700]


BROWSE = """
import json, sys
import dask.array, tifffile, zarr, imagecodecs
from spotscope.slide.open import open_slide
from spotscope.slide.patches import read_patches

def most_used():
    # Not by getrusage: its peak counts the process that this one was forked from.
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

slide = open_slide(sys.argv[1], mpp_um=0.5)
slide.dask_levels[0][:64, :64].compute()
used = [most_used()]
for level in slide.dask_levels:
    middle = level.shape[0] // 2
    shown = level[middle : middle + 1500, middle : middle + 1500].compute()
    assert (shown == 200).all()
used.append(most_used())
side = slide.shape_px[0]
centres = [(r * side / 20, c * side / 20) for r in range(1, 20) for c in range(1, 20)]
assert (read_patches(slide, centres, 112, 64) == 200).all()
used.append(most_used())
print(json.dumps([used[1] - used[0], used[2] - used[0]]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own account")
def test_memory_of_browsing_and_of_patches_does_not_grow_with_the_slide(tmp_path):
    browsing, patches = {}, {}
    for side in (6_000, 30_000):
        path = tmp_path / f"{side}.tif"
        _write_constant_pyramid(path, side)
        ran = subprocess.run(
            [sys.executable, "-c", BROWSE, str(path)], capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr
        browsing[side], patches[side] = json.loads(ran.stdout)
    # Level 0 of the larger one is 2,700 MB.
    assert browsing[30_000] < browsing[6_000] + 40e6
    assert patches[30_000] < 230e6


def _write_constant_pyramid(path: Path, side: int) -> None:
    tile = zlib.compress(np.full((512, 512, 3), 200, np.uint8).tobytes(), 1)
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        level = 0
        while side >= 1000:
            count = (-(-side // 512)) ** 2
            tif.write(
                (tile for _ in range(count)),
                shape=(side, side, 3),
                dtype=np.uint8,
                tile=(512, 512),
                compression="zlib",
                photometric="rgb",
                subifds=int(np.log2(side / 1000)) if level == 0 else None,
                subfiletype=1 if level else 0,
            )
            side, level = side // 2, level + 1
