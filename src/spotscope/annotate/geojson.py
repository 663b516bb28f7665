"""GeoJSON both ways with QuPath, and other viewers' GeoJSON and NDPA in.

These files put the corner of pixel (0, 0) at 0 and this project its centre: half a pixel is taken
off on the way in and put back on the way out, which doubles hold exactly.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import shapely
from shapely.geometry import mapping, shape

from spotscope.annotate.regions import Region, mended
from spotscope.annotate.vocabulary import Vocabulary, colour_from_qupath
from spotscope.errors import SpotScopeError
from spotscope.files import write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Unit = Literal["px", "um"]

ANNOTATOR = "annotator"
"""Key of a feature's ``metadata`` under which QuPath keeps who drew it."""


def read_geojson(
    path: Path,
    shape_px: tuple[int, int] | None = None,
    *,
    mpp_um: float | None = None,
    unit: Unit = "px",
) -> tuple[list[Region], dict[str, str], list[str]]:
    """Read regions from GeoJSON: a FeatureCollection, a list of Features, or a bare Feature.

    Parameters
    ----------
    path
        File of QuPath or of another viewer; coordinates are (x, y).
    shape_px
        (rows, cols) of the slide, to catch coordinates that are not of it.
    mpp_um
        Micrometres per level-0 pixel of the slide.
    unit
        Of the coordinates: level-0 pixels or micrometres.

    Returns
    -------
    The regions, with who drew them where the file says so, the colour of each class that states
    one, and notes on what was left out or mended.

    Raises
    ------
    SpotScopeError
        When the file is not GeoJSON, holds no areas, lies off the slide, or is in micrometres and
        nothing states the slide's scale.
    """
    name = Path(path).name
    if unit == "um" and mpp_um is None:
        raise SpotScopeError(
            f"Nothing states how many µm a pixel of this slide is, so the µm of '{name}' cannot be"
            " placed; import the section with its scale (--mpp)."
        )
    px_per_unit = 1.0 if unit == "px" or mpp_um is None else 1 / mpp_um
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        features = list(_features(content))
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise SpotScopeError(
            f"'{name}' is not GeoJSON; in QuPath choose File → Export objects as GeoJSON."
        ) from error
    regions: list[Region] = []
    colours: dict[str, str] = {}
    skipped = crossing = 0
    met = Counter(str(feature.get("id")) for feature in features)
    for feature in features:
        geometry = _geometry(feature, name)
        if geometry.geom_type not in ("Polygon", "MultiPolygon"):
            skipped += 1
            continue
        crossing += not geometry.is_valid
        properties = dict(feature.get("properties") or {})
        subtype, colour = _classification(properties)
        if subtype and colour:
            colours.setdefault(subtype, colour)
        kept: dict[str, Any] = {"properties": properties}
        if "plane" in feature["geometry"]:
            kept["plane"] = feature["geometry"]["plane"]
        # Old QuPath gave every object the id of its kind, which tells none apart.
        own = str(feature.get("id"))
        told = own not in ("None", "PathAnnotationObject") and met[own] == 1
        given = {"id": own} if told else {}
        area = _moved(mended(geometry), px_per_unit)
        who = _annotator(properties)
        regions.append(Region(area, subtype, extra=kept, annotator=who, **given))
    notes = []
    if skipped:
        notes.append(
            f"{skipped} points and lines were left out: they have no area."
            if skipped > 1
            else "A point or line was left out: it has no area."
        )
    if crossing:
        notes.append(
            f"{crossing} outlines crossed themselves and were mended."
            if crossing > 1
            else "An outline crossed itself and was mended."
        )
    if not regions:
        raise SpotScopeError(f"'{name}' holds no areas to import; draw polygons and export again.")
    if shape_px is not None:
        _check_on_slide(regions, shape_px, name, mpp_um if unit == "px" else None)
    return regions, colours, notes


def write_geojson(
    regions: Iterable[Region], vocabulary: Vocabulary, path: Path, *, mpp_um: float | None = None
) -> None:
    """Write regions as a FeatureCollection that QuPath opens.

    Coordinates are level-0 pixels; what an import brought along (planes, measurements, names) is
    written back. Who drew a region stands in its ``metadata``, the one place where QuPath keeps
    what it does not know, as texts. `mpp_um` is stated beside the features for readers that want
    micrometres.
    """
    features = []
    for region in regions:
        geometry = json.loads(
            json.dumps(mapping(shapely.transform(region.geometry, lambda xy: xy + 0.5)))
        )  # tuples to lists
        if "plane" in region.extra:
            geometry["plane"] = region.extra["plane"]
        properties = dict(region.extra.get("properties", {}))
        properties.setdefault("objectType", "annotation")
        properties.pop("classification", None)
        if region.annotator is not None:
            known_too = properties.get("metadata")
            others = known_too if isinstance(known_too, dict) else {}
            properties["metadata"] = {**others, ANNOTATOR: region.annotator}
        if region.subtype is not None:
            known = vocabulary.get(region.subtype)
            colour = known.colour if known else "#808080"
            rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
            properties["classification"] = {"name": region.subtype, "color": rgb}
        features.append(
            {"type": "Feature", "id": region.id, "geometry": geometry, "properties": properties}
        )
    content: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    content["spotscope"] = {"units": "pixel", "mpp_um": mpp_um}
    write_json(Path(path), content)


def read_ndpa(
    path: Path, mpp_um: float, shape_px: tuple[int, int], offset_nm: tuple[float, float] = (0, 0)
) -> tuple[list[Region], dict[str, str], list[str]]:
    """Read closed regions of a Hamamatsu NDPA file.

    Parameters
    ----------
    mpp_um
        Micrometres per level-0 pixel.
    shape_px
        (rows, cols) of the slide: NDPA counts nanometres from its middle.
    offset_nm
        (x, y) of the slide's middle from the scanner's origin (OpenSlide's
        ``hamamatsu.XOffsetFromSlideCentre`` and its y).
    """
    from xml.etree import ElementTree

    name = Path(path).name
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise SpotScopeError(f"'{name}' is not an NDPA file; export it again.") from error
    regions: list[Region] = []
    colours: dict[str, str] = {}
    skipped = 0
    for view in root.iter("ndpviewstate"):
        drawn = view.find("annotation")
        points = [] if drawn is None else list(drawn.iter("point"))
        closed = drawn is not None and drawn.findtext("closed") == "1"
        if drawn is None or not closed or len(points) < 3:
            skipped += 1
            continue
        coordinates = [
            tuple(
                (float(point.findtext(axis) or 0) - shift) / 1000 / mpp_um + size / 2
                for axis, shift, size in zip(
                    ("x", "y"), offset_nm, (shape_px[1], shape_px[0]), strict=True
                )
            )
            for point in points
        ]
        subtype = (view.findtext("title") or "").strip() or None
        if subtype and drawn.get("color"):
            colours.setdefault(subtype, str(drawn.get("color")).lower())
        regions.append(Region(_moved(mended(shapely.Polygon(coordinates))), subtype))
    if not regions:
        raise SpotScopeError(f"'{name}' holds no closed regions to import.")
    notes = [f"{skipped} points, lines and empty notes were left out."] if skipped else []
    return regions, colours, notes


def _features(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, list):
        listed = content
    elif content.get("type") == "FeatureCollection":
        listed = content["features"]
    else:
        listed = [content]
    for feature in listed:
        if feature.get("type") != "Feature":
            raise ValueError("not a feature")
        if feature.get("geometry") is not None:
            yield feature


def _geometry(feature: dict[str, Any], name: str) -> shapely.Geometry:
    try:
        return shape(feature["geometry"])
    except (shapely.errors.ShapelyError, ValueError, TypeError, KeyError, IndexError) as error:
        raise SpotScopeError(
            f"An outline in '{name}' is broken (fewer than three points, or no numbers);"
            " mend it where it was drawn and export again."
        ) from error


def _classification(properties: dict[str, Any]) -> tuple[str | None, str | None]:
    stated = properties.get("classification")
    if isinstance(stated, dict):
        colour = stated.get("color", stated.get("colorRGB"))
        # QuPath 0.4 and later write derived classes as a list of names.
        name = stated.get("name") or ": ".join(stated.get("names", []))
        return (
            str(name) if name else None,
            None if colour is None else colour_from_qupath(colour),
        )
    if properties.keys() & {"objectType", "isLocked", "measurements"}:
        return None, None  # QuPath's own object without a class; its "name" is no class
    for key in ("label", "group", "class", "name"):  # other viewers' words for it
        value = properties.get(key)
        value = value.get("value") if isinstance(value, dict) else value
        if isinstance(value, str) and value:
            return value, None
    return None, None


def _annotator(properties: dict[str, Any]) -> str | None:
    metadata = properties.get("metadata")
    stated = metadata.get(ANNOTATOR) if isinstance(metadata, dict) else None
    return stated.strip() or None if isinstance(stated, str) else None


def _moved(geometry: shapely.Geometry, px_per_unit: float = 1.0) -> shapely.Geometry:
    """Return a geometry of a file in level-0 pixels with pixel centres on integers."""
    return shapely.transform(geometry, lambda xy: xy * px_per_unit - 0.5)


def _check_on_slide(
    regions: list[Region], shape_px: tuple[int, int], name: str, mpp_um: float | None
) -> None:
    """Refuse regions that are not of this slide; `mpp_um` is None when µm are out of question."""
    rows, cols = shape_px
    slide = shapely.box(0, 0, cols, rows)
    size = f"({cols} × {rows} px)"
    low, high = np.split(shapely.total_bounds([r.geometry for r in regions]), 2)
    off = sum(not r.geometry.intersects(slide) for r in regions)
    far = bool((low < -0.05 * max(rows, cols)).any() or (high > [cols * 1.05, rows * 1.05]).any())
    if not off and not far:
        return
    if (
        mpp_um is not None
        and (low >= -0.5).all()
        and (high <= np.array([cols, rows]) * mpp_um).all()
    ):
        raise SpotScopeError(
            f"Regions of '{name}' reach over the slide's edge {size} and fit it in µm: import them"
            " with --unit um."
        )
    if off == len(regions):
        what = f"All {off} regions of '{name}' lie" if off > 1 else f"The region of '{name}' lies"
        raise SpotScopeError(
            f"{what} off this slide {size}, as of another slide; choose the file that belongs to"
            " it."
        )
    if off:
        raise SpotScopeError(
            f"{off} of {len(regions)} regions of '{name}' lie off this slide {size}; choose the"
            " file that belongs to it, or take them out where they were drawn."
        )
    raise SpotScopeError(
        f"Regions of '{name}' reach far over the slide's edge {size}, so their coordinates are not"
        " its pixels; export them in pixels of the full picture."
    )
