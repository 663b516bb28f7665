"""Save the annotations of a section into its SpatialData store.

What is written, each part swapped in whole:

- `tables/table/obs`: a categorical column for each annotator, and `subtype`, the merged labels
  without the class to exclude; the counts are not touched
- `shapes/annotations`: the drawn regions with class, colour, annotator and id
- the attribute `spotscope_annotations` of the root: key of the save, classes; written last

A kill in between leaves each part as it was or as it is to be, so that the store opens, and the
journal still has every edit.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import uuid
import warnings
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from spotscope.annotate.opening import ATTRIBUTE, ELEMENT, FORMAT, OBS
from spotscope.data.run_elements import consolidate
from spotscope.data.section import SUBTYPE
from spotscope.data.store import ATTRIBUTE as SECTION_ATTRIBUTE
from spotscope.data.store import root_attributes
from spotscope.errors import SpotScopeError
from spotscope.files import staging_folder, swap_folder, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from spotscope.annotate.document import AnnotationDocument
    from spotscope.annotate.state import State
    from spotscope.data.section import Section

COLUMN = "annotation_"
"""How the column of an annotator begins."""


def save_annotations(section: Section, document: AnnotationDocument) -> None:
    """Save a section's annotations into its store, whole or not at all.

    Nothing but a later save changes what was saved: undo changes the document, which then has
    something unsaved. The section's spots in memory get the new columns too.

    Raises
    ------
    SpotScopeError
        When the section has no store of SpotScope, another window is annotating it, the disk is
        full, or the store cannot be written.
    """
    saving = Saving(section, document)
    saving.write()
    saving.finish()


class Saving:
    """A save of what there is at this moment; edits may go on while it is written.

    Begin and `finish` belong to the thread that edits, `write` to any. A save that is not
    finished leaves the document as unsaved as it was.

    Parameters
    ----------
    section
        Whose store is written.
    document
        Its annotations.

    Raises
    ------
    SpotScopeError
        When the section has no store of SpotScope, or another window is annotating it.
    """

    def __init__(self, section: Section, document: AnnotationDocument) -> None:
        self._section, self._document = section, document
        self._store = _store_of(section, document)
        self._key = uuid.uuid4().hex
        self._annotator = document.annotator
        self._state = document.begin_saving(self._key)
        self._columns = _columns(self._state, self._annotator)

    def write(self) -> None:
        """Write into the store, whole or not at all.

        Raises
        ------
        SpotScopeError
            When the disk is full or the store cannot be written.
        """
        section, state = self._section, self._state
        with staging_folder(self._store, "annotations") as stage:
            new: dict[str, Path | None] = {}
            if section.has_spots:
                new[OBS] = obs = stage / "obs"
                barcodes = self._document.barcodes
                _write_obs(self._store / OBS, obs, barcodes, self._columns, self._key)
            new[f"shapes/{ELEMENT}"] = stage / "shapes" if state.drawn else None
            if state.drawn:
                _write_shapes(stage / "shapes", state, section.mpp_um)
            about = {
                "format": FORMAT,
                "save": self._key,
                "saved": datetime.now().astimezone().isoformat(timespec="seconds"),
                "annotator": self._annotator,
                "classes": state.vocabulary.model_dump(),
            }
            _swap_in(self._store, stage, new, about)

    def finish(self) -> None:
        """Let the document and the spots in memory know what the store has now."""
        self._document.end_saving(self._key)
        if self._section.has_spots:
            _renew(self._section, self._columns)


def _store_of(section: Section, document: AnnotationDocument) -> Path:
    kept = f" until then they are kept in '{document.journal}'" if document.journal else ""
    if section.store is None:
        raise SpotScopeError(
            f"'{section.name}' is a slide alone, without a store to save annotations in; import it"
            f" first (spotscope import);{kept or ' or export them as GeoJSON'}."
        )
    if SECTION_ATTRIBUTE not in root_attributes(section.store):
        raise SpotScopeError(
            f"'{section.store.name}' is the store of another program, which SpotScope leaves as it"
            f" is; import it to save annotations;{kept or ' or export them as GeoJSON'}."
        )
    return section.store


def _columns(state: State, annotator: str) -> dict[str, Any]:
    """Return the columns of `obs` by annotator, and the merged one by the name None stands for."""
    names: dict[str, str] = {}
    for who, own in state.labels.items():
        if any(name is not None for name in own.tolist()):
            base = COLUMN + re.sub(r"[^\w.-]+", "-", who)
            taken, name, count = set(names.values()), base, 1
            while name in taken:
                count += 1
                name = f"{base}-{count}"
            names[who] = name
    columns = {names[who]: _categorical(state.labels[who], state) for who in names}
    merged = state.merged(annotator)
    excluded = state.vocabulary.excluded
    if excluded is not None:
        merged[merged == excluded] = None
    if any(name is not None for name in merged.tolist()):
        columns[SUBTYPE] = _categorical(merged, state)
    return {"annotators": names, "columns": columns}


def _categorical(labels: NDArray[np.object_], state: State) -> pd.Categorical:
    """Return labels with the classes that occur, in the order of the vocabulary."""
    import pandas as pd

    found = set(labels.tolist())
    return pd.Categorical(labels, [n for n in state.vocabulary.names if n in found])


def _write_obs(
    old: Path, new: Path, barcodes: list[str], columns: dict[str, Any], key: str
) -> None:
    """Copy the table of spots with new columns in place of those of an earlier save."""
    import zarr
    from anndata.io import read_elem, write_elem

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zarr, about the encoding of strings
        _copy(old, new)
        obs: Any = zarr.open_group(new, mode="r+", use_consolidated=False)
        if [str(b) for b in read_elem(obs[obs.attrs["_index"]])] != barcodes:
            raise SpotScopeError(
                "The store has other spots than this section has here; open the store itself to"
                " annotate and save."
            )
        earlier = {SUBTYPE, *obs.attrs.get(ATTRIBUTE, {}).get("annotators", {}).values()}
        order = [name for name in obs.attrs["column-order"] if name not in earlier]
        for name in earlier | columns["columns"].keys():
            if name in obs:
                del obs[name]
        for name, values in columns["columns"].items():
            write_elem(obs, name, values)
        kept = [name for name in order if name not in columns["columns"]]
        obs.attrs.update(
            {
                "column-order": [*kept, *columns["columns"]],
                ATTRIBUTE: {"save": key, "annotators": columns["annotators"]},
            }
        )


def _copy(old: Path, new: Path) -> None:
    """Copy a folder; unlike `shutil.copytree`, stop at the first refusal and say why."""
    new.mkdir()
    for path in old.iterdir():
        if path.is_dir():
            _copy(path, new / path.name)
        else:
            shutil.copyfile(path, new / path.name)


def _write_shapes(folder: Path, state: State, mpp_um: float | None) -> None:
    """Write the regions as SpatialData's own writer does, which takes seconds to import.

    SpatialData puts the corner of pixel (0, 0) at 0 and this project its centre, so the regions
    lie half a pixel further.
    """
    import geopandas
    import shapely

    known = {c.name: c.colour for c in state.vocabulary.classes}
    regions = state.drawn
    table = geopandas.GeoDataFrame(
        {
            "geometry": [shapely.transform(r.geometry, lambda xy: xy + 0.5) for r in regions],
            "subtype": [r.subtype or "" for r in regions],
            "colour": [known.get(r.subtype or "", "") for r in regions],
            "annotator": [r.annotator or "" for r in regions],
            "extra": [json.dumps(r.extra, ensure_ascii=False) for r in regions],
        },
        index=[r.id for r in regions],
    )
    folder.mkdir()
    # Through memory, so that a full disk is met by plain Python, which says so.
    content = io.BytesIO()
    table.to_parquet(content)
    (folder / "shapes.parquet").write_bytes(content.getvalue())
    attributes = {
        "encoding-type": "ngff:shapes",
        "axes": ["x", "y"],
        "coordinateTransformations": list(_systems(mpp_um)),
        "spatialdata_attrs": {"version": "0.3"},
    }
    group = {"attributes": attributes, "zarr_format": 3, "node_type": "group"}
    (folder / "zarr.json").write_text(json.dumps(group, indent=2))


def _systems(mpp_um: float | None) -> Iterable[dict[str, Any]]:
    axes = [{"name": name, "type": "space", "unit": "unit"} for name in ("x", "y")]

    def ends(system: str) -> dict[str, Any]:
        return {
            "input": {"name": "xy", "axes": axes},
            "output": {"name": system, "axes": axes},
        }

    yield {"type": "identity", **ends("global")}
    if mpp_um is not None:
        yield {"type": "scale", "scale": [mpp_um, mpp_um], **ends("micrometres")}


def _swap_in(store: Path, stage: Path, new: dict[str, Path | None], about: dict[str, Any]) -> None:
    """Put new folders in place of old ones and write the root; when that fails, put them back."""
    put_back: list[Callable[[], object]] = []
    try:
        for name, folder in new.items():
            target = store / name
            if folder is None:
                gone = stage / "gone"
                if target.exists():
                    target.rename(gone)
                    put_back.append(partial(gone.rename, target))
            elif target.exists():
                swap_folder(folder, target)
                put_back.append(partial(swap_folder, folder, target))
            else:
                _as_group(target.parent)
                folder.rename(target)
                put_back.append(partial(target.rename, folder))
        consolidate(store, {ATTRIBUTE: about})
    except BaseException:
        for step in reversed(put_back):
            step()
        raise


def _as_group(folder: Path) -> None:
    if not (folder / "zarr.json").exists():
        folder.mkdir(exist_ok=True)
        group = {"attributes": {}, "zarr_format": 3, "node_type": "group"}
        write_json(folder / "zarr.json", group)


def _renew(section: Section, columns: dict[str, Any]) -> None:
    """Give the spots in memory the columns that the store has now."""
    spots = section.measured()
    earlier = [name for name in spots.obs if name == SUBTYPE or str(name).startswith(COLUMN)]
    obs = spots.obs.drop(columns=earlier)
    for name, values in columns["columns"].items():
        obs[name] = values
    spots.obs = obs
