"""Crops that are read from an array are those that are read from plates, bit for bit."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from viscy_train.config.schema import CropSettings
from viscy_train.errors import UserError
from viscy_train.loading.array_source import ArraySource
from viscy_train.loading.crops import CropReader
from viscy_train.loading.plate_source import PlateSource


@pytest.fixture
def path(table, tmp_path):
    """The file of an array with the crops of the table."""
    (part,) = PlateSource(table, cache_mb=64).read(np.arange(len(table.observations)))
    crops = np.empty_like(part.pixels)
    crops[part.slots] = part.pixels
    np.save(tmp_path / "crops.npy", crops)
    return tmp_path / "crops.npy"


def rows_of(table):
    return np.random.default_rng(7).permutation(np.r_[np.arange(len(table.observations)), [0, 0, 5]])


def test_crops_from_an_array_are_those_from_plates(table, path):
    rows = rows_of(table)
    source = ArraySource(table, path)
    assert CropReader(table, source=source).read(rows).tobytes() == CropReader(table).read(rows).tobytes()
    assert source.counts.n_crops == len(rows)
    assert source.read(rows)[0].pixels.dtype == np.load(path, mmap_mode="r").dtype


def test_an_empty_batch_reads_nothing(table, path):
    assert ArraySource(table, path).read(np.zeros(0, dtype=np.int64)) == []


def test_a_copy_in_another_process_maps_the_file_itself(table, path):
    source = ArraySource(table, path)
    state = pickle.dumps(source)
    assert len(state) < path.stat().st_size / 2
    rows = rows_of(table)
    np.testing.assert_array_equal(pickle.loads(state).read(rows)[0].pixels, source.read(rows)[0].pixels)


def test_an_array_of_another_table_is_refused(table, path):
    other = replace(table, crops=CropSettings(crop=8))
    with pytest.raises(UserError, match=r"must have a crop of each observation, shape .* got .*; write it again"):
        ArraySource(other, path)


def test_a_damaged_array_is_refused(table, path):
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"cannot read crops from .*; write it again"):
        ArraySource(table, path)
