from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix

from spotscope.data.section import Section
from spotscope.data.spots import SpotTable, make_spots
from spotscope.data.store import open_section, write_section
from spotscope.errors import Cancelled, SpotScopeError
from spotscope.progress import Progress
from spotscope.slide.mpp import MppSource
from spotscope.slide.open import open_slide

SHAPE_PX = (1500, 2600)
MPP = 0.5


def write_slide(path):
    """A pyramidal TIFF that states 0.5 µm a pixel."""
    rng = np.random.default_rng(0)
    small = rng.integers(90, 250, (SHAPE_PX[0] // 20, SHAPE_PX[1] // 20, 3), np.uint8)
    level = small.repeat(20, axis=0).repeat(20, axis=1)
    with tifffile.TiffWriter(path) as tiff:
        for index in range(3):
            step = 2**index
            tiff.write(
                level[::step, ::step],
                tile=(256, 256),
                photometric="rgb",
                compression="zlib",
                subfiletype=1 if index else 0,
                resolution=(20000 / step, 20000 / step),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    return path


def with_spots(slide):
    rng = np.random.default_rng(1)
    counts = rng.poisson(1.5, (40, 12))
    counts[:, 0] += 1
    centres = np.column_stack([rng.uniform(50, 1400, 40), rng.uniform(50, 2500, 40)])
    labels = ["tumour", "fat", None, "tumour"] * 10
    genes = [f"G{i}" for i in range(12)]
    barcodes = [f"B{i}-1" for i in range(40)]
    table = SpotTable(lambda: csr_matrix(counts), genes, barcodes, centres, labels)
    spots, _ = make_spots(table, slide.shape_px, "test")
    slide = slide.stated_by(MppSource("spot pitch of 100 µm", 0.51))
    return Section("S1", "Ann", slide, spots, 55.0, notes=["one note"])


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    return with_spots(open_slide(write_slide(tmp_path_factory.mktemp("slide") / "S1.tif")))


@pytest.fixture(scope="module")
def store(section, tmp_path_factory):
    return write_section(section, tmp_path_factory.mktemp("store") / "S1.zarr").store


def run_python(code, *arguments, prefix=(), **environment):
    return subprocess.run(
        [*prefix, sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
        check=False,
    )


def test_a_section_comes_back_as_it_was_written(section, store):
    again = open_section(store)
    assert (again.name, again.patient, again.spot_diameter_um) == ("S1", "Ann", 55.0)
    assert again.notes == ["one note"]
    assert again.store == store
    assert_array_equal(again.counts.toarray(), section.counts.toarray())
    assert_array_equal(again.centres_px, section.centres_px)
    assert_array_equal(again.genes, section.genes)
    assert_array_equal(again.barcodes, section.barcodes)
    assert list(again.labels.categories) == ["fat", "tumour"]
    assert_array_equal(again.labels.codes, section.labels.codes)
    assert again.mpp_um == 0.51
    assert [source.name for source in again.slide.mpp_sources][0] == "spot pitch of 100 µm"
    assert len(again.slide.mpp_sources) == 2
    assert again.slide.name == "S1"
    assert_array_equal(again.slide.levels[0][:], section.slide.levels[0][:])


def test_spatialdata_reads_picture_circles_and_table_in_place(section, store):
    import spatialdata

    read = spatialdata.read_zarr(store)
    assert set(read.coordinate_systems) == {"global", "micrometres"}
    assert list(read.images) == ["slide"]
    levels = list(read.images["slide"].values())
    assert levels[0]["image"].shape == (3, *SHAPE_PX)
    assert len(levels) == 3
    assert list(levels[0]["image"].coords["c"].values) == ["r", "g", "b"]
    extent = spatialdata.get_extent(read["slide"], coordinate_system="micrometres")
    assert extent["x"] == (0.0, pytest.approx(SHAPE_PX[1] * 0.51))
    circles = read.shapes["spots"]
    xy = np.column_stack([circles.geometry.x, circles.geometry.y])
    # SpatialData puts the corner of pixel (0, 0) at 0, and this project its centre.
    assert_allclose(xy[:, ::-1] - 0.5, section.centres_px)
    assert_allclose(circles["radius"], 55 / 0.51 / 2)
    table = read.tables["table"]
    assert table.uns["spatialdata_attrs"]["region"] == "spots"
    joined, _ = spatialdata.join_spatialelement_table(
        sdata=read, spatial_element_names="spots", table_name="table"
    )
    assert len(joined["spots"]) == section.n_spots


def test_squidpy_finds_neighbours_and_draws_the_spots_on_the_picture(store, tmp_path):
    squidpy = pytest.importorskip("squidpy")
    import matplotlib as mpl
    import spatialdata

    mpl.use("Agg")
    table = spatialdata.read_zarr(store).tables["table"]
    squidpy.gr.spatial_neighbors(table, coord_type="generic", n_neighs=4)
    assert table.obsp["spatial_connectivities"].sum(axis=1).min() >= 4
    squidpy.pl.spatial_scatter(table, color="G3", save=str(tmp_path / "spots.png"))
    assert (tmp_path / "spots.png").stat().st_size > 5000


def test_napari_spatialdata_opens_the_store_unchanged(store):
    pytest.importorskip("napari_spatialdata")
    pytest.importorskip("PyQt6")
    if not shutil.which("xvfb-run"):
        pytest.skip("there is no virtual display")
    code = """
        import sys
        import time
        import numpy as np, spatialdata
        from napari_spatialdata import Interactive
        from qtpy.QtWidgets import QApplication
        window = Interactive(spatialdata.read_zarr(sys.argv[1]), headless=True)
        for count, element in enumerate(("slide", "spots"), 1):  # each is loaded in a thread
            window.add_element(element, element_coordinate_system="global")
            until = time.monotonic() + 60
            while len(window._viewer.layers) < count and time.monotonic() < until:
                QApplication.processEvents()
                time.sleep(0.01)
        image, spots = window._viewer.layers
        assert image.rgb and image.multiscale, "the picture is no RGB pyramid"
        print("sizes", image.data[0].shape, np.ravel(spots.data).shape, type(spots).__name__)
        window._viewer.close()
    """
    display = ("xvfb-run", "-a", "-s", "-screen 0 1000x800x24")
    done = run_python(code, store, prefix=display, QT_API="pyqt6")
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"sizes ({SHAPE_PX[0]}, {SHAPE_PX[1]}, 3)" in done.stdout


def test_opening_reads_neither_spots_nor_imports_what_is_slow(store):
    code = """
        import sys
        from spotscope.data.store import open_section
        section = open_section(sys.argv[1])
        section.slide.read_region(0, 0, 0, 64, 64)
        slow = {"spatialdata", "anndata", "scanpy", "torch", "geopandas"} & set(sys.modules)
        assert section.has_spots and not slow, slow
        assert section.n_spots == 40
        assert "spatialdata" not in sys.modules
    """
    done = run_python(code, store)
    assert done.returncode == 0, done.stderr


def test_a_slide_alone_is_a_section_too(section, tmp_path):
    alone = open_section(section.slide.path)
    assert (alone.name, alone.spots, alone.store) == ("S1", None, None)
    assert (alone.n_spots, alone.mpp_um) == (0, MPP)
    assert alone.centres_px.shape == (0, 2)
    with pytest.raises(SpotScopeError, match="slide without spots"):
        alone.expression(["G1"])
    kept = write_section(alone, tmp_path / "alone.zarr")
    assert (kept.spots, kept.labels, kept.mpp_um) == (None, None, MPP)
    import spatialdata

    assert list(spatialdata.read_zarr(tmp_path / "alone.zarr").images) == ["slide"]


def test_a_linked_slide_stays_where_it_is_and_the_store_stays_small(section, tmp_path):
    linked = write_section(section, tmp_path / "linked.zarr", link=True)
    assert linked.slide.path == section.slide.path
    assert_array_equal(linked.slide.levels[0][:64], section.slide.levels[0][:64])
    import spatialdata

    read = spatialdata.read_zarr(tmp_path / "linked.zarr")
    kept = next(iter(read.images["slide"].values()))["image"]
    assert kept.shape == (3, SHAPE_PX[0] // 2, SHAPE_PX[1] // 2)
    extent = spatialdata.get_extent(read["slide"])
    assert (extent["x"][1], extent["y"][1]) == (SHAPE_PX[1], SHAPE_PX[0])


def test_a_real_slide_is_linked_in_place(shared_data, tmp_path):
    path = shared_data / "slides" / "luna-1065626.svs"
    linked = write_section(open_section(path), tmp_path / "luna.zarr", link=True)
    assert linked.slide.path.samefile(path)
    assert linked.mpp_um == pytest.approx(0.503, abs=1e-3)
    kept = sum(file.stat().st_size for file in linked.store.rglob("*") if file.is_file())
    assert kept < 0.2 * np.prod(linked.slide.shape_px)


def test_a_linked_slide_is_found_beside_the_store_and_missed_in_a_sentence(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    slide = write_slide(tmp_path / "there" / "S1.tif")
    store = tmp_path / "here" / "S1.zarr"
    write_section(with_spots(open_slide(slide)), store, link=True)
    # Both moved together: found by the way from one to the other.
    (tmp_path / "moved").mkdir()
    for name in ("there", "here"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    store = tmp_path / "moved" / "here" / "S1.zarr"
    assert open_section(store).slide.path.resolve() == tmp_path / "moved" / "there" / "S1.tif"
    # Beside the store.
    (tmp_path / "moved" / "there" / "S1.tif").rename(store.parent / "S1.tif")
    assert open_section(store).slide.path == store.parent / "S1.tif"
    # Another slide of that name.
    pixels = np.full((600, 600, 3), 77, np.uint8)
    tifffile.imwrite(store.parent / "S1.tif", pixels, tile=(256, 256), photometric="rgb")
    with pytest.raises(SpotScopeError, match="is not the one that section 'S1.zarr' was made of"):
        open_section(store)
    (store.parent / "S1.tif").unlink()
    with pytest.raises(SpotScopeError, match="is not at .*there.*S1.tif.* any more; put it back"):
        open_section(store)


def test_a_flat_picture_cannot_be_linked(tmp_path):
    from PIL import Image

    Image.new("RGB", (300, 200), "pink").save(tmp_path / "flat.png")
    flat = open_section(tmp_path / "flat.png")
    with pytest.raises(SpotScopeError, match="'flat.png' is a flat picture.*without --link"):
        write_section(flat, tmp_path / "flat.zarr", link=True)


def test_a_store_is_never_written_over(section, store):
    before = (store / "zarr.json").read_bytes()
    with pytest.raises(SpotScopeError, match="exists already and may hold predictions"):
        write_section(section, store)
    assert (store / "zarr.json").read_bytes() == before
    with pytest.raises(SpotScopeError, match=r"ends in \.zarr, not 'S1'"):
        write_section(section, store.parent / "S1")


def changed(store, tmp_path, change):
    copy = shutil.copytree(store, tmp_path / "copy.zarr")
    content = json.loads((copy / "zarr.json").read_text())
    change(content["attributes"]["spotscope"])
    (copy / "zarr.json").write_text(json.dumps(content))
    return copy


def test_a_store_of_a_newer_version_asks_for_an_update(store, tmp_path):
    copy = changed(store, tmp_path, lambda about: about.update(format=99, version="9.1"))
    with pytest.raises(SpotScopeError, match=r"written by SpotScope 9\.1.*update SpotScope"):
        open_section(copy)


def test_damaged_stores_give_a_sentence(store, tmp_path):
    copy = shutil.copytree(store, tmp_path / "copy.zarr")
    shutil.rmtree(copy / "tables")
    with pytest.raises(SpotScopeError, match=r"spots of 'copy\.zarr' are missing"):
        open_section(copy)
    shutil.rmtree(copy / "images")
    with pytest.raises(SpotScopeError, match="no slide"):
        open_section(copy)
    (copy / "zarr.json").write_text('{"attributes": {"spot')
    with pytest.raises(SpotScopeError, match=r"'zarr\.json' is damaged"):
        open_section(copy)
    with pytest.raises(SpotScopeError, match="There is no slide"):
        open_section(tmp_path / "nothing.zarr")


def test_spots_that_cannot_be_read_give_a_sentence(store, tmp_path):
    copy = shutil.copytree(store, tmp_path / "copy.zarr")
    shutil.rmtree(copy / "tables" / "table" / "X" / "indptr")
    section = open_section(copy)
    with pytest.raises(SpotScopeError, match=r"spots of 'copy\.zarr' cannot be read"):
        section.n_spots  # noqa: B018


def test_a_cancelled_write_leaves_nothing(section, tmp_path):
    progress = Progress()
    progress.listener = lambda step: progress.cancel.set() if step.fraction > 0.3 else None
    with pytest.raises(Cancelled):
        write_section(section, tmp_path / "S1.zarr", progress=progress)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_import_leaves_no_store_and_the_next_one_cleans_up(section, tmp_path):
    code = """
        import sys, time
        from spotscope.data.importing import import_section
        from spotscope.progress import Progress
        def listen(step):
            if step.fraction > 0.3:
                print("half", flush=True)
                time.sleep(60)
        import_section(sys.argv[1], sys.argv[2], progress=Progress(listen))
    """
    out = tmp_path / "S1.zarr"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(section.slide.path), str(out)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.wait()
    assert not out.exists()
    assert len(list(tmp_path.iterdir())) == 1
    write_section(section, out)
    assert list(tmp_path.iterdir()) == [out]


IMPORT_ON_A_MOUNT = """
    import sys
    from spotscope.data.importing import import_section
    from spotscope.errors import SpotScopeError
    try:
        import_section(sys.argv[1], sys.argv[2] + "/S1.zarr")
    except SpotScopeError as error:
        print(error)
    import os
    print(os.listdir(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("options", "words"),
    [("size=100k", "The disk is full: 'S1.zarr' was not written"), ("ro", "cannot be written")],
)
def test_a_full_disk_and_a_read_only_folder_give_a_sentence(section, tmp_path, options, words):
    """In a mount of its own, that no other process sees."""
    mount = f"mount -t tmpfs -o {options} tmpfs {tmp_path}"
    if not shutil.which("unshare"):
        pytest.skip("there is no unshare")
    private = ("unshare", "-rm", "sh", "-c")
    if subprocess.run([*private, mount], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    prefix = (*private, f'{mount} && exec "$@"', "sh")
    done = run_python(IMPORT_ON_A_MOUNT, section.slide.path, tmp_path, prefix=prefix)
    sentence, left = done.stdout.splitlines()
    assert words in sentence
    assert left == "[]", "something was left behind"
    assert done.stderr == ""
