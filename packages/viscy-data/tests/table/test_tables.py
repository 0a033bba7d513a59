"""Containers of a table: the same content gives the same batches, and only the columns in use are read."""

import datetime
import decimal
import sys
import tracemalloc
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viscy_data import AnchorIndex, FlexibleBatchSampler
from viscy_data._table import tables
from viscy_sampling_testkit import AWKWARD_TABLES, make_anchors

TABLE = make_anchors(600, n_experiments=3, conditions={"mock": 9, "infected": 1}, seed=1)
ON = {"temporal_enrichment": True, "leaky": 0.1, "batch_size": 16}
AXES = ["experiment", "condition", "hours_post_infection"]


def to_arrow(frame):
    return pa.Table.from_pandas(frame, preserve_index=False)


def split_into_chunks(table):
    """Return an Arrow table whose columns consist of several chunks, one of them empty."""
    cuts = [0, len(table) // 5, len(table) // 2, len(table) // 2, len(table)]
    return pa.concat_tables(table.slice(a, b - a) for a, b in pairwise(cuts))


def to_file(table, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def to_folder(table, folder):
    cuts = [0, len(table) // 3, len(table) // 2, len(table) // 2, len(table)]
    for i, (a, b) in enumerate(pairwise(cuts)):
        to_file(table.slice(a, b - a), folder / f"part-{i}.parquet", row_group_size=max(50, len(table) // 9))
    return folder


# Each makes one of the containers that a user can have from an Arrow table, in a directory if it needs files.
ARROW = {
    "pyarrow Table": lambda table, _: table,
    "chunked pyarrow Table": lambda table, _: split_into_chunks(table),
    "pyarrow RecordBatch": lambda table, _: pa.RecordBatch.from_arrays(
        [column.combine_chunks() for column in table.columns], table.column_names
    ),
    "polars": lambda table, _: pl.from_arrow(table),
    "chunked polars": lambda table, _: pl.from_arrow(split_into_chunks(table), rechunk=False),
    "pandas, Arrow-backed": lambda table, _: table.to_pandas(types_mapper=pd.ArrowDtype),
    "Parquet file": lambda table, folder: str(to_file(table, folder / "anchors.parquet")),
    "Parquet file without dictionaries": lambda table, folder: to_file(
        table, folder / "anchors.pq", row_group_size=max(50, len(table) // 9), use_dictionary=False
    ),
    "Parquet folder": lambda table, folder: to_folder(table, folder / "anchors"),
}
CONTAINERS = {"pandas": lambda table, _: table.to_pandas(), **ARROW}
each_container = pytest.mark.parametrize("make_container", CONTAINERS.values(), ids=CONTAINERS)
each_other_container = pytest.mark.parametrize("make_container", ARROW.values(), ids=ARROW)


@pytest.fixture(autouse=True)
def chunk(request, monkeypatch):
    """Read columns in chunks of 7 rows, or of the size that a test gives."""
    n_rows = getattr(request, "param", 7)
    monkeypatch.setattr("viscy_data._table.tables.CHUNK", n_rows)
    monkeypatch.setattr("viscy_data._table.columns.CHUNK", n_rows)


with_chunk_sizes = partial(pytest.mark.parametrize, "chunk", indirect=True)


def build_index(anchors, **axes):
    return AnchorIndex.build(anchors, **{"experiment_by": None, "condition_by": None, "time_by": None, **axes})


def make_labels(values, kind=None):
    """Make an Arrow table with a column ``x`` of labels."""
    encoded = kind is not None and pa.types.is_dictionary(kind)
    array = pa.array(values, kind.value_type if encoded else kind)
    if encoded:
        array = array.dictionary_encode()
        array = pa.DictionaryArray.from_arrays(array.indices.cast(kind.index_type), array.dictionary)
    return pa.table({"x": array})


# the same content, the same batches


@with_chunk_sizes([7, 2**18])
@each_container
def test_the_same_content_gives_the_same_batches(make_container, tmp_path):
    expected = FlexibleBatchSampler(TABLE, **ON)
    found = FlexibleBatchSampler(make_container(to_arrow(TABLE), tmp_path), **ON)
    assert list(found) == list(expected)


@each_container
def test_the_same_content_has_the_same_index(make_container, tmp_path):
    expected, found = AnchorIndex.build(TABLE), AnchorIndex.build(make_container(to_arrow(TABLE), tmp_path))
    assert found.digest == expected.digest
    assert (found.groups, found.conditions) == (expected.groups, expected.conditions)
    assert found.times.tolist() == expected.times.tolist()
    assert found.order.tolist() == expected.order.tolist()


@each_other_container
def test_a_run_resumes_from_one_container_to_another(make_container, tmp_path):
    before, after = (
        FlexibleBatchSampler(TABLE, **ON),
        FlexibleBatchSampler(make_container(to_arrow(TABLE), tmp_path), **ON),
    )
    next(iter(before))
    after.load_state_dict(before.state_dict())
    assert next(iter(after)) == before.batch(1)
    before.load_state_dict(after.state_dict())
    assert next(iter(before)) == after.batch(2)


@pytest.mark.slow
@each_other_container
@pytest.mark.parametrize("name", [name for name in AWKWARD_TABLES if name != "mixed_key_types"])
def test_awkward_tables_are_the_same_in_every_container(make_container, name, tmp_path):
    table = AWKWARD_TABLES[name]()[AXES]
    assert AnchorIndex.build(make_container(to_arrow(table), tmp_path)).digest == AnchorIndex.build(table).digest


@each_container
def test_several_columns_define_a_group_in_every_container(make_container, tmp_path):
    by = ["condition", "experiment"]
    found = build_index(make_container(to_arrow(TABLE), tmp_path), experiment_by=by, condition_by="t")
    assert found.digest == build_index(TABLE, experiment_by=by, condition_by="t").digest
    assert found.groups[0] == ("infected", "exp0")


@settings(deadline=None, max_examples=30)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(-2, 2), st.sampled_from([0.0, 0.1, 2.5, -3.0])), min_size=1
    ),
    cuts=st.lists(st.integers(0, 30), max_size=4),
    chunk=st.sampled_from([1, 2, 5, 1000]),
)
def test_the_index_does_not_depend_on_how_a_table_is_chunked(rows, cuts, chunk):
    frame = pd.DataFrame(rows, columns=AXES)
    table = to_arrow(frame)
    cuts = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    pieces = pa.concat_tables(table.slice(a, b - a) for a, b in pairwise(cuts))
    expected = AnchorIndex.build(frame)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "CHUNK", chunk)
        for anchors in (pieces, pl.from_arrow(pieces, rechunk=False), frame):
            found = AnchorIndex.build(anchors)
            assert (found.digest, found.order.tolist()) == (expected.digest, expected.order.tolist())


# types of labels


DAY = datetime.date(2026, 1, 2)
TIMESTAMP = datetime.datetime(2026, 1, 2, 3, 4, 5, 678)
text, numbers = ["b", "a", "b", "c"], [3, -1, 3, 2]
dictionary = pa.dictionary
LABELS = {
    "text": (text, [pa.string(), pa.large_string()]),
    "integers": (numbers, [pa.int8(), pa.int16(), pa.int32(), pa.int64()]),
    "unsigned": ([3, 1, 3, 2**63], [pa.uint64()]),
    "booleans": ([True, False, True, True], [pa.bool_()]),
    "floats": ([0.5, -0.25, 0.5, 3.0], [pa.float32(), pa.float64()]),
    "dates": ([DAY, DAY - datetime.timedelta(9), DAY, DAY], [pa.date32()]),
    "timestamps": ([TIMESTAMP, TIMESTAMP.replace(year=2024), TIMESTAMP], [pa.timestamp("us"), pa.timestamp("ns")]),
    "timestamps with a time zone": ([pd.Timestamp(TIMESTAMP, tz="UTC")] * 2, [pa.timestamp("us", "UTC")]),
    "timestamps with a time zone far from UTC": (
        [pd.Timestamp(TIMESTAMP, tz="Asia/Tokyo")] * 2,
        [pa.timestamp("us", "Asia/Tokyo")],
    ),
    "times of day": ([datetime.time(3), datetime.time(1)], [pa.time64("us")]),
    "durations": ([pd.Timedelta("3h"), pd.Timedelta("1h")], [pa.duration("us")]),
    "decimals": ([decimal.Decimal("2.50"), decimal.Decimal("1.25")], [pa.decimal128(5, 2)]),
    "bytes": ([b"b", b"a"], [pa.binary()]),
}
KINDS = [(name, kind) for name, (_, kinds) in LABELS.items() for kind in kinds]


@each_container
@pytest.mark.parametrize(("name", "kind"), KINDS, ids=[f"{name}: {kind}" for name, kind in KINDS])
def test_labels_of_every_type_are_the_same_in_every_container(make_container, name, kind, tmp_path):
    values = LABELS[name][0] * 9
    assert_index_of(values, make_container(make_labels(values, kind), tmp_path))


def assert_index_of(values, anchors):
    """Assert that anchors give the index of a pandas frame with these values, including the types of the labels."""
    expected, found = (
        build_index(pd.DataFrame({"x": values}), experiment_by="x"),
        build_index(anchors, experiment_by="x"),
    )
    assert repr(found.groups) == repr(expected.groups)
    assert [type(label) for label in found.groups] == [type(label) for label in expected.groups]
    assert found.digest == expected.digest


@each_other_container
@pytest.mark.parametrize("codes", [pa.int8(), pa.uint8(), pa.int32(), pa.uint32(), pa.int64()], ids=str)
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()], ids=str)
def test_dictionary_encoded_text_is_text(make_container, kind, codes, tmp_path):
    assert_index_of(text * 9, make_container(make_labels(text * 9, dictionary(codes, kind)), tmp_path))


@pytest.mark.parametrize("kind", [pa.int64(), pa.float32(), pa.bool_()], ids=str)
def test_a_dictionary_can_encode_other_values_than_text(kind):
    values = [1, 0, 1, 1] * 9
    table = make_labels(pa.array(values).cast(kind).to_pylist(), dictionary(pa.int32(), kind))
    assert_index_of(table["x"].to_pylist(), table)


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical, pl.Enum(["z", "c", "b", "a"])], ids=str)
def test_polars_text_types_are_text(kind):
    frame = pl.DataFrame({"x": pl.Series(text * 9, dtype=kind)})
    assert build_index(frame, experiment_by="x").digest == build_index(frame.to_pandas(), experiment_by="x").digest
    assert build_index(frame, experiment_by="x").groups == ("a", "b", "c")


def test_arrow_string_views_are_text():
    assert build_index(make_labels(text, pa.string_view()), experiment_by="x").groups == ("a", "b", "c")


def test_polars_objects_keep_their_python_types():
    values = [1, "1", ("a", 2), 1] * 5
    frame = pl.DataFrame({"x": pl.Series(values, dtype=pl.Object)})
    expected = build_index(pd.DataFrame({"x": pd.Series(values, dtype=object)}), experiment_by="x")
    assert build_index(frame, experiment_by="x").groups == expected.groups == (1, "1", ("a", 2))


def test_a_dictionary_can_repeat_a_value():
    array = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 1]), pa.array(["b", "a", "b"]))
    index = build_index(pa.table({"x": array}), experiment_by="x")
    assert index.groups == ("a", "b")
    assert index.order.tolist() == [1, 3, 0, 2]


@each_other_container
def test_categories_that_no_row_has_are_not_labels(make_container, tmp_path):
    frame = pd.DataFrame({"x": pd.Categorical(["b", "a"] * 9, categories=["z", "b", "a", "y"])})
    assert build_index(make_container(to_arrow(frame), tmp_path), experiment_by="x").groups == ("a", "b")


# times


NUMBERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint64(), pa.float32(), pa.float64()]


@each_container
@pytest.mark.parametrize("kind", NUMBERS, ids=str)
def test_times_can_have_any_numeric_type_in_every_container(make_container, kind, tmp_path):
    table = pa.table({"t": pa.array([4, 2, 2, 0, 16] * 5).cast(kind)})
    index = build_index(make_container(table, tmp_path), time_by="t")
    assert index.times.tolist() == [0.0, 2.0, 4.0, 16.0]
    assert index.time_tolerance == 4 * np.finfo(np.float32 if kind == pa.float32() else np.float64).eps


@each_container
@pytest.mark.parametrize(
    "times",
    [
        pa.array([decimal.Decimal("1.5")] * 9),
        pa.array([datetime.timedelta(hours=1)] * 9),
        pa.array([DAY] * 9),
        pa.array(["1 h"] * 9),
        pa.array([True] * 9),
    ],
    ids=lambda times: str(times.type),
)
def test_times_that_are_not_numbers_raise_an_error(make_container, times, tmp_path):
    with pytest.raises(TypeError, match=r"the time column 't' must hold numbers .* got dtype .*; convert it"):
        build_index(make_container(pa.table({"t": times}), tmp_path), time_by="t")


@each_container
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "column 't' must have no missing values .* got 2 of 20, first at positions 9, 14; drop"),
        (float("nan"), "column 't' must have no missing values .* got 2 of 20, first at positions 9, 14; drop"),
        (float("-inf"), "times must be finite, got 2 infinite values in column 't', first at positions 9, 14; drop"),
    ],
)
def test_missing_or_infinite_times_raise_an_error_that_gives_their_rows(make_container, value, message, tmp_path):
    times = [1.0] * 20
    times[9] = times[14] = value
    with pytest.raises(ValueError, match=message):
        build_index(make_container(pa.table({"t": pa.array(times)}), tmp_path), time_by="t")


# invalid tables


@each_container
@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        dictionary(pa.int8(), pa.string()),
        pa.int64(),
        pa.bool_(),
        pa.date32(),
        pa.timestamp("us"),
        pa.null(),
    ],
    ids=str,
)
def test_missing_labels_raise_an_error_that_gives_their_rows(make_container, kind, tmp_path):
    value = {"int64": 1, "bool": True, "date32[day]": DAY, "timestamp[us]": TIMESTAMP, "null": None}.get(str(kind), "a")
    table = make_labels([value] * 9 + [None] + [value] * 4 + [None], kind)
    count = "15 of 15, first at positions 0, 1, 2, 3, 4" if value is None else "2 of 15, first at positions 9, 14"
    with pytest.raises(ValueError, match=rf"column 'x' must have no missing values .* got {count}; drop"):
        build_index(make_container(table, tmp_path), experiment_by="x")


@pytest.mark.parametrize("values", [["a", None], [1.5, float("nan")]])
def test_a_value_that_is_missing_from_a_dictionary_is_missing(values):
    array = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0, 1]), pa.array(values))
    with pytest.raises(ValueError, match="got 2 of 4, first at positions 1, 3"):
        build_index(pa.table({"x": array}), experiment_by="x")


UNION = pa.UnionArray.from_sparse(pa.array([0, 0], pa.int8()), [pa.array([1, 2])])


@pytest.mark.parametrize("array", [pa.array([[1], [2]]), pa.array([{"a": 1}] * 2), UNION], ids=lambda a: str(a.type))
def test_values_that_cannot_be_labels_raise_an_error(array):
    with pytest.raises(TypeError, match=r"column 'x' must hold text, .* got dtype .*; convert it"):
        build_index(pa.table({"x": array}), experiment_by="x")


@each_container
def test_a_missing_column_raises_an_error_that_lists_the_columns(make_container, tmp_path):
    anchors = make_container(to_arrow(TABLE[["condition", "t"]]), tmp_path)
    message = r"experiment_aware=True needs exactly one column 'experiment', but the table lacks it; its columns are"
    with pytest.raises(ValueError, match=message):
        AnchorIndex.build(anchors)


def test_a_duplicate_column_raises_an_error(tmp_path):
    table = pa.table([pa.array(["a"]), pa.array(["b"])], names=["x", "x"])
    for anchors in (table, table.to_batches()[0], to_file(table, tmp_path / "twice.parquet")):
        with pytest.raises(ValueError, match="has it 2 times"):
            build_index(anchors, experiment_by="x")
        assert len(build_index(anchors)) == 1


@each_container
def test_an_empty_table_raises_an_error(make_container, tmp_path):
    with pytest.raises(ValueError, match="valid_anchors must have at least one row, got an empty table"):
        AnchorIndex.build(make_container(to_arrow(TABLE[:0]), tmp_path))


@pytest.mark.parametrize(
    ("anchors", "message"),
    [
        (pl.LazyFrame({"x": [1]}), r"got LazyFrame; call \.collect\(\) on it first"),
        (pl.Series([1]), "got Series; convert"),
        (pa.array([1]), "got Int64Array; convert"),
        (np.zeros(3), "got ndarray; convert"),
        (None, "got NoneType; convert"),
    ],
    ids=lambda anchors: type(anchors).__name__,
)
def test_an_object_that_is_not_a_table_raises_an_error(anchors, message):
    for make in (AnchorIndex.build, FlexibleBatchSampler):
        with pytest.raises(TypeError, match=rf"must be a DataFrame of pandas or polars, a pyarrow Table, .* {message}"):
            make(anchors)


# files


def test_the_time_column_of_a_file_is_checked_even_if_it_changes_nothing(tmp_path):
    path = to_file(to_arrow(TABLE.assign(hours_post_infection="1 h")), tmp_path / "anchors.parquet")
    with pytest.raises(TypeError, match="must hold numbers"):
        FlexibleBatchSampler(path, temporal_enrichment=True, temporal_global_fraction=1.0)


def test_a_path_that_does_not_exist_raises_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path of a Parquet file .* got .*nowhere\.parquet, which .* correct"):
        FlexibleBatchSampler(tmp_path / "nowhere.parquet")


def test_a_directory_without_parquet_files_raises_an_error(tmp_path):
    (tmp_path / "anchors.csv").write_text("x")
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(ValueError, match=r"must hold files that end in \.parquet, got .* with none; correct the path"):
        FlexibleBatchSampler(str(tmp_path))


def test_the_directory_of_an_index_raises_an_error_that_names_the_right_function(tmp_path):
    AnchorIndex.build(TABLE).save(tmp_path / "index")
    with pytest.raises(ValueError, match="with none; open a saved index with"):
        FlexibleBatchSampler(tmp_path / "index")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"experiment,condition\nday1,mock\n"])
def test_a_file_that_is_not_parquet_raises_an_error(tmp_path, content):
    path = tmp_path / "anchors.parquet"
    path.write_bytes(content)
    for anchors in (path, tmp_path):
        with pytest.raises(ValueError, match=r"anchors\.parquet must be a .*Parquet file.* got: .*; "):
            FlexibleBatchSampler(anchors)


def overwrite_column(path, name):
    """Overwrite the content of one column of a Parquet file, in every row group."""
    content = bytearray(path.read_bytes())
    metadata = pq.read_metadata(path)
    for i in range(metadata.num_row_groups):
        for j in range(metadata.num_columns):
            column = metadata.row_group(i).column(j)
            if column.path_in_schema == name:
                start = column.dictionary_page_offset or column.data_page_offset
                content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)


def test_only_the_columns_of_the_axes_that_are_on_are_read(tmp_path):
    path = to_file(to_arrow(TABLE), tmp_path / "anchors.parquet", row_group_size=100)
    for name in set(TABLE) - {"experiment", "condition"}:
        overwrite_column(path, name)
    assert list(FlexibleBatchSampler(path, 16)) == list(FlexibleBatchSampler(TABLE, 16))
    with pytest.raises(ValueError, match=r"anchors\.parquet must be a .*Parquet file"):
        FlexibleBatchSampler(path, 16, temporal_enrichment=True)


def test_nested_columns_and_names_with_dots_stay_apart(tmp_path):
    table = pa.table({"a": ["x", "y"], "a.b": ["p", "q"], "n": [{"x": 1}, {"x": 2}]})
    path = to_file(table, tmp_path / "anchors.parquet")
    assert build_index(path, experiment_by="a", condition_by="a.b").conditions == ("p", "q")
    with pytest.raises(TypeError, match="'n' must hold text"):
        build_index(path, experiment_by="n")


def test_the_files_of_a_directory_are_read_in_the_order_of_their_paths(tmp_path):
    names = ["part-10.parquet", "part-2.parquet", "a/z.parquet", "a-b/y.parquet", "a.parquet/x.parquet"]
    for name in names:
        to_file(make_labels([name]), tmp_path / name)
    for name in ("_temporary/0.parquet", ".cache/0.parquet", "_metadata.parquet", "notes.txt", "other.pq"):
        to_file(make_labels([name]), tmp_path / name)
    index = build_index(tmp_path, experiment_by="x")
    ordered = ["a/z.parquet", "a-b/y.parquet", "a.parquet/x.parquet", "part-10.parquet", "part-2.parquet"]
    assert {index.groups[i]: position for i, position in enumerate(index.order)} == {
        name: i for i, name in enumerate(ordered)
    }


def test_the_files_of_a_directory_can_differ_in_type_and_order_of_columns(tmp_path):
    to_file(pa.table({"x": pa.array([1, 2], pa.int8()), "t": pa.array([0.5, 1], pa.float32())}), tmp_path / "a.parquet")
    to_file(pa.table({"t": pa.array([1.0, 0.25]), "x": pa.array([2, 300])}), tmp_path / "b.parquet")
    index = build_index(tmp_path, experiment_by="x", time_by="t")
    assert index.groups == (1, 2, 300)
    assert index.times.tolist() == [0.25, 0.5, 1.0]
    assert index.time_tolerance == 4 * np.finfo(np.float32).eps


def test_a_file_without_the_column_raises_an_error_that_names_it(tmp_path):
    to_file(make_labels(["a"]), tmp_path / "a.parquet")
    to_file(pa.table({"y": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(
        ValueError, match=r"must have the column 'x', .*b\.parquet lacks it; its columns are \['y'\]: rewrite"
    ):
        build_index(tmp_path, experiment_by="x")


def test_directories_can_name_a_column_and_its_value(tmp_path):
    for day, dose in (("mon", 10), ("tue", 9), ("thu fri/sat", -1)):
        table = to_arrow(TABLE[["condition"]])
        pq.write_to_dataset(
            table.append_column("day", pa.array([day] * 600)).append_column("dose", pa.array([dose] * 600)),
            tmp_path,
            partition_cols=["day", "dose"],
        )
    index = build_index(tmp_path, experiment_by=["day", "dose"], condition_by="condition", time_by="dose")
    assert index.groups == (("mon", 10), ("thu fri/sat", -1), ("tue", 9))
    assert index.times.tolist() == [-1.0, 9.0, 10.0]
    assert index.order[:60].max() < 600


def test_values_in_directory_names_are_integers_only_if_all_are_and_none_has_leading_zeros(tmp_path):
    for well, site in (("1", "01"), ("2", "2"), ("10", "3")):
        to_file(make_labels(["a"]), tmp_path / f"well={well}" / f"site={site}" / "0.parquet")
    index = build_index(tmp_path, experiment_by="well", condition_by="site")
    assert index.groups == (1, 2, 10)
    assert index.conditions == ("01", "2", "3")


def test_the_default_partition_of_hive_is_a_missing_value(tmp_path):
    to_file(make_labels(["a"]), tmp_path / "well=1" / "0.parquet")
    to_file(make_labels(["a", "b"]), tmp_path / "well=__HIVE_DEFAULT_PARTITION__" / "0.parquet")
    with pytest.raises(ValueError, match="got 2 of 3, first at positions 1, 2"):
        build_index(tmp_path, experiment_by="well")


def test_a_column_in_the_file_takes_precedence_over_that_of_its_directory(tmp_path):
    to_file(make_labels(["a", "b"]), tmp_path / "x=c" / "0.parquet")
    assert build_index(tmp_path, experiment_by="x").groups == ("a", "b")


def test_a_directory_that_names_no_value_lacks_the_column(tmp_path):
    to_file(make_labels(["a"]), tmp_path / "well=1" / "0.parquet")
    to_file(make_labels(["a"]), tmp_path / "z" / "0.parquet")
    with pytest.raises(ValueError, match=r"must have the column 'well', .*z.0\.parquet lacks it"):
        build_index(tmp_path, experiment_by="well")


# without pyarrow


@pytest.mark.parametrize(
    ("anchors", "what"), [(pl.from_pandas(TABLE), "a polars DataFrame"), (Path(__file__).parent, "a Parquet file")]
)
def test_the_error_without_pyarrow_says_how_to_install_it(anchors, what, tmp_path, monkeypatch):
    if isinstance(anchors, Path):
        anchors = to_file(to_arrow(TABLE), tmp_path / "anchors.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=rf"reading {what} needs pyarrow.*pip install pyarrow"):
        FlexibleBatchSampler(anchors)


def test_pandas_needs_neither_pyarrow_nor_polars(monkeypatch):
    for module in ("pyarrow", "polars"):
        monkeypatch.setitem(sys.modules, module, None)
    frame = pd.DataFrame({"experiment": [1, 2] * 8, "condition": [True, False] * 8})
    assert len(FlexibleBatchSampler(frame, 4)) == 4


# memory


def peak_bytes(action):
    """Return the peak number of bytes that Python and Arrow allocate during an action."""
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    before = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1] + pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)


@pytest.fixture(scope="module")
def long_table():
    """Return a long table, most of which no axis uses."""
    row = np.random.default_rng(0).permutation(2**20)
    names = pa.array([f"experiment {i}" for i in range(10)])
    return pa.table(
        {
            "experiment": names.take(pa.array(row % 10)),
            "condition": pa.array(["mock", "infected"]).take(pa.array(row // 10 % 2)),
            "hours_post_infection": pa.array(row // 20 % 97 * 0.5),
            "note": pa.array([b"a note that is longer than all the other columns together"]).take(pa.array(row * 0)),
        }
    )


@pytest.mark.slow
@with_chunk_sizes([2**14])
@each_container
def test_building_takes_at_most_16_bytes_per_anchor_in_addition_to_the_table(make_container, long_table, tmp_path):
    anchors = make_container(long_table, tmp_path)
    AnchorIndex.build(make_container(to_arrow(TABLE), tmp_path / "small"))  # imports do not count
    by = ["experiment", "condition"]
    assert peak_bytes(lambda: AnchorIndex.build(anchors, experiment_by=by)) < 16 * len(long_table)
