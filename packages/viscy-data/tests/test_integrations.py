"""accelerate, torchrun and torchdata take the sampler unchanged; `test_lightning.py` covers Lightning."""

import json
import os

import pytest
import torch
from accelerate import Accelerator
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import DataLoader

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import PositionLoader, make_anchors, simulate_training

TABLE = make_anchors(1000, seed=8)

# torchdata 0.11 uses a function that newer releases of torch deprecate
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")


def make_sampler(**options):
    return FlexibleBatchSampler(TABLE, **{"batch_size": 50, "leaky": 0.1, "temporal_enrichment": True, **options})


def make_loader(**options):
    return DataLoader(torch.arange(len(TABLE)), batch_sampler=make_sampler(**options))


def epoch_batches(epoch):
    return [make_sampler().batch(k, epoch) for k in range(20)]


# accelerate


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 7])
def test_batches_that_accelerate_distributes_are_not_distributed_twice(n_ranks):
    n_steps = -(-20 // n_ranks)
    for rank in range(n_ranks):
        shard = BatchSamplerShard(make_sampler(rank=rank, num_replicas=n_ranks), n_ranks, rank)
        assert len(shard) == n_steps
        assert list(shard) == [make_sampler().batch(k) for k in range(rank, n_steps * n_ranks, n_ranks)]
        assert list(shard) == [make_sampler().batch(k, 1) for k in range(rank, n_steps * n_ranks, n_ranks)]


def draw_with_accelerate(rank, num_replicas):
    """Draw epochs from loaders that accelerate has prepared, and so distributes itself, and from a plain one."""
    ranks = {"LOCAL_RANK": rank, "RANK": rank, "WORLD_SIZE": num_replicas, "LOCAL_WORLD_SIZE": num_replicas}
    os.environ |= {name: str(value) for name, value in ranks.items()} | {"MASTER_ADDR": "127.0.0.1"}
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == num_replicas
    prepared = accelerator.prepare(make_loader())
    prepared_with_given_rank = accelerator.prepare(make_loader(num_replicas=1, rank=0))
    plain = make_loader()
    epochs = []
    for loader, chooses_epoch, number in (
        (prepared, prepared, 4),
        (prepared, prepared, 9),
        (prepared_with_given_rank, prepared_with_given_rank, 4),
        (plain, plain.batch_sampler, 4),
    ):
        chooses_epoch.set_epoch(number)
        epochs.append([batch.tolist() for batch in loader])
    uneven = accelerator.prepare(make_loader(batch_size=300))
    return epochs, len(prepared), [batch.tolist() for batch in uneven], len(uneven)


@pytest.mark.weekly
@pytest.mark.slow
def test_accelerate_distributes_the_batches_or_leaves_it_to_the_sampler(run_on_ranks):
    three_batches = make_sampler(batch_size=300)
    for rank, (epochs, length, uneven, length_of_uneven) in enumerate(run_on_ranks(draw_with_accelerate, 2)):
        assert epochs == [epoch_batches(number)[rank::2] for number in (4, 9, 4, 4)]
        assert length == 10
        assert uneven == [three_batches.batch(rank), three_batches.batch(rank + 2)]  # three, and a fresh one
        assert length_of_uneven == 2


# torchrun

# A rank must not leave before all have connected: gloo does not wait for that, and the others' connections would break.
SCRIPT = """
import json, sys
import torch.distributed as dist
from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import make_anchors

sampler = FlexibleBatchSampler(make_anchors(1000, seed=8), 50)
dist.init_process_group("gloo")
with open(f"{sys.argv[1]}/{dist.get_rank()}.json", "w") as file:
    json.dump([list(sampler), list(sampler)], file)
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.weekly
@pytest.mark.slow
def test_torchrun_needs_nothing_but_the_process_group(tmp_path, run_python, loopback):
    """On a free port; where ranks cannot connect to each other, torchrun starts them again, up to three times."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    rendezvous = ["--standalone", "--local-addr=127.0.0.1", "--rdzv-conf=join_timeout=1800,read_timeout=1800"]
    run_python(
        *("-m", "torch.distributed.run", *rendezvous, "--max-restarts=3", "--nproc-per-node=2", script, tmp_path),
        OMP_NUM_THREADS="1",
        GLOO_SOCKET_IFNAME=loopback,
    )
    sampler = FlexibleBatchSampler(TABLE, 50)
    expected = [[sampler.batch(k, epoch) for k in range(20)] for epoch in (0, 1)]
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == [batches[rank::2] for batches in expected]


# torchdata


STOPS = {
    "stopped after a batch": [(1, 1), (None, 1), (None, 1)],
    "stopped before the last batch": [(19, 1), (None, 1), (None, 1)],
    "stopped at the end of the epoch": [(20, 1), (None, 1)],
    "stopped twice in the first epoch": [(7, 1), (4, 1), (None, 1), (None, 1)],
    "stopped twice in the second epoch": [(23, 1), (9, 1), (None, 1)],
    "resumed on two ranks, then on five": [(7, 1), (4, 2), (1, 5), (None, 4)],
}


@pytest.mark.slow
@pytest.mark.parametrize("set_epoch", [False, True])
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stops", STOPS.values(), ids=STOPS.keys())
def test_a_stateful_data_loader_resumes_with_the_next_batch(stops, num_workers, set_epoch):
    def make_stateful_loader(rank, num_replicas):
        sampler = make_sampler(rank=rank, num_replicas=num_replicas)
        return PositionLoader(sampler, num_workers=num_workers, stateful=True)

    attempts = simulate_training(make_stateful_loader, stops, set_epoch=set_epoch)
    assert [batch for attempt in attempts for batch in attempt.batches] == epoch_batches(0) + epoch_batches(1)
