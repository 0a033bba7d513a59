"""Imports: `import viscy_data` loads nothing that only a table needs, and composing batches does not load torch."""

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

import viscy_data

LISTED = """
import json, sys
{before}
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
COMPOSED = """
import pandas as pd
from viscy_data import AnchorIndex, ComposedBatches, PlannedComposition
table = pd.DataFrame({"experiment": ["monday", "tuesday"] * 20, "condition": ["mock"] * 40})
batches = ComposedBatches(table, 4, seed=3)
assert (batches.rank, batches.num_replicas) == (0, 1)
batches.load_state_dict(batches.state_dict())
assert len(list(batches)) == len(batches) == batches.planned().n_batches
assert isinstance(batches.planned(), PlannedComposition)
try:
    ComposedBatches([1, 2], 4)
except TypeError:
    pass
"""


def modules_loaded_by(code, before=""):
    """Run code in a new process; return how many modules, and which packages, it loads beyond those loaded before."""
    code = LISTED.format(code=code, before=before)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    n_modules, packages = json.loads(run.stdout)
    return n_modules, set(packages)


@pytest.mark.slow
def test_the_package_loads_no_library_that_torch_does_not_load():
    n_modules, packages = modules_loaded_by("from viscy_data import FlexibleBatchSampler", "import torch.utils.data")
    assert "viscy_data" in packages
    assert packages.isdisjoint({"pandas", "pyarrow", "polars", "scipy", "lightning", "accelerate", "torchdata"})
    assert n_modules < 60


@pytest.mark.slow
def test_a_saved_index_is_sampled_without_pandas(tmp_path):
    import pandas as pd

    from viscy_data import AnchorIndex

    table = pd.DataFrame({"experiment": ["monday", "tuesday"] * 20, "condition": ["mock"] * 40})
    AnchorIndex.build(table, time_by=None).save(tmp_path / "index")
    _, packages = modules_loaded_by(SAVED.format(folder=str(tmp_path / "index")), "import torch.utils.data")
    assert packages.isdisjoint({"pandas", "pyarrow"})


@pytest.mark.parametrize("code", ["from viscy_data import ComposedBatches", COMPOSED])
def test_batches_are_composed_without_torch(code):
    _, packages = modules_loaded_by(code)
    assert "viscy_data" in packages
    assert packages.isdisjoint({"torch", "lightning", "accelerate", "torchdata"})


def test_the_package_imports_its_public_names_when_they_are_used():
    for name in viscy_data.__all__:
        assert getattr(viscy_data, name).__name__ == name
    assert set(dir(viscy_data)) >= {*viscy_data.__all__, "composed_batches", "sampler", "index", "distributed"}
    assert viscy_data.__getattr__("sampler") is sys.modules["viscy_data.sampler"]


def test_a_name_that_the_package_lacks_is_an_ordinary_error():
    with pytest.raises(AttributeError, match=r"^module 'viscy_data' has no attribute 'BatchSampler'$"):
        _ = viscy_data.BatchSampler
    with pytest.raises(ImportError, match="cannot import name 'BatchSampler' from 'viscy_data'"):
        exec("from viscy_data import BatchSampler")


def test_the_version_is_that_of_the_installed_package():
    assert viscy_data.__version__ == version("viscy-data")
