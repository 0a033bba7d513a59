"""An anchor table whose header is damaged is refused when it is read."""

import copy
import json
from dataclasses import replace

import pandas as pd
import pyarrow.parquet as pq
import pytest

from viscy_train.anchors.table import AnchorTable
from viscy_train.errors import UserError

NAN = float("nan")


def set_key(*keys, value):
    """Return a function that sets a value in nested mappings and lists."""

    def change(header):
        *parents, last = keys
        part = header
        for key in parents:
            part = part[key]
        part[last] = value

    return change


def remove(key):
    """Return a function that removes a key."""
    return lambda header: header.pop(key)


CHANGES = [
    (remove("version"), "must be complete, got KeyError: 'version'"),
    *((remove(key), f"must be complete, got KeyError: '{key}'") for key in ("experiments", "crops", "brightness")),
    (set_key("version", value=99), "format version must be 1 or 2, got 99"),
    (set_key("experiments", value=[]), "experiments must name at least one"),
    (set_key("experiments", value=7), "must be complete, got TypeError"),
    (set_key("experiments", 1, "name", value="monday"), "experiments must have different names"),
    (set_key("experiments", 0, "channels", value="GFP"), "channels of experiment 'monday' must be names, got 'GFP'"),
    (set_key("experiments", 0, "plate", value=None), "plate of experiment 'monday' must be a path, got null"),
    (set_key("experiments", 0, "conditions", value=["A/1"]), "conditions .* must be a mapping"),
    (set_key("experiments", 0, "minutes_per_frame", value="30"), "minutes_per_frame .* must be a number, got '30'"),
    (set_key("experiments", 0, "gain", value=2), "must be complete, got TypeError: .*gain"),
    (set_key("warnings", value=["one", 2]), "warnings must be sentences"),
    (set_key("crops", "crop", value=0), "data.crop must be at least 8, got 0"),
    (set_key("crops", "crop", value=16.0), "crop must be an integer of at least 0, got 16.0"),
    (set_key("crops", "z_slices", value=True), "z_slices must be an integer of at least 0, got True"),
    (set_key("positive", "min_frames", value=0.5), "positive.min_frames must be an integer of at least 0, got 0.5"),
    (set_key("positive", "max_frames", value=NAN), "positive.max_frames must be finite, got nan"),
    (set_key("brightness", "monday", 0, 0, value=NAN), "mean intensity of channel .* must be finite, got nan"),
    (set_key("brightness", "monday", 1, 1, value=NAN), "standard deviation of channel .* must be finite, got nan"),
    (set_key("brightness", "monday", 1, 1, value=0.0), "standard deviation of channel .* must be above 0, got 0.0"),
    (set_key("brightness", "tuesday", 0, 1, value=-3.0), "standard deviation of channel .* must be above 0, got -3.0"),
    (set_key("brightness", "monday", 0, 1, value="9"), "standard deviation of channel .* must be a number, got '9'"),
    (set_key("brightness", "monday", value=[[1.0, 1.0]]), "must have one entry for each of its 2 channels"),
    (set_key("brightness", value={"monday": [[1.0, 1.0], [1.0, 1.0]]}), "must be complete, got KeyError: 'tuesday'"),
    (set_key("tracks", value=["A/1/0.csv"]), "must be complete, got AttributeError"),
    (set_key("tracks", "friday", value={}), "checksums of tracks must belong to an experiment of the table"),
    (set_key("tracks", "monday", value={"A/1/0.csv": "1"}), "checksum of 'A/1/0.csv' .* must be an integer"),
    (set_key("dropped", 0, "cells", value=-1), "number of excluded observations must be an integer of at least 0"),
    (set_key("dropped", 0, "reason", value=None), "reason of excluded observations must be non-empty text"),
]


@pytest.fixture(scope="module")
def written(table_with_exclusions, tmp_path_factory):
    """The Parquet table of the project's anchors, and its header."""
    path = tmp_path_factory.mktemp("written") / "anchors.parquet"
    table_with_exclusions.write(path)
    content = pq.read_table(path)
    return content, json.loads(content.schema.metadata[b"viscy_train"])


def write_with(content, header, path):
    """Write a Parquet table with another header."""
    pq.write_table(content.replace_schema_metadata({b"viscy_train": header}), path)
    return path


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_a_header_that_index_does_not_write_is_refused(written, tmp_path, change, message):
    content, header = written[0], copy.deepcopy(written[1])
    change(header)
    path = write_with(content, json.dumps(header), tmp_path / "anchors.parquet")
    with pytest.raises(UserError, match=message) as error:
        AnchorTable.read(path)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("; rebuild it with `viscy-train index --config FILE`")


def test_a_table_of_version_1_is_read(written, table_with_exclusions, tmp_path):
    """As earlier releases wrote it."""
    table, new = table_with_exclusions, written[1]
    keys = ("name", "plate", "tracks", "channels", "conditions", "minutes_per_frame", "hour_of_infection")
    header = {
        "version": 1,
        "experiments": [{key: one[key] for key in keys} for one in new["experiments"]],
        "positive": {"min_frames": 1, "max_frames": 3},
        "crop": 16,
        "z_slices": 1,
        **{key: new[key] for key in ("brightness", "dropped", "tracks", "pixels")},
    }
    path = write_with(written[0], json.dumps(header), tmp_path / "anchors.parquet")
    read = AnchorTable.read(path)
    pd.testing.assert_frame_equal(read.observations, table.observations)
    assert read.fingerprint == table.fingerprint
    assert (read.crops, read.positive, read.experiments) == (table.crops, table.positive, table.experiments)
    assert (read.channels_mode, read.extra_columns) == ("all", [])


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"null", b"[1]", b'"text"', b"[" * 100_000])
def test_a_header_that_is_not_the_json_of_a_table_is_refused(written, tmp_path, text):
    path = write_with(written[0], text, tmp_path / "anchors.parquet")
    with pytest.raises(UserError, match="its header must be complete") as error:
        AnchorTable.read(path)
    assert "\n" not in str(error.value)


def test_a_table_without_a_header_is_refused(written, tmp_path):
    pq.write_table(written[0].replace_schema_metadata(None), tmp_path / "anchors.parquet")
    with pytest.raises(UserError, match="is not an anchor table, or is damaged; build it with"):
        AnchorTable.read(tmp_path / "anchors.parquet")


def test_statistics_that_cannot_be_used_are_not_written(table, tmp_path):
    (mean, std), *others = table.intensity["monday"]
    changed = replace(table, intensity=table.intensity | {"monday": [[mean, 0.0 * std], *others]})
    with pytest.raises(
        UserError, match=r"standard deviation of channel .* must be above 0, got 0.0; correct the images"
    ):
        changed.write(tmp_path / "anchors.parquet")
    assert list(tmp_path.iterdir()) == []


def test_the_metadata_of_pandas_is_not_needed(written, table_with_exclusions, tmp_path):
    path = write_with(written[0], json.dumps(written[1]), tmp_path / "anchors.parquet")
    metadata = {b"viscy_train": json.dumps(written[1]), b"pandas": b"damaged"}
    pq.write_table(written[0].replace_schema_metadata(metadata), path)
    pd.testing.assert_frame_equal(AnchorTable.read(path).observations, table_with_exclusions.observations)


def test_a_table_with_an_overwritten_byte_is_refused(table_with_exclusions, tmp_path):
    """Wherever the values of a coordinate are stored."""
    path = tmp_path / "anchors.parquet"
    table_with_exclusions.write(path)
    column = next(
        chunk
        for chunk in map(pq.ParquetFile(path).metadata.row_group(0).column, range(12))
        if chunk.path_in_schema == "y"
    )
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not an anchor table, or is damaged; build it with") as error:
        AnchorTable.read(path)
    assert "\n" not in str(error.value)
