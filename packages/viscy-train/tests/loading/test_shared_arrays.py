"""Shared arrays: a large dataset is sent to data workers as the names of files, and loads the same batches there."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from viscy_data import AnchorIndex
from viscy_train import row_slices
from viscy_train.anchors.array_store import ArrayStore, share_arrays
from viscy_train.anchors.shared_table import share_columns, store_of
from viscy_train.anchors.table import AnchorTable
from viscy_train.composition.targets import count_strata
from viscy_train.config.schema import PositiveConfig
from viscy_train.evaluation.representation import rows_to_watch
from viscy_train.loading.batches import Batch
from viscy_train.loading.crop_source import READS
from viscy_train.loading.datasets import CropDataset, PairDataset, finish_batch
from viscy_train.loading.saved_index import saved_index
from viscy_train.loading.shared_rows import take_rows
from viscy_train.loading.split import anchors_of_parts
from viscy_train.positives.rule import make_positives
from viscy_train.training.callbacks import CompositionLogger

N_TRACKS = 2**13


@pytest.fixture(scope="module")
def large(noise) -> AnchorTable:
    """A table of the plates of noise with many tracks of four frames in each position."""
    table, _ = noise
    return with_tracks(table, N_TRACKS)


def with_tracks(table: AnchorTable, n_tracks: int) -> AnchorTable:
    """Return a table with other tracks, of four frames each, in the positions of another one."""
    cells = table.observations[["experiment", "condition", "well", "position"]].drop_duplicates(ignore_index=True)
    position, track, frame = (values.ravel() for values in np.mgrid[: len(cells), :n_tracks, :4])
    observations = cells.iloc[position].reset_index(drop=True)
    observations = observations.assign(track_id=track, t=frame, parent_track_id=-1, has_positive=True)
    observations["lineage_id"] = position * n_tracks + track
    observations["hours_post_infection"] = 0.5 * frame
    observations["y"], observations["x"] = track % 40 * 1.0, track % 48 * 1.0
    return replace(table, observations=observations)


@pytest.mark.parametrize(
    "positive",
    [
        PositiveConfig(min_frames=1, max_frames=3),
        PositiveConfig(min_frames=1, max_frames=3, decay=2.0),
        PositiveConfig(match=["condition"], differ=["experiment"]),
    ],
    ids=["frames", "decay", "metadata"],
)
def test_a_dataset_is_sent_to_workers_without_its_arrays(large: AnchorTable, tmp_path: Path, positive: PositiveConfig):
    dataset = PairDataset(large, make_positives(large.observations, large.experiments, positive), seed=3)
    batch = Batch(np.arange(0, len(large.observations), 9973), epoch=1, index=2)
    expected = finish_batch(dataset.__getitems__(batch))
    size = len(ForkingPickler.dumps(dataset))
    share_arrays(dataset, ArrayStore(tmp_path / "arrays"))
    sent = ForkingPickler.dumps(dataset)
    assert len(sent) < min(10_000, size / 100)
    for loaded in (dataset, pickle.loads(sent)):
        values_of = finish_batch(loaded.__getitems__(batch))
        for name in values_of.keys() - {READS}:  # how much each of them has read
            np.testing.assert_array_equal(values_of[name].numpy(), expected[name].numpy(), err_msg=name)


def test_the_crops_of_a_large_table_are_located_without_a_copy(large: AnchorTable, tmp_path: Path):
    dataset = CropDataset(large)
    share_arrays(dataset, ArrayStore(tmp_path / "arrays"))
    assert len(ForkingPickler.dumps(dataset)) < 10_000
    rows = np.arange(0, len(dataset), 9973).tolist()
    expected = CropDataset(large).__getitems__(rows)["crops"].finish()
    np.testing.assert_array_equal(dataset.__getitems__(rows)["crops"].finish().numpy(), expected.numpy())


def test_datasets_hold_no_frame(large: AnchorTable):
    positives = make_positives(large.observations, large.experiments, large.positive)
    for dataset in (PairDataset(large, positives, seed=0), CropDataset(large)):
        assert not list(frames_within(dataset))


def frames_within(value: object):
    """Yield the frames that an object holds, also through the objects that it consists of."""
    for attribute in vars(value).values():
        if isinstance(attribute, pd.DataFrame | pd.Series | AnchorTable):
            yield attribute
        elif type(attribute).__module__.startswith("viscy_train"):
            yield from frames_within(attribute)


@pytest.mark.weekly
@pytest.mark.slow
def test_what_follows_from_a_shared_table_takes_few_bytes_a_row(large: AnchorTable, tmp_path: Path, monkeypatch):
    """Once a process of the machine has computed it; the parts are small, so that only what grows with rows counts."""
    monkeypatch.setattr(row_slices, "ROWS_PER_SLICE", 2**13)
    large = with_tracks(large, 2**16)
    path = tmp_path / "anchors.parquet"
    path.touch()
    store, observations = store_of(path), share_columns(path, large.observations)
    shared, is_kept = replace(large, observations=observations), store.share(large.observations["t"].to_numpy() > 2)
    needed = ["experiment", "condition", "hours_post_infection"]

    def start() -> tuple[Any, ...]:
        rows = anchors_of_parts(shared, is_kept, store)[0]
        taken, counts = take_rows(observations[needed], rows, store), count_strata(observations)
        return fingerprint_of(shared), rows, taken, counts, CompositionLogger(observations)

    fingerprint, rows, taken, counts, _ = start()
    assert fingerprint == fingerprint_of(large)
    assert np.array_equal(rows, anchors_of_parts(large, is_kept)[0])
    pd.testing.assert_frame_equal(taken, large.observations[needed].iloc[rows].reset_index(drop=True))
    assert counts.sum() == len(observations) > 1e6
    row_slices.release(rows, *row_slices.mapped_arrays(taken))
    peak, left = memory_of(start)
    assert peak < 1.0 * len(observations), f"{peak / len(observations):.2f} bytes a row"
    assert left < 0.2 * len(observations), f"{left / len(observations):.2f} bytes a row"
    assert mapped_memory(store) < 0.1 * sum(one.nbytes for one in row_slices.mapped_arrays(observations))
    # Of each track, here a fourth of the rows, the first row is found, and how many of its rows are validated.
    peak, left = memory_of(lambda: rows_to_watch(observations, rows, 100, seed=0))
    assert peak < 12 * len(observations), f"{peak / len(observations):.2f} bytes a row"
    assert left < 0.1 * len(observations), f"{left / len(observations):.2f} bytes a row"


def mapped_memory(store: ArrayStore) -> int:
    """Return how many bytes of the files of a store this process has in memory, 0 where that is not known."""
    maps = Path("/proc/self/smaps")
    n_bytes, is_of_store = 0, False
    for line in maps.read_text(encoding="utf-8").splitlines() if maps.exists() else []:
        name, *values = line.split()
        if not name.endswith(":"):
            is_of_store = str(store.directory) in line
        elif name == "Rss:" and is_of_store:
            n_bytes += 1024 * int(values[0])
    return n_bytes


def test_an_index_is_sorted_while_no_column_is_mapped(tmp_path: Path, monkeypatch):
    n, path, mapped = 2**20, tmp_path / "anchors.parquet", []
    path.touch()
    rows = np.arange(n)
    columns = pd.DataFrame({"hours_post_infection": rows % 40 / 2, "lineage_id": rows // 4})
    columns["experiment"], columns["condition"] = pd.Categorical(rows % 3), pd.Categorical(rows % 2)
    anchors, store = share_columns(path, columns), store_of(path)
    options = {"temporal_enrichment": True, "distinct_by": "lineage_id"}
    expected, from_codes = AnchorIndex.build(anchors, **AnchorIndex.axes_of(**options)), AnchorIndex.from_codes
    assert mapped_memory(store) > n or not Path("/proc/self/smaps").exists()

    def sort(*codes: Any, **by: Any) -> AnchorIndex:
        mapped.append(mapped_memory(store))
        return from_codes(*codes, **by)

    monkeypatch.setattr(AnchorIndex, "from_codes", sort)
    index = saved_index(store.directory, anchors, options)
    assert index.digest == expected.digest
    np.testing.assert_array_equal(index.order, expected.order)
    assert mapped[0] < n / 2, "bytes, of the 18 that a row has"


def test_pages_of_a_mapped_array_are_given_back_and_read_again(tmp_path: Path):
    store, array = ArrayStore(tmp_path), np.arange(2**18)
    mapped, inside = store.share(array), store.share(array)[100:]
    assert mapped.sum() == array.sum()
    if Path("/proc/self/smaps").exists():
        assert mapped_memory(store) >= array.nbytes
    row_slices.release(mapped, inside, array)
    assert mapped_memory(store) < array.nbytes / 4
    np.testing.assert_array_equal(mapped, array)


def test_a_stored_array_is_verified_without_mapping_its_pages(tmp_path: Path):
    store, array = ArrayStore(tmp_path), np.random.default_rng(0).random(2**18)
    name = store.put(array)
    assert name is not None
    opened = store.open(name)
    assert mapped_memory(store) < array.nbytes / 4
    np.testing.assert_array_equal(opened, array)


def memory_of(function: Callable[[], object]) -> tuple[int, int]:
    """Return the largest memory of NumPy and Python while a function runs, and what its result takes, in bytes."""
    tracemalloc.start()
    try:
        kept = function()
        left, peak = tracemalloc.get_traced_memory()
        return peak, left if kept is not None else 0
    finally:
        tracemalloc.stop()


def fingerprint_of(table: AnchorTable) -> dict[str, str]:
    return replace(table).fingerprint
