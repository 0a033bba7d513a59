"""Arms of a case and seed start from the same weights, and train on nothing that is held out."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from viscy_train.errors import UserError
from viscy_train.loading.batches import Batch
from viscy_train.loading.data_module import PairDataModule
from viscy_train.study.arms import ARMS, PIXELS, REFERENCES, UNTRAINED, Arm
from viscy_train.study.cases import Case
from viscy_train.study.crop_cache import cache_crops
from viscy_train.study.measures import MEASURES
from viscy_train.study.opened_case import OpenedCase
from viscy_train.study.pixels import principal_components
from viscy_train.study.run_trial import embed, make_module, run_trial, train
from viscy_train.training.data_cli import DataCLI

CROSS_WELL = Arm(
    name="cross-well",
    overrides={
        "data.positive.match": ["condition"],
        "data.positive.differ": ["experiment"],
        "model.loss.positives": "pair",
        "data.sampler.experiment_aware": False,
    },
)
LEAKY = Arm(name="leaky", overrides={"data.sampler.leaky": 0.5, "data.sampler.batch_size": 8})
SMALL = Arm(name="small", overrides={"data.sampler.batch_size": 4, "trainer.accumulate_grad_batches": 4})
HELD_OUT = {
    "experiment": (("monday", None),),
    "position": (("monday", "A/1/0"), ("monday", "B/1/1"), ("tuesday", "A/1/1"), ("tuesday", "B/1/0")),
}


@pytest.fixture(scope="module")
def opened(make_project, tmp_path_factory):
    """A function that opens a case of the project, whose crops are in an array."""
    config = make_project(tmp_path_factory.mktemp("project"))
    crops = cache_crops(DataCLI("study", ["--config", str(config)], "").make_data(), config.with_name("crops.npy"))

    def make(by="position"):
        return OpenedCase(Case(world="project", fold=by, config=config, held_out=HELD_OUT[by], crops=crops))

    return make


def checksum(module):
    digest = hashlib.sha256()
    for name, value in sorted(module.encoder.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def test_all_arms_of_a_seed_start_from_the_same_weights(opened):
    case = opened()
    found = {
        seed: {checksum(make_module(*case.data(arm, seed), seed)) for arm in (*ARMS, LEAKY, SMALL, CROSS_WELL)}
        for seed in (0, 1)
    }
    assert [len(weights) for weights in found.values()] == [1, 1]
    assert found[0] != found[1]


@pytest.mark.parametrize(("by", "arms"), [("experiment", (LEAKY, ARMS[6])), ("position", (LEAKY, CROSS_WELL))])
def test_nothing_that_is_held_out_is_trained_on(opened, monkeypatch, by, arms):
    seen = []
    augment = PairDataModule.augment

    def record(self, batch):
        seen.append((batch["row"], batch["positive_row"]))
        return augment(self, batch)

    monkeypatch.setattr(PairDataModule, "augment", record)
    case = opened(by)
    for arm in arms:
        arm = replace(arm, overrides=arm.overrides | {"data.sampler.batch_size": 8})
        seen.clear()
        train(*case.data(arm, 0), 0, 6)
        assert len(seen) == 6
        rows = np.concatenate([part for pair in seen for part in pair])
        assert not case.is_held_out[rows].any()
        anchors = set(np.concatenate([row for row, _ in seen]).tolist())
        assert anchors <= set(np.flatnonzero(~case.is_held_out).tolist())
    assert case.is_held_out.any()


def test_an_arm_trains_for_the_same_number_of_steps_whatever_it_accumulates(opened, monkeypatch):
    steps = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, closure: (steps.append(1), step(self, closure))[1])
    for arm in (LEAKY, SMALL):
        steps.clear()
        train(*opened().data(arm, 0), 0, 5)
        assert len(steps) == 5


def as_processes(negatives, n=2, size=4):
    """Return an arm of some processes, with batches of one experiment each."""
    overrides = {"data.sampler.batch_size": size, "trainer.devices": n, "model.loss.negatives": negatives}
    return Arm(name=f"{negatives} negatives", overrides=overrides | {"data.sampler.experiment_aware": True})


@pytest.mark.parametrize(("negatives", "n_parts"), [("batch", 1), ("step", 2)])
def test_a_step_has_the_batches_of_all_processes_in_their_order(opened, monkeypatch, negatives, n_parts):
    """Two processes take turns in the sequence; compared within the step, their batches are one."""
    seen, steps = [], []
    augment, step = PairDataModule.augment, torch.optim.AdamW.step
    monkeypatch.setattr(PairDataModule, "augment", lambda self, batch: (seen.append(batch), augment(self, batch))[1])
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self, closure: (step(self, closure), steps.append(len(seen)))[0]
    )
    data, config = opened().data(as_processes(negatives), 0)
    sampler = data.make_sampler()
    n_steps = len(sampler) // 2 + 1  # into the second epoch
    train(data, config, 0, n_steps)
    assert steps == [2 // n_parts * (number + 1) for number in range(n_steps)]
    expected = [data.train_rows[sampler.batch(index, 0)] for index in range(len(sampler) // 2 * 2)]
    expected += [data.train_rows[sampler.batch(index, 1)] for index in range(2)]
    assert np.concatenate([batch["row"] for batch in seen]).tolist() == np.concatenate(expected).tolist()
    assert {len(batch["row"]) for batch in seen} == {4 * n_parts}


@pytest.mark.parametrize("negatives", ["batch", "step"])
def test_the_gradient_of_a_step_is_that_of_its_processes(opened, monkeypatch, negatives):
    """From its definition: the mean over batches of the loss within each, or the loss of all anchors of the step."""
    found = []
    monkeypatch.setattr(
        torch.optim.AdamW,
        "step",
        lambda self, closure: (closure(), found.extend(p.grad.clone() for p in self.param_groups[0]["params"]))[0],
    )
    monkeypatch.setattr(PairDataModule, "augment", lambda self, batch: batch)
    data, config = opened().data(as_processes(negatives), 0)
    train(data, config, 0, 1)
    module, parts = make_module(data, config, 0), [data.train_rows[data.sampler.batch(index, 0)] for index in (0, 1)]
    batches = [Batch(rows, 0, index) for index, rows in enumerate(parts)]
    if negatives == "step":
        batches = [Batch(np.concatenate(parts), 0, 1)]
    losses = []
    for batch in map(data.load_pairs, batches):
        projections = module.encoder.project(module.encoder(torch.cat([batch["anchor"], batch["positive"]])))
        losses.append(module.loss(projections, torch.as_tensor(batch["lineage"]).repeat(2)))
    torch.stack(losses).mean().backward()
    for own, expected in zip(found, module.parameters(), strict=True):
        torch.testing.assert_close(own, expected.grad, rtol=1e-4, atol=1e-6)


def test_a_step_of_more_processes_than_batches_is_refused(opened):
    with pytest.raises(UserError, match=r"trainer.devices must be at most \d+, the batches of an epoch, got 1000"):
        run_trial(opened(), as_processes("step", n=1000), 0, 4)


def test_positives_by_metadata_get_a_table_whose_anchors_have_them(opened):
    case = opened()
    data, _ = case.data(CROSS_WELL, 0)
    assert data.table.positive.match == ["condition"]
    assert data.table.observations["has_positive"].all()
    assert data.table.fingerprint != case.table.fingerprint
    positives = data.positive_choice.choose(_batch(data.train_rows))
    pairs = [data.table.observations.iloc[rows] for rows in (data.train_rows, positives)]
    assert (pairs[0]["condition"].to_numpy() == pairs[1]["condition"].to_numpy()).all()
    assert (pairs[0]["experiment"].to_numpy() != pairs[1]["experiment"].to_numpy()).all()


def _batch(rows):
    return Batch(rows, 0, 0)


def test_a_trial_has_all_measures_and_repeats_bit_for_bit(opened):
    results = [run_trial(opened(), LEAKY, 3, 4) for _ in range(2)]
    assert repr(results[0]) == repr(results[1])
    row = results[0].row
    assert (row["world"], row["fold"], row["seed"], row["arm"], row["steps"]) == ("project", "position", 3, "leaky", 4)
    assert set(row) == {"world", "fold", "seed", "arm", "steps", *MEASURES}
    assert set(results[0].reasons) == {name for name in MEASURES if np.isnan(row[name])}
    checks = {check["check"]: check for check in results[0].composition}
    assert checks["the batch's own experiment"]["target"] == 0.5


def test_training_changes_what_is_measured_and_references_do_not_train(opened):
    case = opened()
    data, config = case.data(LEAKY, 0)
    before = embed(make_module(data, config, 0).encoder, case.crops)
    after = embed(train(data, config, 0, 4).encoder, case.crops)
    assert before.shape == after.shape == (len(case.rows), 8)
    assert np.abs(before - after).max() > 1e-3
    for name in REFERENCES:
        result = run_trial(case, name, 0, 4)
        assert (result.row["arm"], result.row["steps"], result.composition) == (name, 0, [])
    assert run_trial(case, UNTRAINED, 0, 4).row != run_trial(case, UNTRAINED, 1, 4).row | {"seed": 0}


def test_pixels_are_reduced_to_the_components_of_what_is_trained_on():
    pixels = torch.zeros(40, 1, 1, 8, 8)
    generator = torch.Generator().manual_seed(0)
    pixels[:, 0, 0, 0, 0] = torch.randn(40, generator=generator)
    pixels[20:, 0, 0, 7, 7] = 100 * torch.randn(20, generator=generator)
    embeddings = principal_components(pixels.flatten(1).numpy(), np.arange(40) < 20, 2)
    assert embeddings.shape == (40, 2)
    # The brighter corner varies in what is held out only.
    correlation = np.corrcoef(embeddings[:, 0], pixels[:, 0, 0, 0, 0].numpy())[0, 1]
    assert abs(correlation) > 0.999
    assert PIXELS in REFERENCES


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        (Arm(name="large", overrides={"data.sampler.batch_size": 500}), "batch_size must be at most .* got 500"),
        (Arm(name="other", overrides={"data.sampler.condition_by": "virus"}), "data.sampler.condition_by must name"),
        (Arm(name="other", overrides={"data.sampler.leaky": 1.5}), "data.sampler: leaky must be"),
    ],
)
def test_an_arm_that_does_not_fit_the_case_is_an_error_that_names_it(opened, arm, message):
    with pytest.raises(UserError, match=f"arm {arm.name!r}, project, position: .*{message}"):
        run_trial(opened(), arm, 0, 4)
