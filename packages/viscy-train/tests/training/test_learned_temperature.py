"""A learned temperature in a run: it is logged, saved, resumed, and never decays."""

import math

import pytest

from viscy_train.errors import UserError
from viscy_train.run.checkpoint import Checkpoint
from viscy_train.run.directory import RunDirectory
from viscy_train.run.metrics_csv import LEARNING_RATE, TEMPERATURE, read_log
from viscy_train.training.fit import fit
from viscy_train.training.lightning_cli import TrainingCLI

pytestmark = pytest.mark.usefixtures("one_thread")
# Five batches an epoch.
CHANGES = {
    "data.sampler.batch_size": 50,
    "trainer.max_epochs": 1,
    "trainer.logger": False,
    "model.loss.learn_temperature": True,
    "model.optimizer.schedule": "constant",
}
RESUME = ["--ckpt_path", "last"]


def train(folder, *options):
    """Train the project in a folder, without a report, and return the trainer and the temperatures of the steps."""
    arguments = ["--config", str(folder / "config.yaml"), *options]
    cli = TrainingCLI("fit", arguments, "", {"ckpt_path": {"type": str, "default": None}})
    trainer, model, data = cli.make_all()
    fit(cli, trainer, model, data)
    log = read_log(RunDirectory(folder / "run").metrics)
    return trainer, log[log[LEARNING_RATE].notna()][TEMPERATURE].tolist()


@pytest.fixture(scope="module")
def uninterrupted(make_project, tmp_path_factory):
    """A folder with a run of five steps, which tests must not change, and its temperatures."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    make_project(folder, **CHANGES)
    return folder, train(folder)[1]


def test_the_temperature_of_each_step_is_logged_and_that_after_the_last_is_saved(uninterrupted):
    folder, temperatures = uninterrupted
    assert temperatures[0] == pytest.approx(0.2)
    # The first step of Adam has the length of the learning rate.
    assert abs(math.log(temperatures[1] / temperatures[0])) == pytest.approx(0.002, rel=1e-3)
    assert len(set(temperatures)) == 5
    weights = Checkpoint.read(RunDirectory(folder / "run").last_checkpoint).weights
    assert 0 < abs(float(weights["loss.log_temperature"]) - math.log(temperatures[-1])) < 0.004


def test_a_resumed_run_continues_with_the_temperature_of_the_checkpoint(uninterrupted, make_project, tmp_path):
    make_project(tmp_path, **CHANGES)
    train(tmp_path, "--trainer.max_steps", "2")
    trainer, temperatures = train(tmp_path, *RESUME, "--model.loss.temperature", "0.7")
    assert temperatures == uninterrupted[1]
    encoder, temperature = trainer.optimizers[0].param_groups
    assert (encoder["weight_decay"], temperature["weight_decay"]) == (0.01, 0.0)


def test_the_weight_decay_of_a_resumed_run_does_not_reach_the_temperature(make_project, tmp_path):
    make_project(tmp_path, **CHANGES)
    train(tmp_path, "--trainer.max_steps", "1")
    trainer, _ = train(tmp_path, *RESUME, "--trainer.max_steps", "2", "--model.optimizer.weight_decay", "0.5")
    assert [group["weight_decay"] for group in trainer.optimizers[0].param_groups] == [0.5, 0.0]


@pytest.mark.parametrize("learned", [True, False])
def test_whether_it_is_learned_cannot_be_changed_when_a_run_resumes(uninterrupted, make_project, tmp_path, learned):
    folder = uninterrupted[0]
    if not learned:
        folder = tmp_path
        make_project(folder, **CHANGES | {"model.loss.learn_temperature": False})
        cli = TrainingCLI("fit", ["--config", str(folder / "config.yaml"), "--trainer.max_steps", "1"], "")
        cli.config["ckpt_path"] = None
        fit(cli, *cli.make_all())
    with pytest.raises(UserError, match=r"log_temperature .* restore model.loss.learn_temperature, or name another"):
        train(folder, *RESUME, "--trainer.max_epochs", "2", "--model.loss.learn_temperature", str(not learned).lower())


def test_the_optimizer_cannot_lower_the_temperature_below_the_limit(make_project, tmp_path):
    make_project(tmp_path, **CHANGES)
    options = ["--model.loss.temperature", "0.01", "--model.optimizer.learning_rate", "0.5"]
    _, temperatures = train(tmp_path, *options)
    assert min(temperatures) == pytest.approx(0.01, rel=1e-6)
    assert max(temperatures) > 0.01
