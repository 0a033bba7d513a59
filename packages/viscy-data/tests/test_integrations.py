"""Data loaders and launchers: Lightning, accelerate, torchrun and torchdata take the sampler unchanged."""

import json
import os
import subprocess
import sys

import lightning
import pytest
import torch
from accelerate import Accelerator
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import DataLoader

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import PositionLoader, make_anchors, simulate_training, spawn_ranks

TABLE = make_anchors(1000, seed=8)
POSITIONS = torch.arange(1000)

pytestmark = [
    # Lightning suggests more workers than a test needs
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    # Lightning 2.6 and torchdata 0.11 call what newer releases of torch deprecate
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
]


def sampler(**options):
    return FlexibleBatchSampler(TABLE, **{"batch_size": 50, "leaky": 0.1, "temporal_enrichment": True, **options})


def epoch(number, **options):
    return [sampler(**options).batch(k, number) for k in range(20)]


class Recorder(lightning.LightningModule):
    """Train nothing, and keep the positions of every batch, epoch by epoch."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.drawn = []

    def on_train_epoch_start(self):
        self.drawn.append([])

    def training_step(self, batch):
        self.drawn[-1].append(batch.tolist())
        return self.layer(batch[:, None].float()).mean() * 0.0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def trainer(**options):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return lightning.Trainer(accelerator="cpu", barebones=False, **{**quiet, "max_epochs": 2, **options})


def loader(**options):
    return DataLoader(POSITIONS, batch_sampler=sampler(**options))


# Lightning


def test_lightning_on_one_process_draws_epoch_after_epoch():
    model = Recorder()
    trainer(use_distributed_sampler=False).fit(model, loader())
    assert model.drawn == [epoch(0), epoch(1)]


def test_lightning_chooses_the_epoch_through_the_attribute_sampler():
    own = sampler()
    assert own.sampler is own
    own.sampler.set_epoch(3)
    assert next(iter(own)) == epoch(3)[0]


def fit_as_a_rank(rank, num_replicas, **options):
    """Train as one of Lightning's processes, which are told their rank by the environment."""
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    model = Recorder()
    trainer(strategy="ddp", devices=num_replicas, **options).fit(model, loader())
    return model.drawn


def fit_with_lightning(rank, num_replicas):
    """Train with Lightning's default, which is an error, and then as it should be."""
    with pytest.raises(Exception, match="use_distributed_sampler=False") as error:
        fit_as_a_rank(rank, num_replicas)
    return type(error.value).__name__, fit_as_a_rank(rank, num_replicas, use_distributed_sampler=False)


@pytest.mark.slow
def test_lightning_on_two_processes_deals_out_the_batches_or_names_the_setting_to_change():
    ranks = spawn_ranks(fit_with_lightning, 2, deadline=120)
    assert [kind for kind, _ in ranks] == ["TypeError"] * 2
    assert [drawn for _, drawn in ranks] == [[epoch(e)[rank::2] for e in (0, 1)] for rank in (0, 1)]


# accelerate


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 7])
def test_batches_that_accelerate_deals_out_are_not_dealt_out_twice(n_ranks):
    n_steps = -(-20 // n_ranks)
    for rank in range(n_ranks):
        shard = BatchSamplerShard(sampler(rank=rank, num_replicas=n_ranks), n_ranks, rank)
        assert len(shard) == n_steps
        assert list(shard) == [sampler().batch(k) for k in range(rank, n_steps * n_ranks, n_ranks)]
        assert list(shard) == [sampler().batch(k, 1) for k in range(rank, n_steps * n_ranks, n_ranks)]


def draw_with_accelerate(rank, num_replicas):
    """Draw epochs of prepared loaders, which deal batches out to the ranks by themselves, and of a plain one."""
    ranks = {"LOCAL_RANK": rank, "RANK": rank, "WORLD_SIZE": num_replicas, "LOCAL_WORLD_SIZE": num_replicas}
    os.environ |= {name: str(value) for name, value in ranks.items()} | {"MASTER_ADDR": "127.0.0.1"}
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == num_replicas
    prepared, told, plain = accelerator.prepare(loader()), accelerator.prepare(loader(num_replicas=1, rank=0)), loader()
    drawn = []
    for each, number in ((prepared, 4), (prepared, 9), (told, 4), (plain.batch_sampler, 4)):
        each.set_epoch(number)
        drawn.append([batch.tolist() for batch in (plain if each is plain.batch_sampler else each)])
    uneven = accelerator.prepare(DataLoader(POSITIONS, batch_sampler=sampler(batch_size=300)))
    return drawn, len(prepared), [batch.tolist() for batch in uneven], len(uneven)


@pytest.mark.slow
def test_accelerate_deals_out_the_batches_or_leaves_them_to_the_sampler():
    ranks = spawn_ranks(draw_with_accelerate, 2, deadline=120)
    big = sampler(batch_size=300)
    for rank, (drawn, length, uneven, length_of_uneven) in enumerate(ranks):
        assert drawn == [epoch(number)[rank::2] for number in (4, 9, 4, 4)]
        assert length == 10
        assert uneven == [big.batch(rank), big.batch(rank + 2)]  # of three batches, and a fresh one
        assert length_of_uneven == 2


# torchrun

SCRIPT = """
import json, sys
import torch.distributed as dist
from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import make_anchors

sampler = FlexibleBatchSampler(make_anchors(1000, seed=8), 50)
dist.init_process_group("gloo")
with open(f"{sys.argv[1]}/{dist.get_rank()}.json", "w") as file:
    json.dump([list(sampler), list(sampler)], file)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_torchrun_needs_no_more_than_the_process_group(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*launch, "--nproc-per-node=2", str(script), str(tmp_path)],
        check=True, timeout=120, capture_output=True, env=environment,
    )  # fmt: skip
    whole = FlexibleBatchSampler(TABLE, 50)
    expected = [[whole.batch(k, e) for k in range(20)] for e in (0, 1)]
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == [batches[rank::2] for batches in expected]


# torchdata


STOPS = {
    "stopped after a batch": [(1, 1), (None, 1), (None, 1)],
    "stopped before the last batch": [(19, 1), (None, 1), (None, 1)],
    "stopped at the end of the epoch": [(20, 1), (None, 1)],
    "stopped in the second epoch, and again": [(23, 1), (9, 1), (None, 1)],
    "resumed on two ranks, then on five": [(7, 1), (4, 2), (1, 5), (None, 4)],
}


@pytest.mark.parametrize("set_epoch", [False, True])
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stops", STOPS.values(), ids=STOPS.keys())
def test_a_stateful_loader_goes_on_where_it_was_stopped(stops, num_workers, set_epoch):
    def make_loader(rank, num_replicas):
        own = sampler(rank=rank, num_replicas=num_replicas)
        return PositionLoader(own, num_workers=num_workers, stateful=True)

    lives = simulate_training(make_loader, stops, set_epoch=set_epoch)
    assert [batch for life in lives for batch in life.batches] == epoch(0) + epoch(1)
