"""A large table is decoded some rows at a time, by one process of a machine, and equals the one that was written."""

import subprocess
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from viscy_train.anchors import column_decoder, observation_parts, shared_table
from viscy_train.anchors.array_store import ArrayStore
from viscy_train.anchors.column_decoder import decode_columns
from viscy_train.anchors.shared_table import store_of
from viscy_train.anchors.table import AnchorTable
from viscy_train.errors import UserError
from viscy_train.positives import lineage_parts

# Says that it has begun to decode, and continues when a line arrives.
HOLDER = """
import sys
from pathlib import Path
from viscy_train.anchors import shared_table
from viscy_train.anchors.table import AnchorTable

def decode_on_request(*arguments, decode=shared_table.decode_columns):
    print("decoding", flush=True)
    sys.stdin.readline()
    return decode(*arguments)

shared_table.LEAST_ROWS = 1
shared_table.decode_columns = decode_on_request
print(AnchorTable.read(Path(sys.argv[1])).fingerprint)
"""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(shared_table, "LEAST_ROWS", 1)
    monkeypatch.setattr(column_decoder, "_ROWS_PER_PART", 7)
    monkeypatch.setattr(lineage_parts, "LEAST_ROWS_PER_PART", 1)


@pytest.fixture
def path(table, tmp_path) -> Path:
    table.write(tmp_path / "anchors.parquet")
    return tmp_path / "anchors.parquet"


@pytest.fixture
def holder(path):
    """A process that has begun to decode the table."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "decoding\n"
            yield process
        finally:
            process.kill()


def refuse_to_decode(monkeypatch):
    def decode(*_):
        raise AssertionError("the columns must be opened")

    monkeypatch.setattr(shared_table, "decode_columns", decode)


def test_processes_that_start_at_once_decode_once(table, path, holder, monkeypatch):
    refuse_to_decode(monkeypatch)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(AnchorTable.read, path)
        said = holder.communicate("continue\n", timeout=120)[0]
        read = waiting.result(timeout=120)
    assert said.strip() == str(table.fingerprint) == str(read.fingerprint)
    pd.testing.assert_frame_equal(read.observations, table.observations)
    assert sorted(file.name for file in path.parent.iterdir()) == [".anchors.parquet.arrays", path.name]


def test_a_killed_process_keeps_nobody_waiting(table, path, holder):
    done = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(AnchorTable.read, path)
        waiting.add_done_callback(lambda _: done.set())
        assert not done.wait(0.5)
        holder.kill()
        pd.testing.assert_frame_equal(waiting.result(timeout=120).observations, table.observations)


@pytest.mark.parametrize("rows_per_group", [None, 11])
def test_columns_have_the_bits_of_pandas(tmp_path, rows_per_group):
    n = 50
    text = pd.Series(np.array(["b", "ü", "a"])[np.arange(n) * 3 // n]).where(np.arange(n) % 5 > 0)
    columns = {"whole": np.arange(n) - 3, "real": np.where(np.arange(n) % 3, np.nan, 0.1), "is": np.arange(n) % 2 == 0}
    frame = pd.DataFrame(columns | {"text": pd.Categorical(text), "text.b": pd.Categorical(text.fillna("c"))})
    many = pd.Categorical(np.arange(n).astype(str))
    frame = frame.assign(many=many, empty=pd.Categorical([None] * n, categories=["x"]))
    path = tmp_path / "table.parquet"
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table, path, row_group_size=rows_per_group, write_page_checksum=True)
    store = ArrayStore(tmp_path / "arrays")
    decoded = decode_columns(path, list(frame), store)
    assert decoded is not None
    for name, expected in pq.read_table(path).to_pandas().items():
        categories, values = decoded[name]["categories"], expected.to_numpy()
        if isinstance(expected.dtype, pd.CategoricalDtype):
            assert categories == list(expected.cat.categories)
            values = expected.cat.codes.to_numpy()
        stored = store.open(decoded[name]["array"])
        assert stored is not None
        assert (stored.dtype, stored.tobytes()) == (values.dtype, values.tobytes()), name


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, None]),
        pa.array([True, None]),
        pa.array(["a", "b"]),
        pa.array([1, 2], pa.int32()),
        pa.array([b"a", b"b"]).dictionary_encode(),
    ],
)
def test_columns_that_index_does_not_write_are_left_to_pandas(tmp_path, column):
    path, store = tmp_path / "table.parquet", ArrayStore(tmp_path / "arrays")
    pq.write_table(pa.table({"a": column}), path)
    assert decode_columns(path, ["a"], store) is None
    assert decode_columns(path, ["b"], store) is None
    assert not [*store.directory.glob("*")] if store.directory.exists() else True


def test_invalid_rows_are_named_as_in_a_small_table(table, tmp_path, monkeypatch):
    path = tmp_path / "anchors.parquet"
    observations = table.observations.copy()
    observations.loc[[5, len(observations) - 1], "y"] = np.nan
    replace(table, observations=observations).write(path)
    messages = []
    for least in (1, len(observations) + 1):
        monkeypatch.setattr(shared_table, "LEAST_ROWS", least)
        with pytest.raises(UserError, match=r"in row 5 \(2 rows affected\)") as error:
            AnchorTable.read(path)
        messages.append(str(error.value))
        assert not store_of(path).directory.exists()
    assert messages[0] == messages[1]


def repeated(table: AnchorTable, n: int) -> AnchorTable:
    """Return a table of many copies of a position."""
    observations = table.observations
    first = observations[["experiment", "position"]].iloc[0]
    part = observations[(observations["experiment"] == first.iloc[0]) & (observations["position"] == first.iloc[1])]
    copies = np.repeat(np.arange(n), len(part))
    tiled = part.iloc[np.tile(np.arange(len(part)), n)].reset_index(drop=True)
    names = [f"{part['well'].iloc[0]}/{copy:05}" for copy in range(n)]
    position = pd.Categorical.from_codes(copies, categories=names)
    lineage = tiled["lineage_id"] + copies * (int(part["lineage_id"].max()) + 1)
    return replace(table, observations=tiled.assign(position=position, lineage_id=lineage))


def test_a_table_of_many_positions_is_checked_in_parts(table, monkeypatch):
    many = repeated(table, 30)
    check, sizes = observation_parts.check_observations, []

    def check_and_count(observations, *arguments, **options):
        sizes.append(len(observations))
        check(observations, *arguments, **options)

    monkeypatch.setattr(observation_parts, "check_observations", check_and_count)
    observation_parts.check_in_parts(many.observations, many.experiments, many.positive)
    assert sizes == [len(many.observations) // 30] * 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.assign(lineage_id=table["lineage_id"] % 7), "lineage"),
        (lambda table: table.iloc[::-1].reset_index(drop=True), "rows must be sorted"),
        (lambda table: table.assign(position=table["position"].cat.rename_categories(lambda name: name[::-1])), "posi"),
        (lambda table: table.assign(has_positive=~table["has_positive"]), "positive"),
    ],
)
def test_rules_between_positions_are_checked(table, change, message):
    many = repeated(table, 30)
    with pytest.raises(UserError, match=message):
        observation_parts.check_in_parts(change(many.observations), many.experiments, many.positive)


def test_positions_in_another_order_are_refused(table):
    """Each of the parts obeys all rules."""
    many = repeated(table, 4)
    n = len(many.observations) // 4
    swapped = many.observations.iloc[np.r_[n : 2 * n, :n, 2 * n : 4 * n]].reset_index(drop=True)
    with pytest.raises(UserError, match=f"rows must be sorted .* out of order in row {n}"):
        observation_parts.check_in_parts(swapped, many.experiments, many.positive)


def test_reading_takes_few_bytes_a_row(table, tmp_path, monkeypatch):
    monkeypatch.setattr(column_decoder, "_ROWS_PER_PART", 2**9)
    monkeypatch.setattr(lineage_parts, "LEAST_ROWS_PER_PART", 2**9)
    sizes, peaks = [], []
    for n_positions in (50, 250):
        many = repeated(table, n_positions)
        many.write(tmp_path / f"{n_positions}.parquet")
        sizes.append(len(many.observations))
        del many
        peaks.append(peak_of_reading(tmp_path / f"{n_positions}.parquet"))
    per_row = (peaks[1] - peaks[0]) / (sizes[1] - sizes[0])
    assert per_row < 48, f"{per_row:.0f} bytes a row, {sizes[1]:,} rows"  # several times as many, all at once


def peak_of_reading(path: Path) -> int:
    """Return the largest memory of NumPy, pandas and Arrow while a table is read, in bytes, without mapped files."""
    default = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(default)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        AnchorTable.read(path)
        return tracemalloc.get_traced_memory()[1] + (pool.max_memory() or 0)
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(default)
