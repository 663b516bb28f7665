"""Import of one first-generation section: time and peak memory, beside the plain way.

The plain way is Pillow's decode of the whole picture, a table by pandas, and SpatialData's own
parser and writer. Each runs in a process of its own, in turn, so that a noisy machine disturbs
both; the ratios are of the best figures.

    python benchmarks/import_section.py COUNTS.tsv.gz [--runs 3]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

MEASURE = """
import resource, sys, time
from pathlib import Path
source, out = Path(sys.argv[1]), Path(sys.argv[2])
{imports}
started, worked = time.perf_counter(), time.process_time()
{work}
seconds, cpu = time.perf_counter() - started, time.process_time() - worked
scale = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
print(seconds, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9)
"""

OURS = MEASURE.format(
    imports="from spotscope.data.importing import import_section",
    work="import_section(source, out)",
)

PLAIN = MEASURE.format(
    imports="import anndata, numpy, pandas, scipy.sparse, spatialdata\n"
    "from PIL import Image\n"
    "Image.MAX_IMAGE_PIXELS = None",
    work="""
name = source.name.split(".")[0]
folder = source.parent.parent
pixels = numpy.asarray(Image.open(folder / "images" / f"{name}.jpg"))
image = spatialdata.models.Image2DModel.parse(
    numpy.moveaxis(pixels, -1, 0), dims=("c", "y", "x"), scale_factors=[2, 2, 2, 2]
)
counts = pandas.read_csv(source, sep="\\t", index_col=0)
spots = pandas.read_csv(folder / "spots" / f"{name}_selection.tsv", sep="\\t")
spots.index = [f"{x}x{y}" for x, y in zip(spots["x"], spots["y"])]
xy = spots.loc[counts.index, ["pixel_x", "pixel_y"]].to_numpy()
circles = spatialdata.models.ShapesModel.parse(xy, geometry=0, radius=72.0)
table = anndata.AnnData(scipy.sparse.csr_matrix(counts.to_numpy()))
table.obs["region"] = pandas.Categorical(["spots"] * table.n_obs)
table.obs["instance_id"] = range(table.n_obs)
table = spatialdata.models.TableModel.parse(
    table, region="spots", region_key="region", instance_key="instance_id"
)
spatialdata.SpatialData(
    images={"slide": image}, shapes={"spots": circles}, tables={"table": table}
).write(out)
""",
)


def measure(code: str, source: Path) -> list[float]:
    """Return seconds, seconds of processor and gigabytes of one run in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, str(source), f"{folder}/out.zarr"],
            capture_output=True,
            text=True,
            check=True,
        )
    return [float(figure) for figure in done.stdout.splitlines()[-1].split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    best: dict[str, list[float]] = {}
    for run in range(asked.runs):
        for name, code in (("SpotScope", OURS), ("plain Pillow and SpatialData", PLAIN)):
            figures = measure(code, asked.counts)
            seconds, cpu, gigabytes = figures
            print(
                f"run {run + 1}  {name}: {seconds:.1f} s ({cpu:.1f} s of processor), peak"
                f" {gigabytes:.2f} GB",
                flush=True,
            )
            best[name] = [min(pair) for pair in zip(best.get(name, figures), figures, strict=True)]
    ours, plain = best.values()
    time, cpu, memory = (a / b for a, b in zip(ours, plain, strict=True))
    print(f"of the plain way: time {time:.2f}, processor {cpu:.2f}, memory {memory:.2f}")


if __name__ == "__main__":
    main()
