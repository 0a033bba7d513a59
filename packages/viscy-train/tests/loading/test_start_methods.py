"""Workers of every start method read the same pixels, whether or not their parent has read before starting them."""

import sys

import pytest

# Runs in a new process, which has not used tensorstore before.
LOAD = """
import hashlib
import multiprocessing
import sys
from pathlib import Path

from torch.utils.data import DataLoader

from viscy_train.anchors.table import AnchorTable
from viscy_train.loading.datasets import CropDataset, no_collation


def digest(dataset, method=None):
    # 12 batches, so that both workers read several.
    workers = {"num_workers": 2, "multiprocessing_context": method, "timeout": 1800} if method else {}
    digests = hashlib.sha256()
    for batch in DataLoader(dataset, batch_size=8, collate_fn=no_collation, **workers):
        digests.update(batch["row"].numpy().tobytes() + batch["crops"].finish().numpy().tobytes())
    return digests.hexdigest()


if __name__ == "__main__":
    multiprocessing.set_forkserver_preload(["viscy_train.loading.datasets"])
    dataset = CropDataset(AnchorTable.read(Path(sys.argv[1])))
    before = [digest(dataset, method) for method in ("fork", "forkserver")]
    print("the parent reads", file=sys.stderr, flush=True)
    expected = digest(dataset)
    # A spawned worker inherits nothing from its parent, so one test of it is enough.
    after = [digest(dataset, method) for method in ("fork", "forkserver", "spawn")]
    print(set(before + after) == {expected})
"""


@pytest.mark.slow
@pytest.mark.weekly
def test_workers_read_the_same_pixels_whether_or_not_their_parent_has_read(noise, run_command, tmp_path):
    noise[0].write(tmp_path / "anchors.parquet")
    script = tmp_path / "load.py"
    script.write_text(LOAD)
    # Python warns about threads in a parent that forks, whatever the child does. All other warnings are errors, also in
    # spawned workers and in those of a fork server, because they inherit the options.
    options = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    command = [sys.executable, *options, str(script), str(tmp_path / "anchors.parquet")]
    completed = run_command(command)
    assert completed.stdout == "True\n", completed.stderr
    before, _, after = completed.stderr.partition("the parent reads")
    # Only the two workers forked from a parent that had read cannot use tensorstore, and they warn.
    assert [text.count("reads with zarr-python") for text in (before, after)] == [0, 2]
    assert "abort" not in completed.stderr
