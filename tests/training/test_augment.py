from __future__ import annotations

import numpy as np
import torch

from spotscope.training.augment import Augmentation, stained, to_images, turned


def noise(n: int = 64, side: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8, generator=generator)


def test_images_are_the_pixels_over_255_channels_last() -> None:
    pixels = noise()
    images = to_images(pixels)
    assert images.shape == (64, 3, 6, 6)
    assert images.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(
        images[5, 1].numpy(), pixels[5, ..., 1].numpy() / np.float32(255)
    )


def test_turning_gives_all_eight_symmetries_and_nothing_else() -> None:
    torch.manual_seed(0)
    one = noise(1)
    eight = {
        np.rot90(side, k).tobytes()
        for side in (one[0].numpy(), one[0].numpy()[::-1])
        for k in range(4)
    }
    seen = {patch.numpy().tobytes() for patch in turned(one.expand(200, -1, -1, -1))}
    assert seen == eight


def test_no_change_of_stain_gives_the_pixels_back() -> None:
    pixels = noise()
    same = stained(pixels, 0.0, 0.0)
    torch.testing.assert_close(same, to_images(pixels), atol=2e-3, rtol=0)
    assert same.is_contiguous(memory_format=torch.channels_last)


def test_stain_changes_differ_between_patches_stay_in_range_and_follow_the_seed() -> None:
    same = noise(1).expand(8, -1, -1, -1)
    change = Augmentation(turns=False, stain=0.2, base=0.05)
    torch.manual_seed(1)
    first = change(same)
    torch.manual_seed(1)
    assert torch.equal(change(same), first)
    assert (first[0] - first[1]).abs().max() > 0.01
    assert first.min() >= 0
    assert first.max() <= 1


def test_more_stain_darkens_tissue_and_leaves_white_white() -> None:
    torch.manual_seed(2)
    pixels = torch.full((50, 2, 2, 3), 255, dtype=torch.uint8)
    pixels[:, 0] = torch.tensor([150, 80, 160], dtype=torch.uint8)
    images = stained(pixels, 0.3, 0.0)
    torch.testing.assert_close(images[:, :, 1], torch.ones(50, 3, 2), atol=1e-5, rtol=0)
    assert images[:, :, 0].std(dim=0).min() > 0.005


def test_pure_haematoxylin_stays_haematoxylin() -> None:
    torch.manual_seed(3)
    stain = torch.tensor([0.650, 0.704, 0.286])
    pixels = ((-0.8 * stain).exp() * 256 - 1).round().to(torch.uint8).expand(20, 2, 2, 3)
    images = stained(pixels, 0.3, 0.0)
    density = -((images[:, :, 0, 0] * 255 + 1) / 256).log()
    amount = density / stain
    np.testing.assert_allclose(amount / amount.mean(dim=1, keepdim=True), 1, atol=0.03)
    assert amount.mean(dim=1).std() > 0.05  # more of it, or less
