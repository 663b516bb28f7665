"""SpotScope in napari: the workspace that docks and scripts share, the layers, the docks.

```python
import napari
from spotscope.plugin import open_section, show_gene, show_run

viewer = napari.Viewer()
open_section(viewer, "C2.zarr")
show_gene(viewer, "ERBB2")
show_gene(viewer, "ERBB2", view="error")
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spotscope.plugin.drawing import workspace_of
    from spotscope.plugin.script import open_section, show_gene, show_run
    from spotscope.plugin.snapshot import capture_window

__all__ = ["capture_window", "open_section", "show_gene", "show_run", "workspace_of"]

_HOMES = {
    "capture_window": "snapshot",
    "open_section": "script",
    "show_gene": "script",
    "show_run": "script",
    "workspace_of": "drawing",
}


def __getattr__(name: str) -> Any:
    """Import a public function when it is first asked for, so that targets stay light."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
