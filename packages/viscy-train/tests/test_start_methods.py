"""Workers of every start method read the same pixels, whether or not their parent has read before they started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Run in a process of its own, which has not used tensorstore before.
LOAD = """
import hashlib, logging, sys
from pathlib import Path
import numpy as np
from torch.utils.data import DataLoader
from viscy_train.anchor_table import AnchorTable
from viscy_train.pairs import CropDataset, as_loaded


def digest(table, **options):
    # 8 of 96 cells a batch, so that both workers have several
    loader = DataLoader(CropDataset(table), batch_size=8, collate_fn=as_loaded, timeout=60 * bool(options), **options)
    hashed = hashlib.sha256()
    for batch in loader:
        hashed.update(batch["row"].numpy().tobytes() + batch["crops"].numpy().tobytes())
    return hashed.hexdigest()


if __name__ == "__main__":
    table, method = AnchorTable.read(Path(sys.argv[1])), sys.argv[2]
    if method == "forkserver":
        import multiprocessing
        multiprocessing.set_forkserver_preload(["viscy_train.pairs"])
    workers = {"num_workers": 2, "multiprocessing_context": method}
    before = digest(table, **workers)
    here = digest(table)
    after = digest(table, **workers)
    print(before == here == after)
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_read_the_same_whether_or_not_their_parent_has_read(noise, tmp_path, method):
    table, _ = noise
    table.write(tmp_path / "anchors.parquet")
    script = tmp_path / "load.py"
    script.write_text(LOAD)
    # Python warns of threads in a parent that forks, whatever the child does. In a child of spawn or of a fork server,
    # warnings are errors, too: the options are passed on.
    options = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    command = [sys.executable, *options, str(script), str(tmp_path / "anchors.parquet"), method]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stdout) == (0, "True\n"), ran.stderr
    told = "reads with zarr-python" in ran.stderr
    assert told == (method == "fork")
    assert "aborting" not in ran.stderr
