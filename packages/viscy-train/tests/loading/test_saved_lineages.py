"""The lineages of a large table are saved next to it: later starts map them, and choose the same positives."""

import os
from contextlib import nullcontext

import numpy as np
import pytest

from viscy_train.config.schema import PositiveConfig
from viscy_train.errors import UserError
from viscy_train.loading import run_data, saved_lineages
from viscy_train.loading.run_data import RunData
from viscy_train.positives import lineage_parts
from viscy_train.positives.rule import make_positives

POSITIVE = PositiveConfig(min_frames=1, max_frames=3)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(lineage_parts, "LEAST_ROWS_PER_PART", 1)


def choices(positives, table):
    rows = np.flatnonzero(positives.has_positive())
    draws, more_draws = np.random.default_rng(0).random((2, len(rows)))
    return rows.tolist(), positives.choose(rows, draws, more_draws).tolist()


def refuse_to_find(monkeypatch):
    def find(*_):
        raise AssertionError("the lineages must be opened")

    monkeypatch.setattr(saved_lineages, "arrays_in_parts", find)


@pytest.mark.parametrize("positive", [POSITIVE, PositiveConfig(min_frames=0, max_frames=2, decay=1.0)])
def test_saved_lineages_choose_the_same_positives(table, tmp_path, monkeypatch, positive):
    expected = choices(make_positives(table.observations, table.experiments, positive), table)
    assert choices(saved_lineages.saved_lineages(tmp_path / "arrays", table, positive), table) == expected
    refuse_to_find(monkeypatch)
    opened = saved_lineages.saved_lineages(tmp_path / "arrays", table, positive)
    assert choices(opened, table) == expected
    assert isinstance(opened.track, np.memmap)
    assert not opened.track.flags.writeable


def test_other_settings_have_other_lineages(table, tmp_path):
    for largest in (1, 2):
        positive = PositiveConfig(min_frames=1, max_frames=largest)
        expected = choices(make_positives(table.observations, table.experiments, positive), table)
        assert choices(saved_lineages.saved_lineages(tmp_path, table, positive), table) == expected
    assert len([*tmp_path.iterdir()]) == 2


@pytest.mark.parametrize("change", ["flip", "cut", "remove"])
def test_damaged_lineages_are_replaced(table, tmp_path, monkeypatch, change):
    expected = choices(saved_lineages.saved_lineages(tmp_path, table, POSITIVE), table)
    path = next(tmp_path.rglob("sort_keys"))
    content = path.read_bytes()
    path.unlink()
    if change != "remove":
        path.write_bytes(content[:-8] if change == "cut" else content[:-1] + bytes([content[-1] ^ 255]))
    assert choices(saved_lineages.saved_lineages(tmp_path, table, POSITIVE), table) == expected
    refuse_to_find(monkeypatch)
    assert choices(saved_lineages.saved_lineages(tmp_path, table, POSITIVE), table) == expected


def test_no_page_of_lineages_is_mapped_to_verify_them(table, tmp_path, monkeypatch):
    saved_lineages.saved_lineages(tmp_path, table, POSITIVE)
    path = next(tmp_path.rglob("sort_keys"))
    path.write_bytes(bytes(path.stat().st_size))
    mapped = []
    monkeypatch.setattr(saved_lineages.np, "memmap", lambda *arguments, **_: mapped.append(arguments))
    assert saved_lineages._open(path.parent) is None
    assert not mapped


def test_lineages_that_cannot_be_saved_stay_in_memory(table, tmp_path):
    (tmp_path / "file").touch()
    found = saved_lineages.saved_lineages(tmp_path / "file", table, POSITIVE)
    assert choices(found, table) == choices(make_positives(table.observations, table.experiments, POSITIVE), table)


def test_processes_that_save_the_same_lineages_at_once_share_them(table, tmp_path, monkeypatch):
    """Even on a file system without locks."""
    monkeypatch.setattr(saved_lineages, "one_at_a_time", nullcontext)
    rename = os.rename

    def rename_after_another(*paths):
        monkeypatch.setattr(os, "rename", rename)
        with monkeypatch.context() as patched:
            patched.setattr(os, "getpid", lambda: 1)  # as another process has another number
            saved_lineages.saved_lineages(tmp_path, table, POSITIVE)
        return rename(*paths)

    monkeypatch.setattr(os, "rename", rename_after_another)
    found = saved_lineages.saved_lineages(tmp_path, table, POSITIVE)
    assert isinstance(found.track, np.memmap)
    assert len([*tmp_path.iterdir()]) == 1


def test_invalid_settings_are_refused_as_without_saving(table, tmp_path):
    positive = PositiveConfig(min_frames=1, max_frames=3, channel="other")
    with pytest.raises(UserError, match=r"data\.positive\.channel must be same"):
        saved_lineages.saved_lineages(tmp_path, table, positive)


def test_the_positives_of_a_large_project_are_mapped_from_files(project, monkeypatch):
    """On tables of any size, so that the test need not make a large one."""
    paths = [project.parent / name for name in ("experiments.yaml", "anchors.parquet")]
    small = RunData(*paths, crop=16, positive=POSITIVE)
    expected = choices(small.positives, small.table)
    monkeypatch.setattr(run_data, "LEAST_ROWS", 1)
    large = RunData(*paths, crop=16, positive=POSITIVE)
    assert choices(large.positives, large.table) == expected
    assert len([*(project.parent / ".anchors.parquet.arrays").glob("lineages-*")]) == 1
