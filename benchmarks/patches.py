"""Patches from an imported store, against the same reads through plain zarr and plain tifffile.

    python benchmarks/patches.py [IMAGE]

Without an image it draws one. All three read in one run, in turns, three times; the medians are
printed, and what matters is their ratio. Each reads what it would read for a section: spots
200 µm apart, and a dense grid of 50 µm, at 0.74 µm per pixel.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
import zarr
from PIL import Image

from spotscope.data.importing import import_section
from spotscope.slide.patches import iter_patches
from spotscope.slide.slide import Slide

MPP_UM = 0.74
PATCH_PX = 224
ROUNDS = 3
MOST = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", nargs="?", type=Path, help="a flat picture of a section")
    image = parser.parse_args().image
    Image.MAX_IMAGE_PIXELS = None
    with tempfile.TemporaryDirectory() as folder:
        if image is None:
            image = Path(folder) / "drawn.jpg"
            draw(image)
        section = import_section(image, Path(folder) / "section.zarr", mpp_um=MPP_UM)
        tiff = Path(folder) / "tiled.tif"
        tifffile.imwrite(
            tiff,
            section.slide.levels[0][:],
            tile=(512, 512),
            compression="jpeg",
            photometric="rgb",
        )
        store = Path(folder) / "section.zarr" / "images" / "slide" / "0"
        planes = zarr.open_array(store, mode="r")
        with tifffile.TiffFile(tiff) as tif:
            tiles = zarr.open_array(tif.aszarr(level=0), mode="r")
            for name, stride_um in (("spots, 200 µm apart", 200.0), ("grid of 50 µm", 50.0)):
                centres = grid(section.slide, stride_um)
                compare(name, section.slide, centres, planes, tiles)
        section.slide.close()


def draw(path: Path) -> None:
    """Draw nuclei-like noise, 6,000 px wide, as a JPEG of the density that scanners give."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(90, 250, (750, 750, 3), np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((6000, 6000), Image.Resampling.BICUBIC))
    grain = rng.integers(-12, 13, picture.shape, np.int16)
    Image.fromarray(np.clip(picture + grain, 0, 255).astype(np.uint8)).save(path, quality=85)


def grid(slide: Slide, stride_um: float) -> np.ndarray:
    """Return (n, 2) centres from the middle of the slide, row by row."""
    stride = stride_um / MPP_UM
    side = int(MOST**0.5)
    middle = np.array(slide.shape_px) / 2
    steps = (np.arange(side) - side / 2) * stride
    centres = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2) + middle
    inside = (centres > PATCH_PX).all(1) & (centres < np.array(slide.shape_px) - PATCH_PX).all(1)
    return np.floor(centres[inside])


def compare(
    name: str, slide: Slide, centres: np.ndarray, planes: zarr.Array, tiles: zarr.Array
) -> None:
    """Time the three ways in turns and print patches a second and the ratios."""
    corners = (centres - PATCH_PX // 2).astype(int)

    def ours() -> np.ndarray:
        batches = iter_patches(slide, centres, PATCH_PX * MPP_UM, PATCH_PX)
        return sum(int(patches[:, 0, 0, 0].sum()) for _, patches in batches)

    def plain_zarr() -> int:
        return sum(
            int(np.moveaxis(planes[:, r : r + PATCH_PX, c : c + PATCH_PX], 0, 2)[0, 0, 0])
            for r, c in corners
        )

    def plain_tifffile() -> int:
        return sum(int(tiles[r : r + PATCH_PX, c : c + PATCH_PX][0, 0, 0]) for r, c in corners)

    assert ours() == plain_zarr()
    ways: dict[str, Callable[[], object]] = {
        "spotscope": ours,
        "plain zarr": plain_zarr,
        "plain tifffile": plain_tifffile,
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, read in ways.items():
            start = time.perf_counter()
            read()
            seconds[way].append(time.perf_counter() - start)
    rate = {way: len(centres) / statistics.median(took) for way, took in seconds.items()}
    print(f"{name}: {len(centres)} patches of {PATCH_PX} px")
    for way, per_second in rate.items():
        times = rate["spotscope"] / per_second
        beside = "" if way == "spotscope" else f"   spotscope is {times:.1f} times as fast"
        print(f"  {way:15} {per_second:7.0f} a second{beside}")


if __name__ == "__main__":
    main()
