"""What is estimated to be read is what the reader counts."""

import numpy as np
import pytest
import zarr

from viscy_train.cli.entry_point import main
from viscy_train.cli.parsing import parse_for_data
from viscy_train.config.schema import CropSettings
from viscy_train.errors import UserError
from viscy_train.loading.crop_source import ReadCounts
from viscy_train.loading.plate_source import PlateSource
from viscy_train.loading.reading_estimate import (
    ReadingEstimate,
    count_reads,
    describe_reading,
    describe_reading_of,
    estimate_reading,
    estimate_run,
    rows_of_first_batch,
)

LAYOUTS = {
    "a chunk a frame": {"chunks": (1, 1, 1, 48, 56)},
    "small chunks": {"chunks": (1, 1, 2, 14, 16)},
    "stacks": {"chunks": (1, 1, 5, 20, 20)},
    "shards": {"chunks": (1, 1, 5, 12, 14), "shards_ratio": (1, 1, 1, 2, 2)},
    "rows": {"chunks": (1, 1, 1, 20, 28)},
    "rows of all channels": {"chunks": (1, 2, 1, 20, 28)},
}


@pytest.fixture
def layout_of(table_of):
    """A function that makes a table of plates with one of the layouts."""

    def make_layout(name, z):
        crops = CropSettings(crop=12, z=z, z_slices=1 if z == "maximum" else 2)
        options = {"names": ("monday",), "shape": (3, 3, 5, 48, 56), "crops": crops}
        table, images = table_of(**options, **LAYOUTS[name])
        if name.startswith("rows"):
            for (experiment, position), image in images.items():
                plate = next(one.plate for one in table.experiments if one.name == experiment)
                zarr.open_group(plate / position).create_array(
                    "0",
                    shape=image.shape,
                    chunks=LAYOUTS[name]["chunks"],
                    dtype=image.dtype,
                    compressors=None,
                    overwrite=True,
                )[...] = image
        return table

    return make_layout


@pytest.mark.parametrize("z", ["middle", "random", "maximum"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_a_batch_decodes_is_counted_as_reading_it_counts(layout_of, layout, z):
    table = layout_of(layout, z)
    rng = np.random.default_rng(3)
    rows, draws = rng.integers(0, len(table.observations), 40), rng.random(40)
    source = PlateSource(table, cache_mb=1)
    source.read(rows, draws)
    assert count_reads(table, rows, draws) == source.counts


def test_an_estimate_reads_crops_for_a_limited_time(layout_of):
    table = layout_of("a chunk a frame", "middle")
    rows = np.arange(len(table.observations))
    estimate = estimate_reading(table, rows, n_readers=2, seconds=0)
    assert estimate.measured.n_crops == 4
    assert estimate.batch == count_reads(table, rows)
    assert estimate.seconds > 0
    assert estimate_reading(table, rows[:9], n_readers=2, seconds=60).measured.n_crops == 8


def make_estimate(**changes):
    batch = ReadCounts(n_crops=512, n_chunks=700, n_decoded=700, decoded_bytes=700 * 8_000_000, used_bytes=50_000_000)
    measured = ReadCounts(n_crops=10, n_chunks=20, n_decoded=20, decoded_bytes=20 * 8_000_000, used_bytes=1_000_000)
    options = {"batch": batch, "measured": measured, "seconds": 0.4, "cpu_seconds": 0.0, "n_readers": 4}
    return ReadingEstimate(**(options | {"n_rows": 1_000_000} | changes))


def test_the_sentences_state_chunks_bytes_seconds_and_advice():
    estimate = make_estimate(local=ReadCounts(decoded_bytes=70 * 8_000_000))
    needed, seconds, advice = describe_reading(estimate)
    assert "700 chunks of the plates: it decodes 5,600 MB for 50 MB of crops, 112 times as much." in needed
    assert "With 4 readers, that takes about 3.5 s a batch" in seconds
    assert "at most 97.7 GB" in advice
    assert "in about 0.031 s; data.sampler.locality 8 would take 0.35 s" in advice


def test_no_advice_is_given_where_it_would_not_help():
    used = ReadCounts(n_crops=512, n_chunks=700, decoded_bytes=100_000_000, used_bytes=50_000_000)
    assert len(describe_reading(make_estimate(batch=used))) == 2
    store = describe_reading(make_estimate(is_store=True))
    assert len(store) == 2
    assert "the crop store" in store[0]


def test_readers_are_not_faster_than_all_cores():
    alone, many = make_estimate(n_readers=1, cpu_seconds=0.4), make_estimate(n_readers=1000, cpu_seconds=0.4)
    assert alone.seconds_per_batch == pytest.approx(14.0)
    assert many.seconds_per_batch > 14.0 / 1000
    assert "the training process itself" in describe_reading(make_estimate(n_readers=0))[1]


def test_inspect_states_what_a_batch_reads(project, capsys):
    data = parse_for_data("inspect", ["--config", str(project)], "", {}).make_data()
    rows = rows_of_first_batch(data)
    batch = estimate_run(data).batch
    assert (batch.n_crops, batch) == (2 * 16, count_reads(data.table, rows))
    assert main(["inspect", "--config", str(project)]) == 0
    stated = f"A batch needs {batch.n_chunks} chunks of the plates: it decodes "
    assert stated in " ".join(capsys.readouterr().out.split())
    assert stated in (project.parent / "inspect.html").read_text(encoding="utf-8")


def test_the_rows_with_locality_are_those_of_a_run_with_it(project):
    def rows(*options, **changes):
        config = ["--config", str(project), *options]
        return rows_of_first_batch(parse_for_data("inspect", config, "", {}).make_data(), **changes)

    expected = rows("--data.sampler.locality", "8")
    np.testing.assert_array_equal(rows(locality=8), expected)
    assert not np.array_equal(rows(), expected)


def test_inspect_continues_if_pixels_are_unreadable(project, monkeypatch):
    data = parse_for_data("inspect", ["--config", str(project)], "", {}).make_data()

    def refuse(*_):
        raise UserError("a chunk is missing")

    monkeypatch.setattr(PlateSource, "read", refuse)
    assert describe_reading_of(data) == ["What a batch reads is unknown, because a chunk is missing."]
