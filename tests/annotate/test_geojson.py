from __future__ import annotations

import json
from pathlib import Path

import pytest
import shapely

from spotscope.annotate.geojson import read_geojson, read_ndpa, write_geojson
from spotscope.annotate.regions import Region
from spotscope.annotate.vocabulary import Vocabulary
from spotscope.errors import SpotScopeError


def _vocabulary(colours: dict[str, str]) -> Vocabulary:
    vocabulary = Vocabulary()
    for name, colour in colours.items():
        vocabulary = vocabulary.with_class(name, colour)
    return vocabulary


@pytest.mark.parametrize(
    "file",
    [
        "histoqc-tumor.geojson",
        "histoqc-holed.geojson",
        "qupath-polygon.json",
        "qupath-brush.json",
        "qupath-ellipse.json",
        "qupath-rectangle.json",
        "qupath-wand.json",
    ],
)
def test_real_qupath_exports_keep_every_ring_class_and_colour(
    shared_data: Path, tmp_path: Path, file: str
) -> None:
    source = shared_data / "annotations" / "qupath" / file
    regions, colours, _ = read_geojson(source)
    write_geojson(regions, _vocabulary(colours), tmp_path / "out.geojson")
    again, colours_again, _ = read_geojson(tmp_path / "out.geojson")
    assert colours_again == colours
    assert [r.subtype for r in again] == [r.subtype for r in regions]
    content = json.loads(source.read_text())
    features = content if isinstance(content, list) else content.get("features", [content])
    for feature, region, copy in zip(features, regions, again, strict=True):
        original = shapely.geometry.shape(feature["geometry"])
        n_rings = sum(1 + len(p.interiors) for p in shapely.get_parts(original))
        if original.is_valid:
            assert len(copy.rings()) == n_rings
            assert copy.geometry.equals_exact(shapely.transform(original, lambda xy: xy - 0.5))
        assert copy.geometry.equals_exact(region.geometry)
        assert copy.area_px == pytest.approx(original.area, rel=0.01)


def test_old_packed_colours_are_read(shared_data: Path) -> None:
    regions, colours, _ = read_geojson(
        shared_data / "annotations" / "qupath" / "histoqc-tumor.geojson"
    )
    assert colours == {"Tumor": "#c80000", "Invborder": "#00ff00"}
    assert len({r.id for r in regions}) == 2


def test_another_viewers_labels_become_classes(shared_data: Path) -> None:
    regions, _, _ = read_geojson(shared_data / "annotations" / "dsa-1006844.geojson")
    assert {"Tumor", "TILs", "Other"} <= {r.subtype for r in regions}


def test_lines_and_points_are_left_out_and_said(shared_data: Path) -> None:
    with pytest.raises(SpotScopeError, match="no areas"):
        read_geojson(shared_data / "annotations" / "qupath" / "qupath-line.json")


def test_planes_and_properties_of_the_import_are_written_back(tmp_path: Path) -> None:
    feature = {
        "type": "Feature",
        "id": "one",
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[0, 0], [9, 0], [9, 5], [0, 0]]],
            "plane": {"c": -1, "z": 2, "t": 0},
        },
        "properties": {
            "objectType": "annotation",
            "name": "field 3",
            "classification": {"name": "Tumor", "color": [200, 0, 0]},
            "measurements": {"Area": 3.5},
        },
    }
    source, out = tmp_path / "in.geojson", tmp_path / "out.geojson"
    source.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    regions, colours, _ = read_geojson(source)
    write_geojson(regions, _vocabulary(colours), out, mpp_um=0.5)
    content = json.loads(out.read_text())
    assert content["features"] == [feature]
    assert content["spotscope"] == {"units": "pixel", "mpp_um": 0.5}


def _collection(path: Path, coordinates: list[list[float]]) -> Path:
    geometry = {"type": "Polygon", "coordinates": [coordinates]}
    feature = {"type": "Feature", "geometry": geometry, "properties": {}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path


def test_regions_off_the_slide_are_refused(tmp_path: Path) -> None:
    file = _collection(tmp_path / "a.geojson", [[5000, 0], [5100, 0], [5100, 50], [5000, 0]])
    with pytest.raises(SpotScopeError, match="off this slide"):
        read_geojson(file, shape_px=(800, 1000))


def test_coordinates_in_another_unit_are_refused(tmp_path: Path) -> None:
    file = _collection(tmp_path / "a.geojson", [[500, 0], [9000, 0], [9000, 50], [500, 0]])
    with pytest.raises(SpotScopeError, match="export them in pixels"):
        read_geojson(file, shape_px=(800, 1000))


def test_micrometres_are_told_from_another_slide_and_can_be_taken(tmp_path: Path) -> None:
    # 1000 × 800 px of 4 µm are 4000 × 3200 µm.
    um = [[400, 400], [3600, 400], [3600, 3000], [400, 400]]
    file = _collection(tmp_path / "a.geojson", um)
    with pytest.raises(SpotScopeError, match="fit it in µm: import them with --unit um"):
        read_geojson(file, shape_px=(800, 1000), mpp_um=4.0)
    regions, _, _ = read_geojson(file, shape_px=(800, 1000), mpp_um=4.0, unit="um")
    assert regions[0].geometry.bounds == (99.5, 99.5, 899.5, 749.5)
    with pytest.raises(SpotScopeError, match="Nothing states how many µm"):
        read_geojson(file, shape_px=(800, 1000), unit="um")


def test_an_outline_that_crosses_itself_is_mended_and_said(tmp_path: Path) -> None:
    file = _collection(tmp_path / "a.geojson", [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]])
    regions, _, notes = read_geojson(file)
    assert regions[0].area_px == pytest.approx(50)
    assert notes == ["An outline crossed itself and was mended."]


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[1, 2]",
        '{"type": "Topology"}',
        '"text"',
        "",
        "[]",
        '{"type":"FeatureCollection"}',
    ],
)
def test_what_is_not_geojson_is_refused_in_one_sentence(tmp_path: Path, content: str) -> None:
    file = tmp_path / "a.geojson"
    file.write_text(content)
    with pytest.raises(SpotScopeError, match=r"not GeoJSON|no areas"):
        read_geojson(file)


def test_broken_outlines_are_refused(tmp_path: Path) -> None:
    file = _collection(tmp_path / "a.geojson", [[0, 0], [1, 1]])
    with pytest.raises(SpotScopeError, match="broken"):
        read_geojson(file)


def test_ndpa_regions_are_measured_from_the_middle_of_the_slide(shared_data: Path) -> None:
    regions, colours, notes = read_ndpa(
        shared_data / "annotations" / "mixed.ndpa", mpp_um=0.5, shape_px=(4000, 3000)
    )
    # (-350, -500) µm from the middle (1500, 2000) at 0.5 µm/px is (800, 1000)
    assert [r.subtype for r in regions] == ["Tumor"]
    assert colours == {"Tumor": "#ff0000"}
    assert regions[0].geometry.bounds == (799.5, 999.5, 999.5, 1399.5)
    assert notes


def test_who_drew_a_region_is_kept_where_qupath_keeps_it(tmp_path: Path) -> None:
    given = {"metadata": {"ANNOTATION_DESCRIPTION": "nest", "annotator": "someone"}}
    regions = [
        Region(shapely.box(0, 0, 9, 9), "tumour", extra={"properties": given}, annotator="Ada"),
        Region(shapely.box(20, 20, 29, 29), None),
    ]
    file = tmp_path / "a.geojson"
    write_geojson(regions, Vocabulary().with_class("tumour"), file)
    written = [f["properties"] for f in json.loads(file.read_text())["features"]]
    # QuPath takes metadata as texts; other properties that it does not know are lost there.
    assert written[0]["metadata"] == {"ANNOTATION_DESCRIPTION": "nest", "annotator": "Ada"}
    assert "metadata" not in written[1]
    again, _, _ = read_geojson(file)
    assert [region.annotator for region in again] == ["Ada", None]


@pytest.mark.parametrize("metadata", ["Ada", {"annotator": 5}, {"annotator": " "}, None])
def test_metadata_that_names_nobody_is_no_annotator(tmp_path: Path, metadata: object) -> None:
    region = Region(shapely.box(0, 0, 9, 9), None, extra={"properties": {"metadata": metadata}})
    write_geojson([region], Vocabulary(), tmp_path / "a.geojson")
    (again,), _, _ = read_geojson(tmp_path / "a.geojson")
    assert again.annotator is None
