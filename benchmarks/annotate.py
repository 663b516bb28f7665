"""Time the annotation core on a section of 500,000 spots.

    PYTHONPATH=src python3 benchmarks/annotate.py

Assignment of 1,000 polygons to the spots is compared with geopandas' spatial join of the same
points and polygons, which everyone has; undo and redo of an import of 500,000 labels and of one of
1,000 regions, journal on disk and synced, with the limit of 100 ms.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import shapely

from spotscope.annotate.document import AnnotationDocument
from spotscope.annotate.regions import Region, spots_in_regions

LIMIT_ASSIGN_S, LIMIT_UNDO_S = 2.0, 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spots", type=int, default=500_000)
    parser.add_argument("--regions", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    side = int(np.ceil(np.sqrt(options.spots)))
    centres = np.stack(np.divmod(np.arange(options.spots), side), 1) * 8.0
    regions = lassoed(rng, options.regions, side * 8.0)
    figures: dict[str, object] = {"spots": options.spots, "regions": options.regions}
    figures |= assignment(centres, regions, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        figures |= travelling(Path(folder), centres, regions, rng)
    print(json.dumps(figures, indent=2))


def lassoed(rng: np.random.Generator, number: int, side: float) -> list[Region]:
    """Draw wavy outlines of 200 points, each about a hundredth of the slide wide."""
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    found = []
    for middle in rng.random((number, 2)) * side:
        waves = 1 + 0.3 * np.sin(np.outer(rng.integers(2, 12, 3), angle)).sum(axis=0) / 3
        ring = middle + (side / 60 * waves)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        found.append(Region(shapely.Polygon(ring), f"class {len(found) % 7}"))
    return found


def assignment(centres: np.ndarray, regions: list[Region], rounds: int) -> dict[str, float | bool]:
    """Time each border rule, and geopandas."""
    import geopandas

    points = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy(*centres.T[::-1]))
    polygons = geopandas.GeoDataFrame(geometry=[r.geometry for r in regions])

    def join() -> None:
        joined = geopandas.sjoin(points, polygons, predicate="intersects")
        joined[~joined.index.duplicated(keep="last")]

    peer = best(join, rounds)
    found: dict[str, float | bool] = {"geopandas_sjoin_s": round(peer, 3)}
    for border in ("centre", "half", "touch"):
        took = best(
            lambda border=border: spots_in_regions(  # type: ignore[misc]
                regions, centres, diameter_px=8.0, border=border
            ),
            rounds,
        )
        found[f"assign_{border}_s"] = round(took, 3)
        found[f"assign_{border}_to_geopandas"] = round(took / peer, 2)
        found[f"assign_{border}_within_limit"] = took < LIMIT_ASSIGN_S
    return found


def travelling(
    folder: Path, centres: np.ndarray, regions: list[Region], rng: np.random.Generator
) -> dict[str, float | bool]:
    """Time each step, and taking it back and doing it again."""
    barcodes = [f"s{number}" for number in range(len(centres))]
    document = AnnotationDocument(
        barcodes, centres, folder / "journal.jsonl", "A", diameter_px=8.0
    )
    labels = {b: f"class {c}" for b, c in zip(barcodes, rng.integers(0, 9, len(barcodes)))}  # noqa: B905
    brush = np.flatnonzero(((centres - centres.mean(axis=0)) ** 2).sum(axis=1) < 300**2)
    found: dict[str, float | bool] = {}
    for name, step in (
        ("import_labels", lambda: document.import_labels(labels, annotator="A", title="Import")),
        ("import_regions", lambda: document.add_regions(regions)),
        ("brush", lambda: document.assign(brush, "tumour")),
        ("rename_class", lambda: document.rename_class("class 1", "stroma")),
        ("remove_regions", lambda: document.remove_regions([r.id for r in regions])),
    ):
        found[f"{name}_s"] = round(best(step, 1), 3)
        for way in ("undo", "redo"):
            took = best(getattr(document, way), 1)
            found[f"{way}_{name}_s"] = round(took, 4)
            found[f"{way}_{name}_within_limit"] = took < LIMIT_UNDO_S
    found["merged_s"] = round(best(document.merged, 3), 3)
    document.close()
    start = time.perf_counter()
    AnnotationDocument(barcodes, centres, folder / "journal.jsonl", "A").close()
    found["open_again_s"] = round(time.perf_counter() - start, 3)
    return found


def best(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
