"""A subclass of a few lines has a test for each law."""

import os
import re
import subprocess
import sys

import pytest

from viscy_sampling_testkit.conformance.check import LAWS

MODULE = """
import pandas as pd
from viscy_sampling_testkit import Promises
from viscy_sampling_testkit.pytest_class import BatchSamplerTests


class TestInterleaved(BatchSamplerTests):
    promises = Promises(
        table=pd.DataFrame(index=range(5)), batch_size=2, distinct=True, equal_steps=True, rank_cost=True
    )

    def make_sampler(self, rank, num_replicas):
        return [[0, 1], [2, 3], [4]][rank::num_replicas]


class TestDefinesNothing(BatchSamplerTests):
    promises = Promises(table=pd.DataFrame(index=range(5)), batch_size=2, distinct=True)
"""


@pytest.mark.slow
def test_satisfied_law_passes_broken_law_fails_and_the_others_are_skipped(tmp_path):
    (tmp_path / "test_module.py").write_text(MODULE)
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "test_module.py"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    n_skipped = 2 * len(LAWS) - 1 - 1 - 1
    assert re.search(rf"2 failed, 1 passed, {n_skipped} skipped", run.stdout), run.stdout + run.stderr
    assert "equal steps: failed (ranks 2)" in run.stdout
    assert "observed: [2, 1] batches on ranks 0 to 1" in run.stdout
    assert "rank cost: not testable" in run.stdout
    assert "TestDefinesNothing must define make_sampler(self, rank, num_replicas, **options)" in run.stdout
    assert "Traceback" not in run.stdout
