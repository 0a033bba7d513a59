"""The configured loss, and its equality over processes."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss

from viscy_sampling_testkit import spawn_ranks
from viscy_train.config.schema import EncoderConfig, LossConfig
from viscy_train.errors import UserError
from viscy_train.model.contrastive_loss import contrastive_loss
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


# The configuration of the loss, and whether the processes share one batch; all are compared with one process.
CASES = {
    "step, lineage": (LossConfig(negatives="step"), False),
    "step, pair": (LossConfig(negatives="step", positives="pair"), False),
    "shared batch, lineage": (LossConfig(hardness=1.0, learn_temperature=True), True),
    "shared batch, pair": (LossConfig(name="nt_xent", positives="pair"), True),
    "own batches, lineage": (LossConfig(learn_temperature=True), False),
    "own batches, pair": (LossConfig(positives="pair"), False),
}


class Recorder(ContrastiveModule):
    """A module that records its losses, gradients, and metrics of validation."""

    def __init__(self, batches, loss, split_batches):
        torch.manual_seed(0)
        super().__init__(ENCODER, loss, n_channels=2, split_batches=split_batches)
        self.batches, self.losses = batches, []

    def train_dataloader(self):
        return torch.utils.data.DataLoader(self.batches, batch_size=None)

    def val_dataloader(self):
        return self.train_dataloader()

    def training_step(self, batch):
        loss = super().training_step(batch)
        self.losses.append(float(loss.detach()))
        return loss

    def on_before_optimizer_step(self, optimizer):
        gradients: Any = [one.grad for one in self.parameters()]
        self.gradients = torch.cat([one.flatten() for one in gradients]).numpy()


def train_a_step(batches, loss, split_batches=False, **options):
    """Return the mean loss of a step, its gradient, and the metrics of a validation, in float64."""
    from lightning.pytorch import Trainer

    from viscy_train.training.lightning_warnings import quiet_lightning

    model = Recorder(batches, loss, split_batches)
    switches = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    with quiet_lightning():
        trainer = Trainer(
            **options,
            **switches,
            accelerator="cpu",
            max_steps=1,
            precision="64-true",
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(model)
    validation = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return float(np.mean(model.losses)), model.gradients, validation


def train_steps(rank, num_replicas):
    """Return the results of a step in one of Lightning's processes, for each case."""
    import os

    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    options = {"devices": num_replicas, "strategy": "ddp"}
    return {name: train_a_step([make_batch(rank)], *case, **options) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def steps_of_two_processes():
    return spawn_ranks(train_steps, 2, deadline=1800)


@pytest.mark.weekly
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_the_loss_and_gradient_of_one_process(steps_of_two_processes, name):
    loss, split_batches = CASES[name]
    batches = [make_batch(rank) for rank in range(2)]
    # Batches that are not compared with each other are those whose gradients one process accumulates.
    if split_batches or loss.negatives == "step":
        batches = [{key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}]
    expected, gradients, validation = train_a_step(batches, loss, devices=1, accumulate_grad_batches=len(batches))
    steps = [steps[name] for steps in steps_of_two_processes]
    assert steps[0][0] == steps[1][0]
    for loss_of_rank, gradients_of_rank, validation_of_rank in steps:
        assert loss_of_rank == pytest.approx(expected, rel=1e-6)
        np.testing.assert_allclose(gradients_of_rank, gradients, rtol=0, atol=1e-6 * np.abs(gradients).max())
        if split_batches or loss.negatives == "batch":
            assert validation_of_rank == pytest.approx(validation, rel=1e-6)


def test_in_one_process_it_does_not_matter_whose_negatives_are_compared():
    batch = make_batch(0)
    step, shared, own = (
        train_a_step([batch], LossConfig(negatives=negatives), split, devices=1)
        for negatives, split in (("step", False), ("batch", True), ("batch", False))
    )
    for other in (shared, own):
        assert other[0] == step[0]
        np.testing.assert_array_equal(other[1], step[1])
        assert other[2] == step[2]


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_recall_distinguishes_similarities_that_are_equal_in_half_precision(dtype):
    model = ContrastiveModule(ENCODER, n_channels=2)
    # Two neighbors in bfloat16; the cosine of their angle is 1 in half precision.
    positives = torch.tensor([[1.0, 1.0], [1.0, 0.9921875]], dtype=dtype)
    metrics: dict[str, Any] = {}
    object.__setattr__(model, "_project", lambda batch: positives.repeat(2, 1))
    object.__setattr__(model, "log_dict", lambda values, **options: metrics.update(values))
    with torch.autocast("cpu", torch.bfloat16):
        model.validation_step({"lineage": torch.tensor([3, 4]), "condition": torch.tensor([0, 1])})
    assert float(metrics["val/recall_at_1"]) == 1


def test_hardness_of_the_configuration_is_used():
    projections, labels = torch.randn(40, 8, generator=torch.Generator().manual_seed(0)), torch.arange(20).repeat(2)
    plain, hard = (make_loss(LossConfig(hardness=hardness))(projections, labels) for hardness in (0.0, 2.0))
    assert hard == contrastive_loss(projections, labels, 0.2, 2.0)
    assert hard > plain


def test_a_fixed_temperature_is_a_number_and_not_a_weight():
    loss = make_loss(LossConfig(temperature=0.3))
    assert loss.temperature == 0.3
    assert not loss.state_dict()


@torch.no_grad()
def temperature_of(loss):
    return float(loss.temperature)


def test_a_learned_temperature_starts_at_the_configured_one_and_gets_a_gradient():
    loss = make_loss(LossConfig(temperature=0.3, learn_temperature=True))
    assert temperature_of(loss) == pytest.approx(0.3)
    ((name, weight),) = loss.named_parameters()
    assert name == "log_temperature"
    loss(torch.randn(8, 3), torch.arange(4).repeat(2)).backward()
    assert weight.grad != 0


@pytest.mark.parametrize(("value", "expected"), [(-9.0, 0.01), (0.5, float(np.exp(0.5)))])
def test_a_learned_temperature_is_limited_below_as_in_clip(value, expected):
    loss = make_loss(LossConfig(learn_temperature=True))
    loss.load_state_dict({"log_temperature": torch.tensor(value)})
    loss.clamp_temperature()
    assert temperature_of(loss) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hardness": -0.1}, "model.loss.hardness must be at least 0, got -0.1"),
        ({"hardness": float("nan")}, "model.loss.hardness must be finite, got nan"),
        ({"hardness": True}, "model.loss.hardness must be a number, got True"),
        ({"temperature": 0.0}, "model.loss.temperature must be at least 0.0001, got 0.0"),
        (
            {"temperature": 0.001, "learn_temperature": True},
            "model.loss.temperature must be at least 0.01 if it is learned, got 0.001",
        ),
        ({"name": "nt_xent"}, "model.loss.positives must be pair for nt_xent, got 'lineage'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        LossConfig(**options)
