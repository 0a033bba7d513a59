"""Workers of every start method read the same pixels, whether or not their parent has read before they started."""

import subprocess
import sys

import pytest

# Run in a process of its own, which has not used tensorstore before.
LOAD = """
import hashlib
import multiprocessing
import sys
from pathlib import Path

from torch.utils.data import DataLoader

from viscy_train.anchors.table import AnchorTable
from viscy_train.loading.datasets import CropDataset, as_loaded


def digest(dataset, method=None):
    # 12 batches, so that both workers have several
    workers = {"num_workers": 2, "multiprocessing_context": method, "timeout": 200} if method else {}
    hashed = hashlib.sha256()
    for batch in DataLoader(dataset, batch_size=8, collate_fn=as_loaded, **workers):
        hashed.update(batch["row"].numpy().tobytes() + batch["crops"].numpy().tobytes())
    return hashed.hexdigest()


if __name__ == "__main__":
    multiprocessing.set_forkserver_preload(["viscy_train.loading.datasets"])
    dataset = CropDataset(AnchorTable.read(Path(sys.argv[1])))
    before = [digest(dataset, method) for method in ("fork", "forkserver")]
    print("the parent reads", file=sys.stderr, flush=True)
    here = digest(dataset)
    # A spawned worker knows nothing of what its parent has used, so once is enough.
    after = [digest(dataset, method) for method in ("fork", "forkserver", "spawn")]
    print(set(before + after) == {here})
"""


@pytest.mark.slow
def test_workers_read_the_same_whether_or_not_their_parent_has_read(noise, tmp_path):
    noise[0].write(tmp_path / "anchors.parquet")
    script = tmp_path / "load.py"
    script.write_text(LOAD)
    # Python warns of threads in a parent that forks, whatever the child does. All else is an error, in spawned workers
    # and in those of a fork server, too: they are given the same options.
    options = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    command = [sys.executable, *options, str(script), str(tmp_path / "anchors.parquet")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert (ran.returncode, ran.stdout) == (0, "True\n"), ran.stderr
    before, _, after = ran.stderr.partition("the parent reads")
    # Only the two that were forked from a parent that had read must do without tensorstore, and say so.
    assert [text.count("reads with zarr-python") for text in (before, after)] == [0, 2]
    assert "abort" not in ran.stderr
