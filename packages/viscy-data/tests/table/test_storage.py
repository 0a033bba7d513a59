"""An index on disk: built once, saved in an atomic write, and opened memory-mapped by every process."""

import copy
import datetime
import hashlib
import json
import os
import pickle
import shutil

import numpy as np
import pandas as pd
import pytest

from viscy_data import AnchorIndex, FlexibleBatchSampler
from viscy_sampling_testkit import AWKWARD_TABLES, make_anchors

TABLE = make_anchors(2000, n_experiments=3, conditions={"mock": 9, "infected": 1}, seed=1)
ON = {"temporal_enrichment": True, "leaky": 0.1, "batch_size": 32}


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a saved index."""
    AnchorIndex.build(TABLE).save(tmp_path / "index")
    return tmp_path / "index"


# the same batches


def test_an_index_gives_the_batches_of_its_table(folder):
    expected = list(FlexibleBatchSampler(TABLE, **ON))
    assert list(FlexibleBatchSampler(AnchorIndex.build(TABLE), **ON)) == expected
    assert list(FlexibleBatchSampler(AnchorIndex.open(folder), **ON)) == expected


@pytest.mark.parametrize(
    ("axes", "options"),
    [
        ({"time_by": None}, {}),
        ({"time_by": None, "condition_by": None}, {"condition_balanced": False}),
        ({"time_by": None, "experiment_by": None}, {"experiment_aware": False}),
        ({"experiment_by": ["condition", "experiment"]}, {**ON, "experiment_by": ("condition", "experiment")}),
        ({"time_by": None}, {"temporal_enrichment": True, "temporal_global_fraction": 1.0}),
    ],
)
def test_an_index_serves_any_combination_of_axes(tmp_path, axes, options):
    AnchorIndex.build(TABLE, **axes).save(tmp_path / "index")
    opened = FlexibleBatchSampler(AnchorIndex.open(tmp_path / "index"), **options)
    assert list(opened) == list(FlexibleBatchSampler(TABLE, **options))


@pytest.mark.parametrize("name", AWKWARD_TABLES)
def test_awkward_tables_are_the_same_after_saving_and_opening(tmp_path, name):
    table = AWKWARD_TABLES[name]()
    AnchorIndex.build(table).save(tmp_path / "index")
    options = {"batch_size": 8, "temporal_enrichment": True}
    opened = FlexibleBatchSampler(AnchorIndex.open(tmp_path / "index"), **options)
    assert list(opened) == list(FlexibleBatchSampler(table, **options))


def test_a_run_resumes_from_a_table_to_an_index_and_back(folder):
    by_table, by_index = FlexibleBatchSampler(TABLE, **ON), FlexibleBatchSampler(AnchorIndex.open(folder), **ON)
    next(iter(by_table))
    by_index.load_state_dict(by_table.state_dict())
    assert next(iter(by_index)) == by_table.batch(1)
    by_table.load_state_dict(by_index.state_dict())
    assert next(iter(by_table)) == by_index.batch(2)


def test_labels_keep_their_types(tmp_path):
    times = [datetime.date(2026, 1, 2), datetime.datetime(2026, 1, 2, 3), pd.Timestamp("2026-01-02 03:04", tz="UTC")]
    labels = [7, "7", 2.5, True, ("a", 1), *times, pd.Timedelta("90s")]
    table = pd.DataFrame({"experiment": pd.Series(labels, dtype=object)})
    index = AnchorIndex.build(table, condition_by=None, time_by=None)
    index.save(tmp_path / "index")
    opened = AnchorIndex.open(tmp_path / "index")
    assert opened.groups == index.groups
    assert [type(label) for label in opened.groups] == [type(label) for label in index.groups]


def test_labels_of_other_types_cannot_be_saved(tmp_path):
    table = pd.DataFrame({"experiment": pd.Series([1j, 2j], dtype=object)})
    index = AnchorIndex.build(table.iloc[:1], condition_by=None, time_by=None)
    with pytest.raises(TypeError, match=r"labels must be text, numbers, .* to be saved, got 1j of type complex"):
        index.save(tmp_path / "index")
    assert list(tmp_path.iterdir()) == []


# values of distinct_by


VALUES = TABLE.assign(lineage=np.arange(2000) // 7, plate=np.arange(2000) % 3)
DISTINCT_ARRAYS = ("value_code", "values_of_stratum", "class_start", "class_length")


@pytest.fixture
def value_folder(tmp_path):
    """Return the folder of a saved index with `distinct_by` and without times."""
    AnchorIndex.build(VALUES, time_by=None, distinct_by="lineage").save(tmp_path / "values")
    return tmp_path / "values"


@pytest.mark.parametrize("by", ["lineage", ("lineage", "plate")])
@pytest.mark.parametrize("options", [{"batch_size": 32}, ON])
def test_an_index_with_values_gives_the_batches_of_its_table(tmp_path, by, options):
    options = {**options, "distinct_by": by}
    time_by = "hours_post_infection" if "temporal_enrichment" in options else None
    AnchorIndex.build(VALUES, time_by=time_by, distinct_by=by).save(tmp_path / "index")
    opened = FlexibleBatchSampler(AnchorIndex.open(tmp_path / "index", verify=True), **options)
    table = FlexibleBatchSampler(VALUES, **options)
    assert list(opened) == list(table)
    assert opened.state_dict() == table.state_dict()


def test_values_are_memory_mapped_and_shown(value_folder):
    index = AnchorIndex.open(value_folder)
    assert index.values is not None
    assert isinstance(index.values.value_code.base, np.memmap)
    assert repr(index).endswith("1 times by None, 286 values by 'lineage')")
    again = pickle.loads(pickle.dumps(index))
    assert list(FlexibleBatchSampler(again, 16, distinct_by="lineage")) == list(
        FlexibleBatchSampler(VALUES, 16, distinct_by="lineage")
    )


def test_codes_that_are_cut_while_they_are_mapped_raise_an_error(value_folder):
    index = AnchorIndex.open(value_folder)
    os.truncate(value_folder / "value_code.npy", 128)
    for use in (lambda: pickle.dumps(index), lambda: FlexibleBatchSampler(index, 16, distinct_by="lineage").batch(0)):
        with pytest.raises(ValueError, match="must stay on disk, but their file was cut"):
            use()


def test_codes_beyond_the_values_raise_an_error_when_they_are_drawn(value_folder):
    rewrite_description(value_folder, lambda description: description["files"]["value_code"].pop("sample"))
    codes = np.full(2000, 2**16 - 1, np.uint16)
    replace_array(value_folder, "value_code", codes)
    sampler = FlexibleBatchSampler(AnchorIndex.open(value_folder), 16, distinct_by="lineage")
    with pytest.raises(ValueError, match="below its number of values, 286, got 65535: the saved index is damaged"):
        sampler.batch(0)


@pytest.mark.parametrize("name", DISTINCT_ARRAYS)
def test_an_array_of_values_that_does_not_fit_raises_an_error(value_folder, name):
    array = getattr(AnchorIndex.open(value_folder).values, name).copy()
    others = [array[:-1], array[:0], array[None], array.astype("f4"), np.float64(3)]
    if name != "value_code":
        others += [array + 1, -array, np.zeros_like(array), np.full_like(array, 2**62)]
    for other in others:
        replace_array(value_folder, name, other)
        with pytest.raises(ValueError, match="build and save it again"):
            AnchorIndex.open(value_folder)


def test_classes_must_ascend_within_a_stratum(tmp_path):
    table = pd.DataFrame({"lineage": np.repeat(np.arange(3), [2, 2, 4])})
    index = AnchorIndex.build(table, experiment_by=None, condition_by=None, time_by=None, distinct_by="lineage")
    assert index.values is not None
    assert (index.values.class_start.tolist(), index.values.class_length.tolist()) == ([0, 4], [2, 4])
    index.save(tmp_path / "index")
    replace_array(tmp_path / "index", "class_length", np.array([4, 2]))
    with pytest.raises(ValueError, match="build and save it again"):
        AnchorIndex.open(tmp_path / "index")
    replace_array(tmp_path / "index", "values_of_stratum", np.array([[3]]))
    with pytest.raises(ValueError, match="class_length must ascend within a stratum"):
        AnchorIndex.open(tmp_path / "index")


def test_an_index_with_times_has_no_classes(tmp_path, value_folder):
    AnchorIndex.build(VALUES, distinct_by="lineage").save(tmp_path / "index")
    for name in ("class_start", "class_length"):
        replace_array(tmp_path / "index", name, np.load(value_folder / f"{name}.npy"))
    with pytest.raises(ValueError, match="an index with times must have no classes"):
        AnchorIndex.open(tmp_path / "index")


@pytest.mark.parametrize("value", [None, "x", [], -1])
def test_the_number_of_values_must_be_an_integer(value_folder, value):
    rewrite_description(value_folder, lambda description: description.update({"n_values": value}))
    with pytest.raises(ValueError, match="build and save it again"):
        AnchorIndex.open(value_folder)


# several processes


def draw_on_a_rank(rank, num_replicas, folder):
    del rank, num_replicas
    index = AnchorIndex.open(folder)
    return isinstance(index.order.base, np.memmap), list(FlexibleBatchSampler(index, **ON))


@pytest.mark.weekly
@pytest.mark.slow
def test_ranks_share_one_index(folder, run_on_ranks):
    ranks = run_on_ranks(draw_on_a_rank, 2, str(folder))
    assert [batches for _, batches in ranks] == [
        list(FlexibleBatchSampler(TABLE, num_replicas=2, rank=rank, **ON)) for rank in (0, 1)
    ]
    assert all(is_mapped for is_mapped, _ in ranks)


def test_positions_are_memory_mapped_rather_than_read(folder):
    order = AnchorIndex.open(folder).order
    assert isinstance(order.base, np.memmap)
    assert not order.flags.writeable


# atomic writes and damaged files


def test_an_existing_directory_is_not_overwritten(folder):
    before = sorted(folder.iterdir())
    with pytest.raises(FileExistsError, match=r"must be new, .* delete it first"):
        AnchorIndex.build(TABLE.iloc[:100]).save(folder)
    assert sorted(folder.iterdir()) == before
    assert len(AnchorIndex.open(folder)) == 2000


def test_an_interrupted_save_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        AnchorIndex.build(TABLE).save(tmp_path / "index")
    assert list(tmp_path.iterdir()) == []


def test_parent_directories_are_created(tmp_path):
    AnchorIndex.build(TABLE).save(tmp_path / "some" / "where")
    assert len(AnchorIndex.open(tmp_path / "some" / "where")) == 2000


@pytest.mark.parametrize("name", ["order", "stratum_start", "stratum_size", "run_key", "run_start", "times"])
def test_a_missing_or_truncated_file_is_detected(folder, name):
    path = folder / f"{name}.npy"
    content = path.read_bytes()
    for damaged in (content[:-1], content + b"x", b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{name}\.npy of the index .* must have {len(content)} bytes"):
            AnchorIndex.open(folder)
    path.unlink()
    with pytest.raises(ValueError, match=rf"lacks {name}\.npy"):
        AnchorIndex.open(folder)


@pytest.mark.parametrize("name", ["stratum_start", "stratum_size", "run_key", "run_start", "times"])
def test_a_changed_byte_is_detected(folder, name):
    path = folder / f"{name}.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}\.npy of the index .* is damaged"):
        AnchorIndex.open(folder)


@pytest.fixture
def large_folder(tmp_path):
    """Return the folder of an index that has more pages than are compared when it is opened."""
    AnchorIndex.build(make_anchors(100_000, n_experiments=3)).save(tmp_path / "large")
    return tmp_path / "large"


@pytest.mark.parametrize("byte", range(0, 128))
def test_a_damaged_header_of_the_positions_is_detected(large_folder, byte):
    path = large_folder / "order.npy"
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"order\.npy of the index .* is damaged"):
        AnchorIndex.open(large_folder)


def test_the_positions_of_another_index_are_detected(large_folder, tmp_path):
    AnchorIndex.build(make_anchors(100_000, n_experiments=3, seed=1)).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "order.npy", large_folder)
    with pytest.raises(ValueError, match=r"order\.npy of the index .* is damaged"):
        AnchorIndex.open(large_folder)


def test_verify_detects_a_changed_byte_of_the_positions(large_folder):
    folder, path = large_folder, large_folder / "order.npy"
    content = bytearray(path.read_bytes())
    content[6000] ^= 1
    path.write_bytes(content)
    AnchorIndex.open(folder)
    with pytest.raises(ValueError, match=r"order\.npy of the index .* is damaged"):
        AnchorIndex.open(folder, verify=True)


@pytest.mark.parametrize("n_bytes", [0, 128, 4096, -4])
def test_positions_that_are_cut_while_they_are_mapped_raise_an_error(folder, n_bytes):
    """Reading beyond the end of a mapped file ends the process with SIGBUS."""
    sampler = FlexibleBatchSampler(AnchorIndex.open(folder), **ON)
    batches = iter(sampler)
    next(batches)
    path = folder / "order.npy"
    os.truncate(path, n_bytes % path.stat().st_size)
    index = sampler._index
    for use in (
        lambda: sampler.batch(40),
        lambda: list(batches),
        lambda: pickle.dumps(index),
        lambda: copy.deepcopy(index),
        lambda: index.save(folder / "copy"),
    ):
        with pytest.raises(ValueError, match=r"must stay on disk, but their file was cut .* build and save"):
            use()


def test_a_sampler_in_a_process_of_its_own_survives_that_its_index_is_cut(folder, run_python):
    program = """
import os, sys
from viscy_data import AnchorIndex, FlexibleBatchSampler
sampler = FlexibleBatchSampler(AnchorIndex.open(sys.argv[1]), batch_size=100, temporal_enrichment=True)
os.truncate(sys.argv[1] + "/order.npy", 128)
try:
    sampler.batch(0)
except ValueError as error:
    print(error)
"""
    assert "was cut from 8128 to 128 bytes" in run_python("-c", program, folder)


def test_an_index_whose_folder_is_deleted_or_replaced_stays_open(folder):
    expected = list(FlexibleBatchSampler(TABLE, **ON))
    index = AnchorIndex.open(folder)
    shutil.rmtree(folder)
    AnchorIndex.build(TABLE.iloc[:100]).save(folder)
    assert list(FlexibleBatchSampler(index, **ON)) == expected


def test_positions_beyond_the_table_raise_an_error_when_they_are_drawn(folder):
    path = folder / "order.npy"
    content = bytearray(path.read_bytes())
    content[-8000:] = (2000).to_bytes(4, "little") * 2000
    path.write_bytes(content)
    rewrite_description(folder, lambda description: description["files"]["order"].pop("sample"))
    sampler = FlexibleBatchSampler(AnchorIndex.open(folder), **ON)
    with pytest.raises(ValueError, match="below its number of anchors, 2000, got 2000: the saved index is damaged"):
        sampler.batch(0)


def test_the_representation_of_an_index_shows_no_arrays(folder):
    assert repr(AnchorIndex.open(folder)) == (
        "AnchorIndex(2000 anchors, 3 groups by 'experiment', 2 conditions by 'condition', "
        "48 times by 'hours_post_infection')"
    )


def test_an_open_index_can_be_pickled(folder):
    index = pickle.loads(pickle.dumps(AnchorIndex.open(folder)))
    assert list(FlexibleBatchSampler(index, **ON)) == list(FlexibleBatchSampler(TABLE, **ON))


def rewrite_description(folder, change):
    """Change the description of an index as someone would by hand, with a valid checksum."""
    description = json.loads((folder / "index.json").read_text())
    del description["checksum"]
    change(description)
    text = json.dumps(description, sort_keys=True)
    checksum = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    (folder / "index.json").write_text(json.dumps(description | {"checksum": checksum}))


DESCRIBED = (
    *("experiment_by", "condition_by", "time_by", "groups", "conditions"),
    *("time_tolerance", "digest", "files", "version"),
)
WRONG_VALUES = (None, 7, -1.5, "x", [], {}, [[]], {"a": {}}, [{"a": 1}], [{"tuple": 3}], [1, 1], [{"timestamp": "x"}])


@pytest.mark.parametrize("name", DESCRIBED)
def test_a_description_that_lacks_a_name_raises_an_error(folder, name):
    rewrite_description(folder, lambda description: description.pop(name))
    with pytest.raises(ValueError, match="build and save"):
        AnchorIndex.open(folder)


@pytest.mark.parametrize("name", DESCRIBED)
def test_a_description_with_any_value_opens_or_raises_a_value_error(folder, name):
    """Another text for a column or the digest is not an error."""
    errors = []
    for value in WRONG_VALUES:
        rewrite_description(folder, lambda description, value=value: description.update({name: value}))
        try:
            AnchorIndex.open(folder)
        except ValueError as error:
            errors.append(str(error))
    assert all("build and save" in error for error in errors)
    assert len(errors) >= len(WRONG_VALUES) - 3


@pytest.mark.parametrize("file", ["order", "times", "stratum_size"])
@pytest.mark.parametrize(
    "value", [None, 7, {}, {"bytes": 1}, {"bytes": "1", "checksum": "x"}, {"bytes": 1, "checksum": 2}]
)
def test_a_description_of_a_file_must_be_complete(folder, file, value):
    rewrite_description(folder, lambda description: description["files"].update({file: value}))
    with pytest.raises(ValueError, match="must give the length and the checksum"):
        AnchorIndex.open(folder)


def replace_array(folder, name, array):
    """Replace an array of an index, with the right length and checksum in the description."""
    path = folder / f"{name}.npy"
    np.save(path, array)
    entry = {"bytes": path.stat().st_size, "checksum": hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()}
    rewrite_description(folder, lambda description: description["files"].update({name: entry}))


@pytest.mark.parametrize("name", ["order", "stratum_start", "stratum_size", "run_key", "run_start", "times"])
def test_an_array_of_another_index_raises_an_error(folder, name):
    array = getattr(AnchorIndex.open(folder), name).copy()
    others = [array[:-1], array[:0], array[None], array.astype("f4"), array.astype(object), np.float64(3)]
    if name not in ("order", "times"):
        others += [array + 1, array[::-1], -array, array * 2, np.zeros_like(array), np.full_like(array, 2**62)]
    for other in others:
        replace_array(folder, name, other)
        with pytest.raises(ValueError, match="build and save it again"):
            AnchorIndex.open(folder)


@pytest.mark.parametrize("times", [[0.0, 0.0], [1.0, 0.0], [0.0, np.nan], [0.0, np.inf]])
def test_times_must_ascend(folder, times):
    array = AnchorIndex.open(folder).times.copy()
    array[-2:] = times
    replace_array(folder, "times", array)
    with pytest.raises(ValueError, match="times must be finite and ascending"):
        AnchorIndex.open(folder)


def test_an_intact_index_passes_verification(folder):
    assert len(AnchorIndex.open(folder, verify=True)) == 2000


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"version": 99}'])
def test_an_invalid_description_raises_an_error(folder, content):
    (folder / "index.json").write_text(content)
    with pytest.raises(ValueError, match=r"index\.json .* must describe .* version 4 or earlier"):
        AnchorIndex.open(folder)


def test_a_changed_description_is_detected(folder):
    description = json.loads((folder / "index.json").read_text())
    description["groups"] = description["groups"][::-1]
    (folder / "index.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"index\.json of the index .* is damaged"):
        AnchorIndex.open(folder)


def test_a_directory_without_an_index_raises_an_error(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=r"must contain index\.json, but .*; save an index there first"):
            AnchorIndex.open(path)


def test_an_index_can_be_moved(folder, tmp_path):
    shutil.move(folder, tmp_path / "elsewhere")
    assert len(AnchorIndex.open(tmp_path / "elsewhere", verify=True)) == 2000


# an index that does not fit the options


MISFITS = [
    ({}, {}, "time_by='hours_post_infection'.*time_by=None"),
    ({"time_by": None}, {"temporal_enrichment": True}, "time_by=None.*time_by='hours_post_infection'"),
    ({"time_by": None}, {"experiment_aware": False}, "experiment_by='experiment'.*experiment_by=None"),
    ({"time_by": None}, {"condition_by": "experiment"}, "condition_by='condition'.*condition_by='experiment'"),
    ({"time_by": None}, {"distinct_by": "experiment"}, "distinct_by=None.*distinct_by='experiment'.*distinct_by='exp"),
    ({"time_by": None, "distinct_by": "condition"}, {}, "distinct_by='condition'.*distinct_by=None; .*time_by=None."),
]


@pytest.mark.parametrize(("axes", "options", "message"), MISFITS)
def test_an_index_of_other_columns_raises_an_error_that_names_them(axes, options, message):
    with pytest.raises(ValueError, match=message):
        FlexibleBatchSampler(AnchorIndex.build(TABLE, **axes), 32, **options)


def test_an_index_is_checked_against_the_options_like_a_table():
    index = AnchorIndex.build(TABLE, time_by=None)
    with pytest.raises(ValueError, match="batch_size must be at most the number of anchors"):
        FlexibleBatchSampler(index, 2001)
    with pytest.raises(ValueError, match="did you mean 'exp1'"):
        FlexibleBatchSampler(index, 32, experiment_weights={"exp0": 1, "exp11": 1, "exp2": 1})


@pytest.mark.parametrize(("table", "error"), [([1, 2], TypeError), (TABLE.iloc[:0], ValueError)])
def test_an_index_takes_the_same_tables_as_a_sampler(table, error):
    with pytest.raises(error, match="valid_anchors must"):
        AnchorIndex.build(table)


@pytest.mark.parametrize(
    ("axes", "error"),
    [({"time_by": 3}, TypeError), ({"experiment_by": 3}, TypeError), ({"condition_by": []}, ValueError)],
)
def test_columns_are_given_by_name(axes, error):
    with pytest.raises(error, match="must"):
        AnchorIndex.build(TABLE, **axes)
