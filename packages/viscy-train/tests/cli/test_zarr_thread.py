"""The thread of zarr-python ends quietly."""

import sys
from types import ModuleType

import pytest

from viscy_train.cli import zarr_thread

BUSY = """
import time
import zarr
zarr.zeros(4)[:]
{register}
from zarr.core.sync import loop
loop[0].call_soon_threadsafe(time.sleep, 1.0)
"""
REGISTER = "from viscy_train.cli.zarr_thread import end_at_exit; end_at_exit(); end_at_exit()"


@pytest.mark.slow
def test_a_process_exits_without_a_line_though_the_thread_is_busy(run_command):
    noisy = run_command([sys.executable, "-c", BUSY.format(register="")])
    assert "Thread did not finish cleanly" in noisy.stderr
    assert run_command([sys.executable, "-c", BUSY.format(register=REGISTER)]).stderr == ""


def test_nothing_is_registered_where_zarr_was_not_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "zarr.core.sync", raising=False)
    monkeypatch.setattr(zarr_thread.atexit, "register", lambda _: pytest.fail("registered"))
    zarr_thread.end_at_exit()


def test_a_version_of_zarr_without_these_names_is_left_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr.core.sync", ModuleType("sync"))
    zarr_thread._end()
