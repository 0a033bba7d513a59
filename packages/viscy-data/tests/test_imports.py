"""Imports: `import viscy_data` loads nothing that only a table needs."""

import json
import subprocess
import sys

import pytest

LISTED = """
import json, sys
import torch
from torch.utils.data import Sampler
before = set(sys.modules)
{code}
loaded = set(sys.modules) - before
print(json.dumps([len(loaded), sorted({{name.partition(".")[0] for name in loaded}})]))
"""
SAVED = """
from viscy_data import AnchorIndex, FlexibleBatchSampler
sampler = FlexibleBatchSampler(AnchorIndex.open({folder!r}), 4)
next(iter(sampler))
"""


def modules_loaded_by(code):
    """Run code in a new process; return how many modules, and which packages, it loads beyond those of torch."""
    run = subprocess.run([sys.executable, "-c", LISTED.format(code=code)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    n_modules, packages = json.loads(run.stdout)
    return n_modules, set(packages)


@pytest.mark.slow
def test_the_package_loads_no_library_that_torch_does_not_load():
    n_modules, packages = modules_loaded_by("import viscy_data")
    assert "viscy_data" in packages
    assert packages.isdisjoint({"pandas", "pyarrow", "polars", "scipy", "lightning", "accelerate", "torchdata"})
    assert n_modules < 60


@pytest.mark.slow
def test_a_saved_index_is_sampled_without_pandas(tmp_path):
    import pandas as pd

    from viscy_data import AnchorIndex

    table = pd.DataFrame({"experiment": ["monday", "tuesday"] * 20, "condition": ["mock"] * 40})
    AnchorIndex.build(table, time_by=None).save(tmp_path / "index")
    _, packages = modules_loaded_by(SAVED.format(folder=str(tmp_path / "index")))
    assert packages.isdisjoint({"pandas", "pyarrow"})
