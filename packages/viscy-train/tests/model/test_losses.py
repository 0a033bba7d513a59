"""The loss with several processes equals the loss of one process with all batches."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss

from viscy_sampling_testkit import spawn_ranks
from viscy_train.config.schema import EncoderConfig, LossConfig
from viscy_train.model.losses import make_labels, make_loss
from viscy_train.model.module import ContrastiveModule

ENCODER = EncoderConfig(width=2, features=4, projection=3)
N_PAIRS, SIDE = 6, 16


def make_batch(rank):
    generator = torch.Generator().manual_seed(rank)
    crops = torch.randn(2, N_PAIRS, 2, 1, SIDE, SIDE, generator=generator)
    # Both ranks have lineage 3.
    lineage = torch.tensor([0, 1, 2, 3, 3, 4]) + 3 * rank
    return {"anchor": crops[0], "positive": crops[1], "lineage": lineage, "condition": lineage % 2}


def flat_gradients(model):
    return np.concatenate([parameter.grad.numpy().ravel() for parameter in model.parameters()])


def train_steps(rank, num_replicas):
    """Return the loss and the averaged gradient in one of Lightning's processes, for each kind of labels."""
    return {positives: train_a_step(rank, num_replicas, positives) for positives in ("lineage", "pair")}


def train_a_step(rank, num_replicas, positives):
    import os

    from lightning.pytorch import Trainer

    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    recorded = {}

    class Spy(ContrastiveModule):
        def train_dataloader(self):
            return torch.utils.data.DataLoader([0], collate_fn=lambda _: make_batch(rank))

        def training_step(self, batch):
            recorded["loss"] = super().training_step(batch)
            return recorded["loss"]

        def on_after_backward(self):
            recorded["gradients"] = flat_gradients(self)

    torch.manual_seed(0)
    model = Spy(ENCODER, LossConfig(positives=positives), n_channels=2)
    options = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(
        accelerator="cpu", devices=num_replicas, strategy="ddp", max_steps=1, use_distributed_sampler=False, **options
    )
    trainer.fit(model)
    return float(recorded["loss"]), recorded["gradients"]


@pytest.fixture(scope="module")
def steps_of_two_processes():
    return spawn_ranks(train_steps, 2, deadline=1800)


@pytest.mark.slow
@pytest.mark.parametrize("positives", ["lineage", "pair"])
def test_two_processes_have_the_loss_and_gradient_of_one_process_with_both_batches(steps_of_two_processes, positives):
    results = [steps[positives] for steps in steps_of_two_processes]
    torch.manual_seed(0)
    model = ContrastiveModule(ENCODER, LossConfig(positives=positives), n_channels=2)
    batches = [make_batch(rank) for rank in range(2)]
    projections = torch.cat(
        [model.encoder.project(model.encoder(torch.cat([batch["anchor"], batch["positive"]]))) for batch in batches]
    )
    labels = torch.cat([make_labels(batch, positives, rank).repeat(2) for rank, batch in enumerate(batches)])
    loss = make_loss(LossConfig(positives=positives))(projections, labels)
    loss.backward()
    for loss_of_rank, gradients_of_rank in results:
        assert loss_of_rank == pytest.approx(float(loss.detach()), rel=1e-5)
        np.testing.assert_allclose(gradients_of_rank, flat_gradients(model), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("positives", "expected"),
    [("pair", [6, 7, 8, 9, 10, 11]), ("lineage", [3, 4, 5, 6, 6, 7]), ("condition", [1, 0, 1, 0, 0, 1])],
)
def test_labels_are_shared_by_crops_that_attract_each_other(positives, expected):
    assert make_labels(make_batch(1), positives, rank=1).tolist() == expected


def test_crops_of_a_lineage_attract_each_other_unless_labels_are_per_pair():
    def loss(angle, labels):
        angles = torch.tensor([0.0, angle, 2.0]).repeat(2)
        return make_loss(LossConfig())(torch.stack([angles.cos(), angles.sin()], dim=1), labels)

    lineage, pair = torch.tensor([0, 0, 1]).repeat(2), torch.arange(3).repeat(2)
    assert loss(0.1, lineage) < loss(0.5, lineage)
    assert loss(0.1, pair) > loss(0.5, pair)


def test_with_one_label_per_pair_the_loss_is_nt_xent():
    projections = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20).repeat(2)
    ours = make_loss(LossConfig(name="nt_xent", positives="pair", temperature=0.3))(projections, labels)
    torch.testing.assert_close(ours, NTXentLoss(temperature=0.3)(projections, labels))
