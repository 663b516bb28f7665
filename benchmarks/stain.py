"""How fast `stain` encodes, beside the usual per-patch recipe in scikit-image, in one run.

The peer does a part of what `stain` does (colour deconvolution with mean, spread and quantiles of
haematoxylin and eosin, and one local binary pattern histogram of each), patch after patch, with
as many threads as there are processors. `python benchmarks/stain.py [PATCHES]`
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2hed
from skimage.feature import local_binary_pattern

from spotscope.encoders.stain import StainEncoder


def tissue(count: int, px: int, seed: int = 0) -> np.ndarray:
    """Return patches with the colours and the grain of H&E, (count, px, px, 3) uint8."""
    rng = np.random.default_rng(seed)
    base = np.array([225, 165, 200.0]) - np.array([120, 110, 55.0]) * (
        gaussian_filter(rng.normal(size=(16, px, px)), (0, 3, 3))[..., None] > 0.06
    )
    patches = base + rng.normal(0, 8, base.shape)
    return np.resize(patches.clip(0, 255).astype(np.uint8), (count, px, px, 3))


def peer(patch: np.ndarray) -> np.ndarray:
    """Return the usual features of one patch."""
    stains = rgb2hed(patch)
    figures = []
    for channel in (0, 1):
        plane = stains[..., channel]
        figures += [plane.mean(), plane.std(), *np.quantile(plane, (0.05, 0.25, 0.5, 0.75, 0.95))]
        codes = local_binary_pattern((plane * 2000).clip(0, 255).astype(np.uint8), 8, 1, "uniform")
        figures += list(np.bincount(codes.astype(int).ravel(), minlength=10) / codes.size)
    return np.array(figures)


def rate(work: Callable[[], object], count: int) -> tuple[float, float]:
    """Return the best of three rates: patches a second by the clock, and by processor time."""
    clock, processor = [], []
    for _ in range(3):
        began, used = time.perf_counter(), time.process_time()
        work()
        clock.append(time.perf_counter() - began)
        processor.append(time.process_time() - used)
    return count / min(clock), count / min(processor)


def main() -> None:
    """Print both rates and their ratio."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    cores = os.cpu_count() or 1
    encoder = StainEncoder("cpu")
    patches = tissue(count, encoder.patch_px)
    encoder.encode(patches[:16])
    ours, ours_processor = rate(lambda: encoder.encode(patches), count)
    with ThreadPoolExecutor(cores) as pool:
        theirs, theirs_processor = rate(lambda: list(pool.map(peer, patches)), count)
    print(f"{count} patches of {encoder.patch_px} px, {cores} processors")
    print("                                patches/s   per processor-second   features")
    print(
        f"stain                         {ours:11.0f}   {ours_processor:20.0f} {encoder.width:10d}"
    )
    width = len(peer(patches[0]))
    print(f"scikit-image rgb2hed and LBP  {theirs:11.0f}   {theirs_processor:20.0f} {width:10d}")
    faster = ours_processor / theirs_processor
    print(f"ratio                         {ours / theirs:11.2f}   {faster:20.2f}")


if __name__ == "__main__":
    main()
