from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import shapely

from spotscope.annotate.document import AnnotationDocument
from spotscope.annotate.opening import carry_annotations, open_annotations
from spotscope.annotate.regions import Region
from spotscope.annotate.saving import save_annotations
from spotscope.annotate.summary import summarise
from spotscope.data.section import Section
from spotscope.data.store import open_section, write_section
from spotscope.errors import SpotScopeError
from spotscope.jobs.annotating import (
    export_annotations,
    import_annotations,
    recognise,
    section_beside,
)

LEFT, RIGHT = shapely.box(20, 20, 200, 340), shapely.box(200, 20, 400, 340)


@pytest.fixture
def section(make_section: Callable[..., Section]) -> Section:
    """Spots 60 px apart on 360 × 420 px of 1 µm, rows 60 to 300 and columns 60 to 360."""
    return make_section("A", "P")


@pytest.fixture
def document(section: Section) -> AnnotationDocument:
    """Annotations of it in memory."""
    return AnnotationDocument(section.barcodes.tolist(), section.centres_px, None, "Ada")


def _geojson(path: Path, *geometries: shapely.Geometry, name: str = "tumour") -> Path:
    features = [
        {
            "type": "Feature",
            "geometry": shapely.geometry.mapping(geometry),
            "properties": {"classification": {"name": name, "color": [1, 2, 3]}},
        }
        for geometry in geometries
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_files_are_recognised_by_what_is_in_them(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "annotations"
    found = {
        "geojson": [*(folder / "qupath").iterdir(), folder / "dsa-1006844.geojson"],
        "ndpa": [folder / "mixed.ndpa"],
        "labels": [*(folder / "loupe").iterdir(), *(shared_data / "her2st/labels").iterdir()],
    }
    for kind, files in found.items():
        for number, file in enumerate(files):
            copy = tmp_path / f"{kind}{number}.txt"  # whatever it is called
            copy.write_bytes(file.read_bytes())
            assert recognise(copy) == kind, file


@pytest.mark.parametrize(
    "file",
    ["histoqc-tumor.geojson", "histoqc-holed.geojson", "qupath-brush.json", "qupath-wand.json"],
)
def test_qupath_exports_go_through_the_store_and_come_out_the_same(
    shared_data: Path, make_section: Callable[..., Section], tmp_path: Path, file: str
) -> None:
    source = shared_data / "annotations" / "qupath" / file
    content = json.loads(source.read_text())
    features = content if isinstance(content, list) else [content]
    for number, feature in enumerate(features):  # as QuPath writes them beside the outline
        feature["properties"] |= {"name": f"field {number}", "isLocked": True}
        feature["geometry"]["plane"] = {"c": -1, "z": number, "t": 0}
    given = tmp_path / "given.geojson"
    given.write_text(json.dumps(features))
    section = write_section(make_section("S", "P", with_spots=False), tmp_path / "S.zarr")
    section.slide.__dict__["levels"] = [_Large()]
    document = open_annotations(section, "Ada")
    import_annotations(given, section, document)
    save_annotations(section, document)
    document.close()
    assert document.journal is not None
    document.journal.unlink()
    again = open_section(tmp_path / "S.zarr")
    export_annotations(open_annotations(again, "Bo"), again, tmp_path / "out.geojson", "geojson")
    written = json.loads((tmp_path / "out.geojson").read_text())["features"]
    assert len(written) == len(features)
    for before, after in zip(features, written, strict=True):
        assert after["geometry"] == {
            key: before["geometry"][key] for key in ("type", "coordinates", "plane")
        }
        stated, kept = before["properties"], after["properties"]
        assert {k: kept.get(k) for k in stated if k != "classification"} == {
            k: v for k, v in stated.items() if k != "classification"
        }
        if "classification" in stated:
            packed = stated["classification"]["colorRGB"] & 0xFFFFFF
            rgb = [packed >> 16, packed >> 8 & 255, packed & 255]
            assert kept["classification"] == {
                "name": stated["classification"]["name"],
                "color": rgb,
            }


class _Large:
    """A level of a slide so large that every file fits."""

    shape = (200_000, 200_000, 3)


def test_an_import_labels_the_spots_in_its_regions_and_is_one_step(
    section: Section, document: AnnotationDocument, tmp_path: Path
) -> None:
    file = _geojson(tmp_path / "a.geojson", LEFT, RIGHT)
    done = import_annotations(file, section, document, annotator="Bo")
    assert (done.kind, done.n_regions, done.n_spots) == ("geojson", 2, 30)
    assert document.labels("Ada").tolist() == [None] * 30
    assert document.vocabulary.get("tumour").colour == "#010203"  # type: ignore[union-attr]
    assert [r.annotator for r in document.regions] == ["Bo", "Bo"]
    assert document.next_undo == "Import a.geojson"
    document.undo()
    assert document.regions == []
    assert document.vocabulary.names == ()


def test_a_second_import_of_a_file_takes_the_place_of_the_first_and_can_be_undone(
    section: Section, document: AnnotationDocument, tmp_path: Path
) -> None:
    document.add_regions([Region(LEFT, "tumour")])
    export_annotations(document, section, tmp_path / "a.geojson", "geojson")
    import_annotations(tmp_path / "a.geojson", section, document)
    assert len(document.regions) == 1
    document.undo()
    assert [r.subtype for r in document.regions] == ["tumour"]


def test_a_file_imported_for_two_annotators_is_there_for_both(
    section: Section, document: AnnotationDocument, tmp_path: Path
) -> None:
    document.add_regions([Region(LEFT, "tumour")])
    export_annotations(document, section, tmp_path / "a.geojson", "geojson")
    import_annotations(tmp_path / "a.geojson", section, document, annotator="Bo")
    assert [r.annotator for r in document.regions] == ["Ada", "Bo"]
    assert document.labels("Ada").tolist() == document.labels("Bo").tolist()


def test_micrometres_that_lie_on_the_slide_are_told_by_the_spots(
    section: Section, document: AnnotationDocument, tmp_path: Path
) -> None:
    section.slide.mpp_um = 0.1  # the slide is 42 µm wide
    file = _geojson(tmp_path / "a.geojson", shapely.box(5, 5, 30, 30))
    with pytest.raises(SpotScopeError, match=r"1 of 1 do when the coordinates are µm.*--unit um"):
        import_annotations(file, section, document)
    assert import_annotations(file, section, document, unit="px").n_spots == 0
    assert import_annotations(file, section, document, unit="um").n_spots == 16


def test_labels_for_unknown_barcodes_are_counted_and_said(
    section: Section, document: AnnotationDocument, tmp_path: Path
) -> None:
    file = tmp_path / "a.csv"
    file.write_text("Barcode,class\nA-0,tumour\nA-1,\nB-7,tumour\nB-8,fat\n")
    done = import_annotations(file, section, document)
    assert done.n_spots == 1
    assert done.notes == [
        "2 of the 3 labelled barcodes are not spots of this section; they were left out."
    ]


def test_cells_that_are_empty_in_a_table_take_nothing_away(
    section: Section, document: AnnotationDocument, tmp_path: Path
) -> None:
    document.assign([1], "stroma")
    file = tmp_path / "a.csv"
    file.write_text("Barcode,class\nA-0,tumour\nA-1,\n")
    import_annotations(file, section, document)
    assert document.labels()[:2].tolist() == ["tumour", "stroma"]


def test_a_class_with_one_spot_is_taken_and_listed(
    section: Section, document: AnnotationDocument, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("Barcode,class\nA-0,nerve\n")
    import_annotations(tmp_path / "a.csv", section, document)
    (listed,) = summarise(document, section).classes
    assert (listed.name, listed.n_spots, listed.n_regions) == ("nerve", 1, 0)


def test_a_loupe_export_goes_in_and_comes_out(
    shared_data: Path, make_section: Callable[..., Section], tmp_path: Path
) -> None:
    source = next((shared_data / "annotations" / "loupe").iterdir())
    table = pd.read_csv(source)
    section = make_section("A", "P", with_spots=False)
    centres = [[0.0, float(n)] for n in range(len(table))]
    document = AnnotationDocument(table["Barcode"].tolist(), centres, None, "Ada")  # type: ignore[arg-type]
    done = import_annotations(source, section, document)
    assert done.n_spots == table.iloc[:, 1].notna().sum()
    export_annotations(document, section, tmp_path / "out.csv", "csv")
    out = pd.read_csv(tmp_path / "out.csv")
    assert out["Barcode"].tolist() == table["Barcode"].tolist()
    assert out.iloc[:, 1].equals(table.iloc[:, 1])


def test_first_generation_labels_join_by_grid_position(
    shared_data: Path, make_section: Callable[..., Section]
) -> None:
    source = shared_data / "her2st" / "labels" / "B1.tsv"
    read = pd.read_csv(source, sep="\t").dropna()
    names = [f"{x:.0f}x{y:.0f}" for x, y in zip(read["x"], read["y"], strict=True)]
    section = make_section("B1", "B", with_spots=False)
    document = AnnotationDocument(names, [[0.0, 0.0]] * len(names), None, "Ada")  # type: ignore[arg-type]
    done = import_annotations(source, section, document)
    marked = (read["label"] != "undetermined").sum()
    assert (done.kind, done.n_spots) == ("labels", marked)


def test_classes_of_qupath_come_in_as_one_step(
    section: Section, document: AnnotationDocument, tmp_path: Path
) -> None:
    document.assign([0], "Tumor")
    listed = [
        {"name": "Tumor", "color": [200, 0, 0]},
        {"name": "Ignore*", "color": [180, 180, 180]},
    ]
    (tmp_path / "classes.json").write_text(json.dumps({"pathClasses": listed}))
    assert import_annotations(tmp_path / "classes.json", section, document).kind == "classes"
    assert document.vocabulary.get("Tumor").colour == "#c80000"  # type: ignore[union-attr]
    assert document.vocabulary.excluded == "Ignore*"
    assert document.counts() == {"Tumor": 1, "Ignore*": 0}
    document.undo()
    assert document.vocabulary.names == ("Tumor",)


def test_ndpa_regions_come_in_and_say_when_the_scanners_origin_is_not_known(
    shared_data: Path, section: Section, document: AnnotationDocument
) -> None:
    section.slide.mpp_um = 5.0
    done = import_annotations(shared_data / "annotations" / "mixed.ndpa", section, document)
    assert (done.kind, done.n_regions) == ("ndpa", 1)
    assert "is not beside it" in done.notes[-1]
    section.slide.mpp_um = None
    with pytest.raises(SpotScopeError, match="import the section with its scale"):
        import_annotations(shared_data / "annotations" / "mixed.ndpa", section, document)


def test_spots_go_out_as_areas_and_a_note_says_what_the_regions_leave_out(
    section: Section, document: AnnotationDocument, tmp_path: Path
) -> None:
    out = tmp_path / "out.geojson"
    document.assign([0, 1, 2], "stroma")
    assert export_annotations(document, section, out, "geojson")[0] == (
        "1 areas around 3 labelled spots"
    )
    document.add_regions([Region(shapely.box(200, 200, 400, 340), "tumour")])
    what, notes = export_annotations(document, section, out, "geojson")
    assert what == "1 regions"
    assert "3 labelled spots lie in no region" in notes[0]
    what, notes = export_annotations(document, section, out, "geojson", of_spots=True)
    fresh = AnnotationDocument(section.barcodes.tolist(), section.centres_px, None, "Bo")
    import_annotations(out, section, fresh)
    assert fresh.labels().tolist() == document.labels().tolist()


def test_one_annotators_work_goes_out_alone(
    section: Section, document: AnnotationDocument, tmp_path: Path
) -> None:
    document.add_regions([Region(LEFT, "tumour")])
    document.annotator = "Bo"
    document.add_regions([Region(RIGHT, "stroma")])
    out = tmp_path / "out.geojson"
    assert export_annotations(document, section, out, "geojson")[0] == "2 regions"
    export_annotations(document, section, out, "geojson", annotator="Ada")
    (feature,) = json.loads(out.read_text())["features"]
    assert feature["properties"]["classification"]["name"] == "tumour"
    with pytest.raises(SpotScopeError, match="'Cy' has annotated nothing here; there is 'Ada'"):
        export_annotations(document, section, out, "csv", annotator="Cy")


def test_areas_count_overlaps_once_and_agreement_is_told(
    section: Section, document: AnnotationDocument
) -> None:
    document.add_regions([Region(LEFT, "tumour"), Region(shapely.box(20, 20, 300, 340), "tumour")])
    document.annotator = "Bo"
    document.assign(range(10), "tumour")
    document.assign(range(5), "stroma")
    found = summarise(document, section)
    assert found.classes[0].regions_mm2 == pytest.approx(280 * 320 / 1e6)
    assert found.annotators == [("Ada", 25, 2), ("Bo", 10, 0)]
    ((one, other, agreed),) = found.pairs
    assert (one, other, agreed.n_shared) == ("Ada", "Bo", 9)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\x00binary", "no file of annotations"),
        (b"{broken", "is not GeoJSON"),
        (b"<svg/>", "holds no closed regions"),
        (b"", "label table"),
        (b"Barcode,class\nA-0,\n", "gives no spot a class"),
        (b"Barcode,class\nZ-0,fat\n", "None of the 1 barcodes"),
        (b'{"pathClasses": 3}', "classes"),
    ],
)
def test_a_file_that_does_not_fit_is_said_in_one_sentence_and_changes_nothing(
    section: Section, document: AnnotationDocument, tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(SpotScopeError, match=said):
        import_annotations(tmp_path / "a", section, document)
    assert document.next_undo is None


def test_regions_come_back_under_the_names_of_who_drew_them_as_one_step(
    section: Section, document: AnnotationDocument, tmp_path: Path
) -> None:
    document.add_regions([Region(LEFT, "tumour")])
    document.annotator = "Bob"
    document.add_regions([Region(RIGHT, "stroma")])
    file = tmp_path / "a.geojson"
    export_annotations(document, section, file, "geojson")

    def imported(annotator: str | None) -> AnnotationDocument:
        other = AnnotationDocument(section.barcodes.tolist(), section.centres_px, None, "Cleo")
        found = import_annotations(file, section, other, annotator=annotator)
        assert found.n_regions == 2
        assert found.n_spots == sum(document.counts(who)[n] for who, n in mine.items())
        return other

    mine = {"Ada": "tumour", "Bob": "stroma"}
    other = imported(None)
    assert [region.annotator for region in other.regions] == ["Ada", "Bob"]
    for who in mine:
        assert other.labels(who).tolist() == document.labels(who).tolist()
    assert not any(other.labels("Cleo"))
    # A second import of the same file changes nothing but the regions' places.
    import_annotations(file, section, other)
    assert len(other.regions) == 2
    assert other.undo()
    assert other.undo()
    assert other.regions == []
    assert other.next_undo is None
    as_one = imported("Dora")
    assert {region.annotator for region in as_one.regions} == {"Dora"}
    assert as_one.annotators == ["Dora", "Cleo"]


def _slide(path: Path) -> Section:
    from PIL import Image

    Image.new("RGB", (420, 360), "pink").save(path)
    return open_section(path)


def test_a_slide_alone_becomes_a_section_beside_it_and_another_call_finds_that(
    tmp_path: Path,
) -> None:
    slide = _slide(tmp_path / "a.png")
    made = section_beside(slide)
    assert made.store == tmp_path / "a.zarr"
    assert slide.slide.path.exists()
    assert section_beside(slide).store == made.store
    # One that is annotated is left alone, and so is a store of something else.
    document = open_annotations(made, "Ada")
    document.add_regions([Region(LEFT, "tumour")])
    document.close()
    assert section_beside(slide).store == tmp_path / "a-2.zarr"
    (tmp_path / "b.zarr").mkdir()
    assert section_beside(_slide(tmp_path / "b.png")).store == tmp_path / "b-2.zarr"


def test_annotations_of_a_slide_go_on_in_its_section_with_undo_and_are_kept_as_old(
    tmp_path: Path,
) -> None:
    slide = _slide(tmp_path / "a.png")
    before = open_annotations(slide, "Ada")
    before.add_regions([Region(LEFT, "tumour")])
    before.add_regions([Region(RIGHT, "stroma")])
    before.undo()
    before.close()
    made = section_beside(slide)
    carry_annotations(slide, made)
    after = open_annotations(made, "Ada")
    assert [r.subtype for r in after.regions] == ["tumour"]
    assert after.redo()
    assert [r.to_json()["wkt"] for r in after.regions] == [LEFT.wkt, RIGHT.wkt]
    save_annotations(made, after)
    after.close()
    assert (tmp_path / "a.png.annotations.jsonl.old").exists()
    again = open_annotations(slide, "Ada")
    assert again.regions == []
    again.add_regions([Region(LEFT, "tumour")])
    again.close()
    with pytest.raises(SpotScopeError, match="hold annotations; export those of the slide"):
        carry_annotations(slide, made)
