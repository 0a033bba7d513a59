"""Shared table: a large anchor table that was read before is mapped into memory, unless its file has changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from viscy_train.anchors import shared_table
from viscy_train.anchors.shared_table import open_columns, store_of
from viscy_train.anchors.table import AnchorTable
from viscy_train.errors import UserError

CONTENTS = "columns.json"


@pytest.fixture(autouse=True)
def share_tables_of_any_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shared_table, "LEAST_ROWS", 1)


@pytest.fixture
def path(table: AnchorTable, tmp_path: Path) -> Path:
    path = tmp_path / "anchors.parquet"
    table.write(path)
    return path


def read_twice(path: Path) -> tuple[AnchorTable, AnchorTable]:
    """Return a table that was decoded and shared, and one that was mapped."""
    first = AnchorTable.read(path)
    assert (store_of(path).directory / CONTENTS).exists()
    return first, AnchorTable.read(path)


def with_columns(table: AnchorTable) -> AnchorTable:
    """Return a table with a column of each type, some with missing values."""
    n = len(table.observations)
    table.observations["dose"] = np.where(np.arange(n) % 3, np.nan, 0.5)
    table.observations["replicate"] = np.arange(n) % 4
    table.observations["is_treated"] = np.arange(n) % 2 == 0
    text = pd.Series(np.array(["a549", "ü"])[np.arange(n) % 2]).where(np.arange(n) % 5 > 0)
    table.observations["line"] = pd.Categorical(text)
    return table


def test_a_mapped_table_equals_the_one_that_was_written(table: AnchorTable, path: Path):
    first, mapped = read_twice(path)
    for read in (first, mapped):
        pd.testing.assert_frame_equal(read.observations, table.observations)
        assert read.fingerprint == table.fingerprint
        assert (read.experiments, read.intensity, read.excluded) == (table.experiments, table.intensity, table.excluded)


def test_columns_of_all_types_are_mapped(table: AnchorTable, tmp_path: Path):
    from dataclasses import replace

    path = tmp_path / "anchors.parquet"
    with_columns(replace(table, observations=table.observations.copy())).write(path)
    decoded, mapped = (read.observations for read in read_twice(path))
    pd.testing.assert_frame_equal(mapped, decoded)
    assert list(mapped.columns)[-4:] == ["dose", "replicate", "is_treated", "line"]
    assert mapped["dose"].isna().sum() > 0 < mapped["line"].isna().sum()


def test_a_mapped_table_is_not_decoded_again(path: Path, monkeypatch: pytest.MonkeyPatch):
    AnchorTable.read(path)
    monkeypatch.setattr("pyarrow.parquet.read_table", None)
    observations = AnchorTable.read(path).observations
    for name in observations.columns:
        values = observations[name]
        memory = values.array.codes if isinstance(values.dtype, pd.CategoricalDtype) else values.to_numpy()
        assert is_mapped(memory), name


def is_mapped(array: np.ndarray) -> bool:
    """Return whether an array is, at last, a part of a mapped file."""
    base: object = array
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    return isinstance(base, np.memmap)


def test_another_table_in_its_place_is_read_anew(table: AnchorTable, path: Path):
    from dataclasses import replace

    AnchorTable.read(path)
    contents = store_of(path).directory / CONTENTS
    old = contents.read_text()
    replace(table, observations=table.observations.iloc[:-1]).write(path)
    assert not contents.exists()
    contents.parent.mkdir()
    contents.write_text(old)  # as if another program had replaced the table
    assert open_columns(path) is None
    assert len(AnchorTable.read(path).observations) == len(table.observations) - 1


@pytest.mark.parametrize("damage", ["{", "[]", "null", '{"version": 0}', '{"version": 1, "source": "", "columns": {}}'])
def test_a_damaged_list_of_columns_is_ignored(table: AnchorTable, path: Path, damage: str):
    AnchorTable.read(path)
    (store_of(path).directory / CONTENTS).write_text(damage)
    pd.testing.assert_frame_equal(AnchorTable.read(path).observations, table.observations)


def test_a_damaged_column_is_not_used(table: AnchorTable, path: Path):
    AnchorTable.read(path)
    for file in store_of(path).directory.glob("*.npy"):
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    assert open_columns(path) is None
    pd.testing.assert_frame_equal(AnchorTable.read(path).observations, table.observations)


def test_a_damaged_table_is_refused_although_its_columns_are_shared(path: Path):
    AnchorTable.read(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="is not an anchor table, or is damaged"):
        AnchorTable.read(path)


def test_a_table_beside_which_nothing_can_be_written_is_read(table: AnchorTable, path: Path):
    store_of(path).directory.write_text("a file in the place of the directory")
    for read in read_table_twice(path):
        pd.testing.assert_frame_equal(read.observations, table.observations)


def read_table_twice(path: Path) -> list[AnchorTable]:
    return [AnchorTable.read(path) for _ in range(2)]


def test_small_tables_leave_no_files(table: AnchorTable, path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shared_table, "LEAST_ROWS", len(table.observations) + 1)
    AnchorTable.read(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
