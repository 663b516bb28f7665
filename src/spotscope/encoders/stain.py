"""The encoder that needs no weights: what a pathologist's eye counts, measured."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.encoders.base import Encoder, Images, pick_device

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from numpy.typing import NDArray

    Tensor = torch.Tensor
else:
    Tensor = Any

# Raised whenever the features change, so that caches and models of older ones are not mixed in.
VERSION = 2

# Optical density of haematoxylin, eosin and the residual in R, G, B (Ruifrok and Johnston 2001).
STAINS = np.array(
    [
        [0.65, 0.70, 0.29],  # haematoxylin
        [0.07, 0.99, 0.11],  # eosin
        [0.27, 0.57, 0.78],  # the residual, as in scikit-image's `rgb_from_hed`
    ]
)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Nuclei are sought at these Gaussian widths, in pixels of the halved patch (1.47 µm): bright
# blobs of radius sigma * sqrt(2), that is nuclei about 6, 8, 12 and 17 µm wide.
NUCLEUS_SIGMAS = (1.4, 2.0, 2.8, 4.0)
NUCLEUS_CONTRAST = 0.035
PATCH_UM = 165.0
PATCH_PX = 224


class StainEncoder(Encoder):
    """Haematoxylin and eosin statistics, texture at several scales, and nuclei.

    Every figure is a mean over the patch, so that none depends on where in it a thing lies, and
    none changes when the patch is turned by 90 degrees or mirrored.

    The patch is 165 µm wide (224 px of 0.74 µm): a first-generation spot of 100 µm and the rim
    that its neighbours share, or a Visium spot and its neighbours.
    """

    name = "stain"
    patch_um = PATCH_UM
    patch_px = PATCH_PX

    def __init__(self, device: str = "auto") -> None:
        self.device = pick_device(device)
        text = f"{VERSION} {STAINS.tolist()} {QUANTILES} {NUCLEUS_SIGMAS} {NUCLEUS_CONTRAST}"
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def feature_names(self) -> list[str]:
        """What each feature measures, in order."""
        blank = np.full((1, self.patch_px, self.patch_px, 3), 255, dtype=np.uint8)
        return list(self.measure(blank))

    @property
    def width(self) -> int:  # type: ignore[override]
        """The number of features."""
        return len(self.feature_names)

    def encode(self, patches: Images) -> NDArray[np.float32]:
        """Return the features of `patches`, (n, width) float32."""
        patches = self.checked(patches)
        if not len(patches):
            return np.zeros((0, self.width), np.float32)
        # Small batches stay in the processor's cache.
        step = 8 if self.device == "cpu" else 256
        parts = [patches[at : at + step] for at in range(0, len(patches), step)]
        if self.device != "cpu":
            return np.concatenate([self._rows(part) for part in parts])
        with _one_thread_each(min(len(parts), os.cpu_count() or 1)) as pool:
            return np.concatenate(list(pool.map(self._rows, parts)))

    def _rows(self, patches: Images) -> NDArray[np.float32]:
        return np.stack(list(self.measure(patches).values()), axis=1)

    def measure(self, patches: Images) -> dict[str, NDArray[np.float32]]:
        """Return each figure of `patches` by name, (n,) float32 each."""
        import torch

        with torch.inference_mode():
            images = torch.from_numpy(np.ascontiguousarray(patches.transpose(0, 3, 1, 2)))
            figures = _measure(images.to(self.device))
            values = torch.stack(list(figures.values())).cpu().numpy()
        return dict(zip(figures, values, strict=True))


@contextmanager
def _one_thread_each(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Give a pool whose threads do not split their work further.

    Torch would split each of the many small steps over all processors and wait for the slowest;
    patches beside each other need not wait, which matters most on a busy machine.
    """
    import torch

    usual = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(usual)  # a thread's choice is what later threads start with


def separate(images: Tensor) -> Tensor:
    """Return haematoxylin, eosin and residual of uint8 RGB `images`, (n, 3, rows, cols) float32.

    The unit is the decadic optical density: six times what `skimage.color.rgb2hed` gives. A black
    pixel is taken for a nearly black one, 1 of 255, rather than for infinitely dense.
    """
    return _unmixed(_density(images), 3)


def _density(images: Tensor) -> Tensor:
    return images.float().clamp_(min=1.0).div_(255.0).log10_().neg_()


def _unmixed(density: Tensor, stains: int) -> Tensor:
    import torch

    turned = np.linalg.inv(STAINS)
    planes = [
        density[:, 0]
        .mul(float(turned[0, stain]))
        .add_(density[:, 1], alpha=float(turned[1, stain]))
        .add_(density[:, 2], alpha=float(turned[2, stain]))
        .clamp_(min=0.0)
        for stain in range(stains)
    ]
    return torch.stack(planes, dim=1)


def _measure(images: Tensor) -> dict[str, Tensor]:
    from torch.nn.functional import avg_pool2d

    density = _density(images)
    stains = _unmixed(density, 2)
    half = _unmixed(avg_pool2d(density, 2), 3)
    figures: dict[str, Tensor] = {}
    _colours(figures, images)
    _amounts(figures, half)
    _wavelets(figures, stains)
    _fibres(figures, half)
    _patterns(figures, stains, half)
    _nuclei(figures, half[:, 0], half[:, 1])
    return figures


def _colours(figures: dict[str, Tensor], images: Tensor) -> None:
    """Mean and spread of red, green and blue; bare glass by the size of the gap."""
    from torch.nn.functional import avg_pool2d, max_pool2d

    small = avg_pool2d(images.float(), 2).div_(255.0)
    for channel, name in enumerate(("red", "green", "blue")):
        flat = small[:, channel].flatten(1)
        figures[f"{name} mean"] = flat.mean(1)
        square = flat.square().mean(1) - flat.mean(1).square()
        figures[f"{name} spread"] = square.clamp(min=0).sqrt()
    # Slits, lumina and fat: what is left of the glass when the gaps are eroded.
    bare = avg_pool2d((small.amin(1, keepdim=True) > 0.8).float(), 2)
    figures["bare"] = bare.mean((1, 2, 3))
    for size in (3, 7, 13):
        eroded = -max_pool2d(-bare, size, stride=1, padding=size // 2)
        figures[f"bare gaps over {size * 4} px"] = eroded.mean((1, 2, 3))


def _amounts(figures: dict[str, Tensor], half: Tensor) -> None:
    """How much of each stain: mean, spread, asymmetry, quantiles, and the stains together."""
    import torch
    from torch.nn.functional import avg_pool2d

    flat = half.flatten(2)
    mean = flat.mean(2, keepdim=True)
    centred = flat - mean
    spread = centred.square().mean(2).sqrt()
    skew = centred.pow(3).mean(2) / (spread.pow(3) + 1e-6)
    ordered = avg_pool2d(half, 2).flatten(2).sort(dim=2).values
    count = ordered.shape[2]
    for channel, name in enumerate(("haematoxylin", "eosin", "residual")):
        figures[f"{name} mean"] = mean[:, channel, 0]
        figures[f"{name} spread"] = spread[:, channel]
        figures[f"{name} asymmetry"] = skew[:, channel]
        for q in QUANTILES:
            figures[f"{name} quantile {q}"] = ordered[:, channel, round(q * (count - 1))]
    both = (centred[:, 0] * centred[:, 1]).mean(1)
    figures["stains together"] = both / (spread[:, 0] * spread[:, 1] + 1e-6)
    total = mean[:, 0, 0] + mean[:, 1, 0]
    figures["haematoxylin share"] = mean[:, 0, 0] / (total + 1e-3)
    ratio = flat[:, 0] / (flat[:, 0] + flat[:, 1] + 0.05)
    figures["haematoxylin share spread"] = ratio.std(1)
    figures["haematoxylin share mean"] = torch.mean(ratio, 1)


def _wavelets(figures: dict[str, Tensor], stains: Tensor) -> None:
    """Energy of the Haar wavelets at five scales: edges and crossings of each stain, in log."""
    for level in range(5):
        a, b = stains[..., 0::2, 0::2], stains[..., 0::2, 1::2]
        c, d = stains[..., 1::2, 0::2], stains[..., 1::2, 1::2]
        rows, cols, cross = a + b - c - d, a - b + c - d, a - b - c + d
        edges = (rows.square() + cols.square()).mean((2, 3))
        crossings = cross.square().mean((2, 3))
        for channel, name in enumerate(("haematoxylin", "eosin")):
            figures[f"{name} edges {2**level} px"] = (edges[:, channel] + 1e-5).log()
            figures[f"{name} crossings {2**level} px"] = (crossings[:, channel] + 1e-5).log()
        stains = (a + b + c + d) / 4


def _fibres(figures: dict[str, Tensor], half: Tensor) -> None:
    """How far structures run one way, by the structure tensor (Bigün and Granlund 1987)."""
    from torch.nn.functional import avg_pool2d

    grey = half[:, :2].sum(1, keepdim=True)
    for scale in (1, 2, 4):
        if scale > 1:
            grey = avg_pool2d(grey, 2)
        down = grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
        right = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]
        # Cut alike on all sides to whole windows, so that a turned patch gives the same figure.
        window = 8
        rim = down.shape[-1] % window // 2
        down, right = (each[..., rim:-rim, rim:-rim] for each in (down, right))
        along = avg_pool2d(down.square() - right.square(), window)
        across = avg_pool2d(2 * down * right, window)
        energy = avg_pool2d(down.square() + right.square(), window)
        strength = (along.square() + across.square()).sqrt()
        coherence = strength / (energy + 1e-4)
        figures[f"fibres {scale * 2} px"] = coherence.mean((1, 2, 3))
        figures[f"fibres spread {scale * 2} px"] = coherence.flatten(1).std(1)
        whole = (along.mean((1, 2, 3)).square() + across.mean((1, 2, 3)).square()).sqrt()
        figures[f"fibres parallel {scale * 2} px"] = whole / (energy.mean((1, 2, 3)) + 1e-4)


@cache
def _uniform_codes() -> NDArray[np.uint8]:
    """Bin of each 8-bit local binary pattern: ones when uniform (0 to 8), else 9."""
    bins = np.empty(256, dtype=np.uint8)
    for code in range(256):
        bits = [(code >> k) & 1 for k in range(8)]
        changes = sum(bits[k] != bits[k - 1] for k in range(8))
        bins[code] = sum(bits) if changes <= 2 else 9
    return bins


def _patterns(figures: dict[str, Tensor], stains: Tensor, half: Tensor) -> None:
    """Histograms of rotation-invariant uniform local binary patterns (Ojala et al. 2002)."""
    import torch
    from torch.nn.functional import avg_pool2d

    ring = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    bins = torch.nn.functional.one_hot(torch.as_tensor(_uniform_codes()).long(), 10)
    fold = bins.to(device=stains.device, dtype=torch.float32)
    quarter = avg_pool2d(half, 2)
    for name, channel in (("haematoxylin", 0), ("eosin", 1)):
        for scale, image in ((1, stains), (2, half), (4, quarter)):
            plane = image[:, channel]
            n, rows, cols = plane.shape
            centre = plane[:, 1:-1, 1:-1] + 0.02  # so that flat ground is no pattern
            code = torch.zeros(centre.shape, dtype=torch.uint8, device=plane.device)
            for bit, (row, col) in enumerate(ring):
                other = plane[:, 1 + row : rows - 1 + row, 1 + col : cols - 1 + col]
                code |= (other >= centre).to(torch.uint8) << bit
            ahead = 256 * torch.arange(n, dtype=torch.int32, device=plane.device)[:, None]
            counted = torch.bincount((code.flatten(1) + ahead).flatten(), minlength=256 * n)
            shares = counted.view(n, 256).float() @ fold / centre[0].numel()
            for b in range(10):
                figures[f"{name} pattern {b} at {scale} px"] = shares[:, b]


def _blurred(planes: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (n, 1, rows, cols), mirrored at the border."""
    import torch
    from torch.nn.functional import conv2d, pad

    reach = int(np.ceil(3 * sigma))
    at = torch.arange(-reach, reach + 1, dtype=planes.dtype, device=planes.device)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = kernel / kernel.sum()
    mirrored = pad(planes, (reach, reach, reach, reach), mode="reflect")
    return conv2d(conv2d(mirrored, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def _nuclei(figures: dict[str, Tensor], haematoxylin: Tensor, eosin: Tensor) -> None:
    """Count, size, shape, stain and crowding of nuclei: blobs of haematoxylin.

    A nucleus is a local maximum over place and scale of the negative, scale-normalised Laplacian
    of Gaussian (Lindeberg 1998). Its shape is the ratio of the curvatures there.
    """
    import torch
    from torch.nn.functional import avg_pool2d, max_pool2d

    plane = haematoxylin[:, None]
    responses, ratios = [], []
    previous, at = plane, 0.0
    for sigma in NUCLEUS_SIGMAS:
        previous = _blurred(previous, float(np.sqrt(sigma**2 - at**2)))
        at = sigma
        rr = previous[..., 2:, 1:-1] + previous[..., :-2, 1:-1] - 2 * previous[..., 1:-1, 1:-1]
        cc = previous[..., 1:-1, 2:] + previous[..., 1:-1, :-2] - 2 * previous[..., 1:-1, 1:-1]
        rc = previous[..., 2:, 2:] + previous[..., :-2, :-2]
        rc = (rc - previous[..., 2:, :-2] - previous[..., :-2, 2:]) / 4
        responses.append(-(rr + cc) * sigma**2)
        gap = ((rr - cc).square() + 4 * rc.square()).sqrt()
        ratios.append(gap / ((rr + cc).abs() + 1e-4))
    volume = torch.cat(responses, 1)  # (n, scales, rows, cols)
    strongest, scale = volume.max(1, keepdim=True)
    peak = strongest == max_pool2d(strongest, 5, stride=1, padding=2)
    nucleus = (peak & (strongest > NUCLEUS_CONTRAST)).float()
    count = nucleus.sum((1, 2, 3))
    share = 1.0 / count.clamp(min=1.0)
    figures["nuclei"] = (count + 1.0).log()
    figures["nuclei count"] = count
    contrast = (strongest * nucleus).sum((1, 2, 3)) * share
    figures["nuclei contrast"] = contrast
    square = (strongest.square() * nucleus).sum((1, 2, 3)) * share
    figures["nuclei contrast spread"] = (square - contrast.square()).clamp(min=0).sqrt()
    for k, sigma in enumerate(NUCLEUS_SIGMAS):
        figures[f"nuclei of sigma {sigma}"] = ((scale == k) * nucleus).sum((1, 2, 3)) * share
    ratio = torch.cat(ratios, 1).gather(1, scale)
    figures["nuclei elongation"] = (ratio * nucleus).sum((1, 2, 3)) * share
    figures["nuclei elongated"] = ((ratio > 0.45) * nucleus).sum((1, 2, 3)) * share
    for name, stain in (("haematoxylin", haematoxylin), ("eosin", eosin)):
        inside = avg_pool2d(stain[:, None], 3, stride=1, padding=1)[..., 1:-1, 1:-1]
        mean = (inside * nucleus).sum((1, 2, 3)) * share
        figures[f"nuclei {name}"] = mean
        square = (inside.square() * nucleus).sum((1, 2, 3)) * share
        figures[f"nuclei {name} spread"] = (square - mean.square()).clamp(min=0).sqrt()
    dense = avg_pool2d(nucleus, 22)  # windows of 32 µm
    figures["nuclei crowding"] = (dense * 22 * 22).flatten(1).std(1)
    figures["nuclei dense share"] = (dense * 22 * 22 >= 8).float().mean((1, 2, 3))
    solid = (strongest > NUCLEUS_CONTRAST).float()
    figures["nuclear area"] = solid.mean((1, 2, 3))
    rims = (solid[..., 1:, :] != solid[..., :-1, :]).float().mean((1, 2, 3))
    rims = rims + (solid[..., :, 1:] != solid[..., :, :-1]).float().mean((1, 2, 3))
    figures["nuclear rim"] = rims / (figures["nuclear area"] + 0.01)
