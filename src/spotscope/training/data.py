"""What a network is trained on: tables of spots by number, and how batches are drawn."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from spotscope.training.patches import PatchStore

_AHEAD = 2  # parts read from disk while the device works


class SpotTable:
    """Tensors with one row a spot, from which a batch takes rows.

    The spot encoder is called with ``table[index]`` of each table. A method whose encoder needs
    more (neighbours, a graph) extends `spot_inputs`, `image_inputs` and `patches_of`.

    Parameters
    ----------
    tables
        Tensors (N, ...) with a row a spot.
    """

    def __init__(self, *tables: Tensor) -> None:
        self.tables = tables

    def __len__(self) -> int:
        return len(self.tables[0])

    def to(self, device: torch.device) -> None:
        """Move what `spot_inputs` and `image_inputs` take rows from to `device`."""
        self.tables = tuple(table.to(device) for table in self.tables)

    def patches_of(self, index: Tensor) -> Tensor:
        """Return which patches the spots `index` (B,) need, the spots' own first; on the CPU."""
        return index

    def spot_inputs(self, index: Tensor) -> tuple[Tensor, ...]:
        """Return the spot encoder's inputs for spots `index` (B,), on the device."""
        return tuple(table[index] for table in self.tables)

    def image_inputs(self, index: Tensor) -> tuple[Tensor, ...]:
        """Return what the image encoder takes beside the images."""
        return ()


class NeighbourTable(SpotTable):
    """Each spot with its spatial neighbours, for `nets.spots.NeighbourTransformer`.

    Parameters
    ----------
    expression
        (N, G).
    positions
        (N, 2) row and col, in the unit of `pitch`.
    section
        (N,) whole numbers; no neighbour is of another section.
    k
        Neighbours a spot.
    pitch
        Distance of adjacent spots: (N,), or one number.
    """

    def __init__(
        self,
        expression: Tensor,
        positions: Tensor,
        section: Tensor,
        k: int,
        pitch: Tensor | float,
    ) -> None:
        from spotscope.nets.graph import neighbour_table

        table, present = neighbour_table(positions, section, k, include_self=True)
        apart = positions[table] - positions[:, None, :]
        scale = torch.as_tensor(pitch, dtype=apart.dtype).reshape(-1, 1, 1)
        super().__init__(expression, table, (apart / scale).float(), present)

    def spot_inputs(self, index: Tensor) -> tuple[Tensor, ...]:
        """Return expression (B, 1 + k, G), offsets (B, 1 + k, 2) and presence (B, 1 + k)."""
        expression, table, offsets, present = self.tables
        return expression[table[index]], offsets[index], present[index]


@dataclass
class TrainingData:
    """Spots to train or validate on.

    Attributes
    ----------
    spots
        Their tables.
    section
        (N,) whole numbers; batches mix sections in proportion.
    patches
        Their images, patch i for spot i; None for networks without images.
    """

    spots: SpotTable
    section: NDArray[np.int64]
    patches: PatchStore | None = None

    def __post_init__(self) -> None:
        sizes = {len(self.spots), len(self.section)}
        sizes |= {len(self.patches)} if self.patches is not None else set()
        if len(sizes) != 1:
            raise SpotScopeError("Every spot to train on needs a section and, if any, a patch.")

    def __len__(self) -> int:
        return len(self.section)


@dataclass
class Part:
    """The spots of one forward pass.

    Attributes
    ----------
    index
        (B,) spots, on the CPU.
    patches
        (M,) the patches that they need, on the CPU.
    pixels
        (M, px, px, 3) uint8 of these, read ahead; None when the device holds all patches.
    """

    index: Tensor
    patches: Tensor
    pixels: Tensor | None = None


def epoch_batches(
    section: NDArray[np.int64], batch_size: int, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Return an epoch's batches (n, batch_size): each spot at most once, sections in proportion.

    Each section's spots are shuffled and spread evenly over the epoch, so that neither a batch of
    near duplicates nor one of a single section occurs by chance. What does not fill a batch is
    left out, other spots in each epoch. The order depends on the seed and the epoch alone.
    """
    n = len(section)
    batch_size = min(batch_size, n)
    rng = np.random.default_rng([seed, epoch])
    shuffled = rng.permutation(n)
    by_section = shuffled[np.argsort(section[shuffled], kind="stable")]
    codes = section[by_section]
    starts = np.searchsorted(codes, codes, side="left")
    sizes = np.searchsorted(codes, codes, side="right") - starts
    place = (np.arange(n) - starts + rng.random(n)) / sizes
    order = by_section[np.argsort(place)]
    n_batches = n // batch_size
    return order[: n_batches * batch_size].reshape(n_batches, batch_size)


class Batches:
    """The rest of an epoch, as lists of parts; iterable once or more.

    Parameters
    ----------
    data
        The spots.
    batches
        (n, B) spot numbers.
    splits
        Parts a batch.
    read
        Read the pixels here; False when the device holds them.
    ahead
        Read them in a thread of its own, into pinned memory.
    """

    def __init__(
        self,
        data: TrainingData,
        batches: NDArray[np.int64],
        splits: int,
        *,
        read: bool,
        ahead: bool,
    ) -> None:
        self.data = data
        self.batches = batches
        self.splits = splits
        self.read = read
        self.ahead = ahead

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Part]]:
        every = (self.parts(torch.from_numpy(row.copy()), self.splits) for row in self.batches)
        return _read_ahead(every) if self.ahead and self.read else every

    def parts(self, index: Tensor, splits: int) -> list[Part]:
        """Return spots `index` in `splits` parts of nearly the same size."""
        return [self._part(piece) for piece in index.tensor_split(splits)]

    def _part(self, index: Tensor) -> Part:
        patches = self.data.spots.patches_of(index)
        if self.data.patches is None or not self.read:
            return Part(index, patches)
        shape = (len(patches), *self.data.patches.shape)
        out = torch.empty(shape, dtype=torch.uint8, pin_memory=self.ahead)
        return Part(index, patches, self.data.patches.take(patches, out))


def _read_ahead(items: Iterator[list[Part]]) -> Iterator[list[Part]]:
    """Yield `items`, made in a thread that is a few ahead; closing the generator ends it."""
    made: queue.Queue[list[Part] | BaseException | None] = queue.Queue(_AHEAD)
    stop = threading.Event()

    def put(item: list[Part] | BaseException | None) -> None:
        while not stop.is_set():
            try:
                made.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where the items are used
            put(error)

    thread = threading.Thread(target=work, name="spotscope-read-ahead", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
