"""Time exact retrieval against the matrix product that it cannot do without.

    PYTHONPATH=src python3 benchmarks/retrieval.py --device cuda

Prints the ratio of search to product, best of a few rounds each, and the memory that the search
takes beside the embeddings.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch

from spotscope.nets.topk import largest
from spotscope.progress import Progress


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--references", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--k", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.manual_seed(0)
    references = normal(options.references, options.width, device)
    queries = normal(options.queries, options.width, device)

    def product() -> None:
        rows = 512 if device.type == "cuda" else 128
        out = torch.empty(rows, len(references), device=device)
        for start in range(0, len(queries), rows):
            part = queries[start : start + rows]
            torch.mm(part, references.T, out=out[: len(part)])

    def search() -> None:
        largest(queries, references, options.k, Progress())

    for work in (product, search):  # the first calls choose kernels
        work()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        search()
        beside = (torch.cuda.max_memory_allocated(device) - before) / 2**30
        print(f"memory beside the embeddings: {beside:.2f} GiB")
    pairs = [(seconds(product, device), seconds(search, device)) for _ in range(options.rounds)]
    alone, whole = min(p for p, _ in pairs), min(s for _, s in pairs)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(
        json.dumps(
            {
                "device": name,
                "queries": options.queries,
                "references": options.references,
                "k": options.k,
                "product_s": round(alone, 4),
                "search_s": round(whole, 4),
                "ratio": round(whole / alone, 3),
                "wanted_at_most": 1.3,
            }
        )
    )


def normal(n: int, width: int, device: torch.device) -> torch.Tensor:
    rows = torch.randn(n, width, device=device)
    return torch.nn.functional.normalize(rows, dim=1)


def seconds(work: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
