"""Array store: equal arrays share a file, a file is never outdated, and without a file arrays stay as they are."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest

from viscy_train.anchors.array_store import ArrayStore, checksum, name_of, share_arrays
from viscy_train.config.schema import PositiveConfig
from viscy_train.positives.lineages import Lineages

LARGE = np.arange(2**18)


@pytest.fixture
def store(tmp_path: Path) -> ArrayStore:
    return ArrayStore(tmp_path / "arrays")


def files(store: ArrayStore) -> list[Path]:
    return sorted(store.directory.glob("*")) if store.directory.exists() else []


@pytest.mark.parametrize("dtype", ["int64", "float64", "float32", "int8", "bool"])
def test_a_shared_array_is_equal_and_read_only(store: ArrayStore, dtype: str):
    array = np.arange(2**21).astype(dtype).reshape(-1, 2)
    shared = store.share(array)
    assert isinstance(shared, np.memmap)
    assert shared.dtype == array.dtype
    np.testing.assert_array_equal(shared, array)
    with pytest.raises(ValueError, match="read-only"):
        shared[0] = 1


def test_equal_arrays_share_a_file(store: ArrayStore):
    first, second, other = store.share(LARGE), store.share(LARGE.copy()), store.share(LARGE + 1)
    assert isinstance(first, np.memmap)
    assert isinstance(second, np.memmap)
    assert isinstance(other, np.memmap)
    assert first.filename == second.filename != other.filename
    assert len(files(store)) == 2


def test_a_shared_array_and_its_view_stay_mapped_from_the_same_file(store: ArrayStore):
    shared = store.share(LARGE)
    assert store.share(shared) is shared
    assert store.share(shared.view(np.ndarray)) is shared
    np.testing.assert_array_equal(store.share(shared[1:]), LARGE[1:])
    assert len(files(store)) == 2


def test_arrays_of_another_type_or_shape_have_another_file(store: ArrayStore):
    zeros = np.zeros(2**18)
    for array in (zeros, zeros.astype(np.int64), zeros.reshape(2, -1)):
        np.testing.assert_array_equal(store.share(array), array)
    assert len(files(store)) == 3


def test_small_arrays_and_objects_stay_in_memory(store: ArrayStore):
    for array in (np.arange(100), np.full(2**18, "text", dtype=object)):
        assert store.share(array) is array
    assert not files(store)


DAMAGES = [lambda content: content[:-8], lambda content: content[:-8] + b"\x01" * 8, lambda content: b""]


@pytest.mark.parametrize("damage", DAMAGES, ids=["truncated", "changed", "empty"])
def test_a_damaged_file_is_not_opened_and_is_written_again(store: ArrayStore, damage):
    name = store.put(LARGE)
    assert name is not None
    (path,) = files(store)
    path.write_bytes(damage(path.read_bytes()))
    assert store.open(name) is None
    np.testing.assert_array_equal(store.share(LARGE), LARGE)
    np.testing.assert_array_equal(store.open(name), LARGE)


def test_arrays_stay_in_memory_where_files_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("not a directory")
    assert ArrayStore(tmp_path / "file").share(LARGE) is LARGE
    assert ArrayStore(tmp_path / "missing" / "arrays").share(LARGE) is LARGE


def test_an_interrupted_write_leaves_nothing(store: ArrayStore):
    def fail(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    assert not store.write_file("contents.json", fail)
    assert not files(store)


def test_a_worker_maps_the_file_instead_of_receiving_the_content(store: ArrayStore):
    shared = store.share(LARGE)
    sent = ForkingPickler.dumps(shared)
    assert len(sent) < 1000
    received = pickle.loads(sent)
    assert isinstance(received, np.memmap)
    np.testing.assert_array_equal(received, LARGE)
    assert ForkingPickler.dumps(received) == sent


def test_a_part_of_a_shared_array_is_sent_as_it_is(store: ArrayStore):
    shared = store.share(LARGE)
    for part in (shared[5:9], shared[::-1][:3], shared[[3, 1]], shared.reshape(2, -1)[:, 0]):
        np.testing.assert_array_equal(pickle.loads(ForkingPickler.dumps(part)), part)
    np.testing.assert_array_equal(pickle.loads(ForkingPickler.dumps(shared.reshape(2, -1))), LARGE.reshape(2, -1))


def test_the_arrays_of_an_object_are_shared_wherever_they_are(store: ArrayStore):
    lineages = Lineages.of(large_table(), PositiveConfig())
    expected = lineages.choose(np.arange(100), np.full(100, 0.5), np.zeros(100))
    holder = Holder(lineages, (LARGE, np.arange(3)))
    before = len(ForkingPickler.dumps(holder.lineages))
    share_arrays(holder, store)
    assert isinstance(holder.arrays[0], np.memmap)
    assert not isinstance(holder.arrays[1], np.memmap)
    assert len(ForkingPickler.dumps(holder.lineages)) < before / 10
    np.testing.assert_array_equal(holder.lineages.choose(np.arange(100), np.full(100, 0.5), np.zeros(100)), expected)


def test_shared_memory_is_not_private(store: ArrayStore):
    shared = store.share(np.arange(2**22))
    assert int(shared.sum()) == 2**21 * (2**22 - 1)
    assert private_bytes(shared) == 0


def private_bytes(array: np.ndarray) -> int:
    """Return how many bytes of the mapping of an array are not those of its file; needs Linux."""
    address, private, is_inside = array.ctypes.data, 0, False
    for line in Path(f"/proc/{os.getpid()}/smaps").read_text().splitlines():
        name, _, value = line.partition(" ")
        if "-" in name and not name.endswith(":"):
            first, last = (int(part, 16) for part in name.split("-"))
            is_inside = first <= address < last
        elif is_inside and name == "Anonymous:":
            private += 1024 * int(value.split()[0])
    return private


@dataclass
class Holder:
    """An object of this module, as if it were one of the package."""

    lineages: Lineages
    arrays: tuple[np.ndarray, ...]


Holder.__module__ = "viscy_train.tests"


def large_table():
    """Return a table of one position with 2**15 tracks of eight frames."""
    import pandas as pd

    track, frame = (values.ravel() for values in np.mgrid[: 2**15, :8])
    table = pd.DataFrame({"experiment": "monday", "position": "A/1/0", "track_id": track, "t": frame})
    return table.assign(parent_track_id=-1)


def test_what_follows_from_other_arrays_is_computed_once(store: ArrayStore):
    computed = []

    def make_parts():
        computed.append(True)
        return (LARGE[start : start + 1000] for start in range(0, len(LARGE), 1000))

    for _ in range(2):
        derived = store.derive("all numbers", np.int32, len(LARGE), make_parts)
        assert isinstance(derived, np.memmap)
        assert derived.dtype == np.int32
        np.testing.assert_array_equal(derived, LARGE)
    assert len(computed) == 1
    store.derive("the same numbers", np.int32, len(LARGE), make_parts)
    assert len(computed) == 2
    assert len([*store.directory.glob("*.npy")]) == 1


@pytest.mark.parametrize("damaged", ["*.npy", "derived-*.json"])
def test_a_damaged_array_is_derived_again(store: ArrayStore, damaged: str):
    store.derive("all numbers", np.int64, len(LARGE), lambda: [LARGE])
    for file in store.directory.glob(damaged):
        content = bytearray(file.read_bytes())
        content[-2] ^= 255
        file.write_bytes(content)
    np.testing.assert_array_equal(store.derive("all numbers", np.int64, len(LARGE), lambda: [LARGE]), LARGE)


@pytest.mark.parametrize("n", [0, 5, len(LARGE)])
def test_arrays_that_are_small_or_cannot_be_stored_are_derived_in_memory(tmp_path: Path, n: int):
    (tmp_path / "file").touch()
    derived = ArrayStore(tmp_path / "file").derive("numbers", np.int64, n, lambda: [LARGE[:n]] if n else [])
    assert not isinstance(derived, np.memmap)
    assert derived.dtype == np.int64
    np.testing.assert_array_equal(derived, LARGE[:n])


def test_the_name_of_a_mapped_array_is_that_of_its_content(store: ArrayStore):
    shared = store.share(LARGE)
    for array in (LARGE, shared, shared.view(np.ndarray), shared[:-1], np.asarray(shared[1:])):
        assert name_of(array) == checksum(array)
