"""Radix sort: the stable order of integer keys and the start of each key, in little memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viscy_data._table import radix_sort
from viscy_data._table.radix_sort import find_runs, radix_argsort, take_chunked


@settings(deadline=None)
@given(
    n=st.integers(1, 200),
    high=st.sampled_from([1, 3, 300, 2**16, 2**20, 2**33, 2**48]),
    kind=st.sampled_from([np.uint16, np.uint32, np.uint64]),
    chunk=st.sampled_from([1, 7, 64, 1000]),
    seed=st.integers(0, 10**6),
)
def test_the_order_is_that_of_numpys_stable_sort_and_the_runs_are_those_of_unique(n, high, kind, chunk, seed):
    high = min(high, int(np.iinfo(kind).max) + 1)
    key = np.random.default_rng(seed).integers(0, high, n).astype(kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(radix_sort, "CHUNK", chunk)
        order = radix_argsort(key)
        run_key, run_start = find_runs(key, order)
    assert order.dtype == np.uint32
    assert order.tolist() == np.argsort(key, kind="stable").tolist()
    distinct, counts = np.unique(key, return_counts=True)
    assert run_key.tolist() == distinct.tolist()
    assert np.diff(run_start).tolist() == counts.tolist()
    assert run_start[0] == 0


@given(n=st.integers(1, 100), chunk=st.sampled_from([1, 7, 1000]))
def test_values_are_looked_up_by_code(n, chunk):
    codes = np.arange(n, dtype=np.int8) % 5
    values = np.array([9, 7, 5, 3, 1], np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(radix_sort, "CHUNK", chunk)
        found = take_chunked(values, codes)
    assert found.dtype == np.uint8
    assert found.tolist() == values[codes].tolist()


def test_sorting_takes_little_more_memory_than_its_result():
    """The result takes 4 bytes per key. The stable sort of NumPy takes 16."""
    n = 2**22
    key = (np.arange(n) * 7919 % 1940).astype(np.uint16)
    tracemalloc.start()
    radix_argsort(key)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * n + 2**23
