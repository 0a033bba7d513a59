"""Of processes that start at once, one builds what they share, and the others open it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pandas as pd

from viscy_data import AnchorIndex
from viscy_train.config.schema import PositiveConfig
from viscy_train.loading import saved_index, saved_lineages

# Threads stand in for processes: they also wait for each other's locks.
N = 3


def start_at_once(monkeypatch, module, name, function):
    """Call a function by threads that each find nothing saved; return their results and how often it was built."""
    all_looked, looked, built, find = threading.Barrier(N), threading.local(), [], module._open
    owner = AnchorIndex if name == "build" else module
    build = getattr(owner, name)

    def look(folder):
        found = find(folder)
        if not hasattr(looked, "once"):
            looked.once = True
            all_looked.wait(60)
        return found

    def build_and_count(*arguments, **options):
        built.append(1)
        return build(*arguments, **options)

    monkeypatch.setattr(module, "_open", look)
    monkeypatch.setattr(owner, name, build_and_count)
    with ThreadPoolExecutor(N) as pool:
        results = [future.result(60) for future in [pool.submit(function) for _ in range(N)]]
    return results, len(built)


def test_one_process_builds_the_index(monkeypatch, tmp_path):
    anchors = pd.DataFrame({"experiment": ["a", "b"] * 50, "condition": ["c"] * 100})
    arguments = {"experiment_by": "experiment", "condition_by": "condition", "temporal_enrichment": False}
    results, n_built = start_at_once(
        monkeypatch, saved_index, "build", lambda: saved_index.saved_index(tmp_path, anchors, arguments)
    )
    assert n_built == 1
    assert len({index.digest for index in results}) == 1


def test_one_process_finds_the_lineages(monkeypatch, tmp_path, table):
    positive = PositiveConfig(min_frames=1, max_frames=3)
    assert table.fingerprint
    results, n_found = start_at_once(
        monkeypatch, saved_lineages, "arrays_in_parts", lambda: saved_lineages.saved_lineages(tmp_path, table, positive)
    )
    assert n_found == 1
    assert len({lineages.has_positive().tobytes() for lineages in results}) == 1
