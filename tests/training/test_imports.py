from __future__ import annotations

import subprocess
import sys


def test_training_and_networks_import_where_only_torch_and_its_kin_are_installed() -> None:
    script = """
import sys, importlib
absent = ("anndata scanpy spatialdata zarr napari scvi pydantic dask tifffile openslide skimage"
          " pandas qtpy sklearn statsmodels platformdirs").split()
for name in absent:
    sys.modules[name] = None
for name in ("nets.image nets.projection nets.spots nets.graph nets.gcn nets.hsic nets.counts"
             " nets.contrastive nets.topk nets.retrieval nets.glm training.settings"
             " training.augment training.patches training.data training.models training.state"
             " training.engine training.loop training.embed training.figures training.frozen"
             " training.graphs training.classifier training.memory").split():
    importlib.import_module("spotscope." + name)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
