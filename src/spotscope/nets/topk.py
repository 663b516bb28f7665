"""Exact largest-k scores of queries against many references, in bounded memory.

``torch.topk`` over a row of a million scores costs more than the product that made them. So each
row is cut into strided groups of g columns; the k groups with the largest maxima hold the k
largest scores (a score outside them is below k group maxima), and only their k * g members are
searched. That leaves one pass over the scores beside the product.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spotscope.progress import Progress

CPU_BUDGET = 256 << 20
GPU_BUDGET = 2 << 30
_QUERIES = 1024  # a block that keeps the product efficient


def largest(
    queries: Tensor, references: Tensor, k: int, progress: Progress, budget: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the `k` largest ``queries @ references.T`` of each row, largest first.

    Parameters
    ----------
    queries
        (Q, d) float32.
    references
        (N, d) float32 on the same device, ``k <= N``.
    budget
        Bytes for the scores of a block; None for 256 MB on a CPU, 2 GB on a GPU.

    Returns
    -------
    scores, index
        (Q, k) float32 and int64.
    """
    if budget is None:
        budget = CPU_BUDGET if queries.device.type == "cpu" else GPU_BUDGET
    rows = max(1, min(_QUERIES, len(queries)))
    columns = max(k, min(len(references), budget // (4 * rows)))
    if columns < len(references):  # fewer, wider blocks: the search costs less the wider they are
        rows = max(1, min(rows, max(128, budget // (4 * len(references)))))
        columns = max(k, min(len(references), budget // (4 * rows)))
    scores = torch.empty((len(queries), k), device=queries.device)
    index = torch.empty((len(queries), k), device=queries.device, dtype=torch.int64)
    buffer = torch.empty(rows * columns, device=queries.device)
    with _full_float32():
        for start in range(0, len(queries), rows):
            part = slice(start, min(start + rows, len(queries)))
            found = _largest_of_block(queries[part], references, k, columns, buffer, progress)
            scores[part], index[part] = found
            progress.report(part.stop / len(queries), "Searching the reference spots")
    return scores, index


def _largest_of_block(
    queries: Tensor, references: Tensor, k: int, columns: int, buffer: Tensor, progress: Progress
) -> tuple[Tensor, Tensor]:
    best: tuple[Tensor, Tensor] | None = None
    for start in range(0, len(references), columns):
        part = references[start : start + columns]
        product = buffer[: len(queries) * len(part)].view(len(queries), len(part))
        torch.mm(queries, part.T, out=product)
        progress.check()
        scores, index = largest_of_rows(product, min(k, len(part)))
        index += start
        if best is not None:
            both = torch.cat([best[0], scores], dim=1), torch.cat([best[1], index], dim=1)
            scores, chosen = both[0].topk(k, dim=1)
            index = both[1].gather(1, chosen)
        best = scores, index
    assert best is not None
    return best


def largest_of_rows(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the `k` largest of each row of `scores` (Q, n) and their columns, largest first.

    Groups are strided (column c, c + n/g, c + 2n/g, ...), so that their maxima are taken with
    whole rows at a time. ``g = sqrt(n/k)`` balances the two searches.
    """
    n = scores.shape[1]
    size = int(math.sqrt(n / k))
    if size < 4:
        return scores.topk(k, dim=1)
    n_groups = n // size
    grouped = scores[:, : n_groups * size].unflatten(1, (size, n_groups))
    groups = grouped.amax(dim=1).topk(k, dim=1, sorted=False).indices  # (Q, k)
    members = grouped.gather(2, groups[:, None, :].expand(-1, size, -1)).flatten(1)
    rest = scores[:, n_groups * size :]
    best, place = torch.cat([members, rest], dim=1).topk(k, dim=1)
    inside = place < size * k
    slot = place.clamp(max=size * k - 1)
    column = groups.gather(1, slot % k) + (slot // k) * n_groups
    return best, torch.where(inside, column, place - size * k + n_groups * size)


@contextmanager
def _full_float32() -> Iterator[None]:
    """Keep products in full float32, whatever a training run has set."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
