"""The training loops of `examples`, each run as a script on the demo."""

import re
import sys
from ast import literal_eval
from importlib import import_module
from pathlib import Path

import pytest

from viscy_train.sample_projects.demo import write_demo

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder)
    return folder


@pytest.fixture(scope="module")
def expected(demo):
    """The first batches of the examples on one rank, as experiments by number of the batch."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        make_data = import_module("project").make_data
    finally:
        sys.path.remove(str(EXAMPLES))
    data = make_data(demo)
    sampler, experiment = data.make_sampler(), data.table.observations["experiment"]
    return [experiment.iloc[data.train_rows[sampler.batch(k, 0)]].unique().tolist() for k in range(4)]


@pytest.mark.parametrize("name", ["plain_loop", "lightning_loop"])
def test_a_loop_resumes_in_mid_epoch_with_the_batches_of_an_uninterrupted_one(run_command, demo, name):
    done = run_command([sys.executable, EXAMPLES / f"{name}.py", demo])
    assert "6 batches of 32 anchors, the same with and without an interruption" in done.stdout


def test_each_rank_of_fabric_has_batches_of_its_own_of_one_experiment(run_command, demo, expected):
    done = run_command([sys.executable, EXAMPLES / "fabric_loop.py", demo, "2"])
    # Without a buffer, a line and its end are written one after the other, so lines of two processes may run together.
    names = "|".join(sorted({name for (name,) in expected}))
    lines = re.findall(rf"rank (\d) step (\d) batch (\d) experiment ({names})", done.stdout)
    assert sorted(lines) == sorted((str(k % 2), str(k // 2), str(k), name) for k, (name,) in enumerate(expected))


def test_the_processes_of_accelerate_share_each_batch(run_command, demo, expected):
    done = run_command([sys.executable, *TORCHRUN, EXAMPLES / "accelerate_loop.py", demo], env={"OMP_NUM_THREADS": "1"})
    found = [(int(rank), literal_eval(part)) for rank, part in re.findall(r"rank (\d) (\{.*?\})", done.stdout)]
    places = sorted((part["batch"], rank, part["first_slot"], part["n"]) for rank, part in found)
    assert places == [(k, rank, 16 * rank, 16) for k in range(2) for rank in range(2)]
    assert all(part["experiments"] == expected[part["batch"]] for _, part in found)
    for k in range(2):
        assert len({part["loss"] for _, part in found if part["batch"] == k}) == 1
