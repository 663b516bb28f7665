from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spotscope.errors import Cancelled, SpotScopeError
from spotscope.progress import Progress
from spotscope.slide.levels import PixelLevel
from spotscope.slide.patches import read_patches
from spotscope.slide.slide import Slide
from spotscope.training.patches import PatchStore


@pytest.fixture
def slide() -> Slide:
    pixels = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    return Slide(Path("made"), "made", [PixelLevel(pixels)], (1.0,), mpp_um=1.0)


def test_patches_are_taken_by_number_across_sections() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3), dtype=np.uint8)
    store = PatchStore([pixels[:1], pixels[1:12], pixels[12:]])
    index = torch.tensor([29, 0, 12, 11, 0, 1])
    np.testing.assert_array_equal(store.take(index).numpy(), pixels[index.numpy()])
    np.testing.assert_array_equal(store.on_device(torch.device("cpu")).numpy(), pixels)
    assert (len(store), store.nbytes) == (30, pixels.nbytes)


def test_a_section_is_cut_once_and_kept_in_a_memory_mapped_file(
    slide: Slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    centres = np.random.default_rng(1).uniform(0, 400, (300, 2))
    store = PatchStore.cut([(slide, centres), (slide, centres[:9])], 32, 16, folder=tmp_path)
    expected = read_patches(slide, centres, 32, 16)
    np.testing.assert_array_equal(store.parts[0], expected)
    assert isinstance(store.parts[0], np.memmap)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr("spotscope.slide.patches.iter_patches", None)
    again = PatchStore.cut([(slide, centres)], 32, 16, folder=tmp_path)
    np.testing.assert_array_equal(again.parts[0], expected)
    with pytest.raises(TypeError):
        PatchStore.cut([(slide, centres)], 33, 16, folder=tmp_path)


def test_a_cancelled_cut_leaves_nothing(slide: Slide, tmp_path: Path) -> None:
    progress = Progress(lambda step: progress.cancel.set() if step.fraction > 0.3 else None)
    with pytest.raises(Cancelled):
        PatchStore.cut([(slide, np.full((600, 2), 100.0))], 32, 16, progress, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_patches_of_two_sizes_are_refused() -> None:
    with pytest.raises(SpotScopeError, match="of one size"):
        PatchStore([np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 5, 5, 3), np.uint8)])


def test_patches_stay_on_a_gpu_when_they_fill_less_than_half_of_what_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = PatchStore([np.zeros((10, 4, 4, 3), np.uint8)])
    for free, fits in ((2 * store.nbytes, False), (2 * store.nbytes + 2, True)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device, free=free: (free, 10**9))
        assert store.fits(torch.device("cuda:0")) == fits
    assert not store.fits(torch.device("cpu"))  # the page cache holds them
