"""The reading benchmark compares ways that read the same pixels, and shows all of them."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def benchmarks():
    """The package `benchmarks`, under a name that no other package has."""
    name = "viscy_train_reading_benchmarks"
    spec = importlib.util.spec_from_file_location(
        name, FOLDER / "benchmarks" / "__init__.py", submodule_search_locations=[str(FOLDER / "benchmarks")]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return lambda module: importlib.import_module(f"{name}.{module}")


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["raw", "shards"])
def test_all_ways_read_the_same_pixels(benchmarks, monkeypatch, tmp_path, layout):
    layouts, ways = benchmarks("layouts"), benchmarks("ways")
    monkeypatch.setattr(layouts, "POSITIONS", ["A/1/0", "B/1/0"])
    one = layouts.LAYOUTS[layout]
    small = replace(one, side=384, n_slices=min(one.n_slices, 3), chunk=min(one.chunk, 128))
    path = tmp_path / "plate.zarr"
    layouts.write_plate(path, small)
    rows = np.random.default_rng(0).integers(0, len(layouts.make_table(path, small).observations), 12)
    read = {name: way(path, small) for name, way in ways.WAYS.items() if name not in (ways.STORE, ways.COPY)}
    crops = {name: one(rows) for name, one in read.items()}
    of_first_position = rows % (layouts.N_TRACKS * layouts.N_FRAMES)
    np.testing.assert_array_equal(crops.pop(ways.CACHED), read[ways.OURS](of_first_position))
    for name, pixels in crops.items():
        np.testing.assert_array_equal(pixels, crops[ways.OURS], err_msg=name)
    assert len(crops) >= 4
    n_packed = ways.pack(path, small)
    packed = ways._packed_table(path, small).observations
    table = layouts.make_table(path, small).observations
    place = (table["track_id"] * layouts.N_FRAMES + table["t"]).searchsorted(packed["track_id"] * 30 + packed["t"])
    some = np.arange(0, n_packed, 7)
    np.testing.assert_array_equal(ways.WAYS[ways.STORE](path, small)(some), read[ways.OURS](place[some]))


def test_the_page_and_the_picture_have_all_ways(benchmarks, tmp_path):
    page, ways, speed = benchmarks("reading_page"), benchmarks("ways"), benchmarks("measure").Speed
    measured = {name: [speed(100.0 * n, 1.0 / n, 0) for n in (1, 2, 4)] for name in (*ways.WAYS, ways.VISCY)}
    measured[ways.STORE] = [speed(1000.0 * n, 0.1 / n, 0) for n in (1, 2, 4)]
    text = page.describe({"some chunks": measured}, 256, "Machine: one.", "benchmarks/some.svg")
    for name in measured:
        assert f"| {name} | " in text
    ratios = "10 (10 to 10) | 10 (10 to 10) | 0.1 (0.1 to 0.1)"  # to viscy-train, to VisCy, over decoded chunks
    assert f"| {ways.STORE} | 2000 (1000 to 4000) | 0.05 (0.025 to 0.1) | {ratios} |" in text
    page.draw({"some chunks": measured}, tmp_path / "some.svg")
    assert (tmp_path / "some.svg").stat().st_size > 5000


def test_the_page_shows_the_picture(benchmarks):
    reading = benchmarks("reading")
    assert f"benchmarks/{reading._PICTURE}" in (FOLDER / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert (FOLDER / "benchmarks" / reading._PICTURE).exists()
