"""All patches of a run, decoded once: bytes in memory-mapped files, or on the device."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from spotscope.errors import SpotScopeError
from spotscope.files import cache_folder, written_beside
from spotscope.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from spotscope.slide.slide import Slide

_CHUNK = 128  # patches between two looks at the cancel flag


class PatchStore:
    """RGB patches by number, one array a section.

    Parameters
    ----------
    parts
        Arrays (n_i, px, px, 3) uint8, in memory or memory-mapped; patch numbers run through them.
    """

    def __init__(self, parts: Sequence[NDArray[np.uint8]]) -> None:
        shapes = {part.shape[1:] for part in parts}
        if len(shapes) != 1 or any(p.dtype != np.uint8 or p.ndim != 4 for p in parts):
            raise SpotScopeError("All patches of a run must be 8-bit RGB and of one size.")
        self.parts = list(parts)
        self.shape = shapes.pop()
        self.starts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def nbytes(self) -> int:
        """Bytes of all patches."""
        return sum(part.nbytes for part in self.parts)

    def take(self, index: Tensor, out: Tensor | None = None) -> Tensor:
        """Return patches `index` (m,), a CPU tensor, as (m, px, px, 3) uint8."""
        numbers = index.numpy()
        if out is None:
            out = torch.empty((len(numbers), *self.shape), dtype=torch.uint8)
        target = out.numpy()
        owner = np.searchsorted(self.starts, numbers, side="right") - 1
        for part in np.unique(owner):
            rows = np.flatnonzero(owner == part)
            target[rows] = self.parts[part][numbers[rows] - self.starts[part]]
        return out

    def on_device(self, device: torch.device) -> Tensor:
        """Return all patches (n, px, px, 3) on `device`, copied there part by part."""
        whole = torch.empty((len(self), *self.shape), dtype=torch.uint8, device=device)
        for part, start in zip(self.parts, self.starts[:-1], strict=True):
            for at in range(0, len(part), _CHUNK):
                rows = torch.from_numpy(np.array(part[at : at + _CHUNK]))
                whole[start + at : start + at + len(rows)] = rows.to(device)
        return whole

    def fits(self, device: torch.device) -> bool:
        """Say whether the patches fill less than half of what is free on `device`, a GPU."""
        if device.type != "cuda":
            return False  # main memory already holds them, in the page cache
        return self.nbytes < torch.cuda.mem_get_info(device)[0] / 2

    @classmethod
    def cut(
        cls,
        sections: Sequence[tuple[Slide, NDArray[np.float64]]],
        size_um: float,
        output_px: int,
        progress: Progress | None = None,
        folder: Path | None = None,
    ) -> PatchStore:
        """Cut the patches of `sections` once and keep them in files.

        Parameters
        ----------
        sections
            Each slide with its patches' centres (n, 2), row and col in level-0 pixels.
        size_um, output_px
            Width of a patch on the tissue and in pixels.
        folder
            Where the files are kept; None for the cache. A section that was cut before with the
            same slide, centres and size is not cut again.
        """
        folder = folder or cache_folder() / "patches"
        progress = progress or Progress()
        total = max(1, sum(len(centres) for _, centres in sections))
        done, parts = 0, []
        for slide, centres in sections:
            path = folder / f"{_key(slide, centres, size_um, output_px)}.npy"
            if not path.exists():
                span = progress.part(done / total, (done + len(centres)) / total)
                _cut_section(path, slide, centres, size_um, output_px, span)
            parts.append(np.load(path, mmap_mode="r"))
            done += len(centres)
        return cls(parts)


def _cut_section(
    path: Path,
    slide: Any,
    centres: NDArray[np.float64],
    size_um: float,
    output_px: int,
    progress: Progress,
) -> None:
    from spotscope.slide.patches import iter_patches

    shape = (len(centres), output_px, output_px, 3)
    with written_beside(path) as beside:
        target = np.lib.format.open_memmap(beside, mode="w+", dtype=np.uint8, shape=shape)
        done, message = 0, f"Cutting the patches of {slide.name}"
        progress.report(0.0, message)
        for index, pixels in iter_patches(slide, centres, size_um, output_px, batch=_CHUNK):
            target[index] = pixels
            done += len(index)
            progress.report(done / len(centres), message)
        target.flush()


def _key(slide: Any, centres: NDArray[np.float64], size_um: float, output_px: int) -> str:
    digest = hashlib.sha256(f"1 {slide.fingerprint} {slide.mpp_um} {size_um} {output_px}".encode())
    digest.update(np.ascontiguousarray(centres, dtype=np.float64).tobytes())
    return digest.hexdigest()[:32]
