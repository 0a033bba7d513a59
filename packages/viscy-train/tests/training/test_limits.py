"""Runs whose epochs are shortened or split, interrupted at every kind of moment and resumed."""

import contextlib

import pandas as pd
import pytest
from lightning.pytorch import Callback, Trainer, seed_everything

from viscy_train.config.schema import CheckpointConfig, EncoderConfig, OptimizerConfig, SamplerConfig, SplitConfig
from viscy_train.loading.data_module import PairDataModule
from viscy_train.model.module import ContrastiveModule
from viscy_train.run.attempts import AttemptRecorder
from viscy_train.run.batch_record import BatchRecorder
from viscy_train.run.directory import RunDirectory
from viscy_train.run.metrics_csv import MetricsCsv, read_log
from viscy_train.training.callbacks import LossLogger
from viscy_train.training.checkpointing import LastCheckpoint
from viscy_train.training.lightning_warnings import quiet_lightning

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # Python warns about threads in a parent that forks.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


class InterruptionError(Exception):
    """The run was interrupted."""


class Interrupt(Callback):
    """Interrupt a run in the first call of a hook after some more steps, or in the last batch of an epoch."""

    def __init__(self, hook, more_steps=0, *, in_last_batch=False):
        self._more_steps, self._in_last_batch = more_steps, in_last_batch
        setattr(self, hook, self._interrupt)

    def on_fit_start(self, trainer, pl_module):
        self._first = None

    def on_train_start(self, trainer, pl_module):
        self._first = trainer.global_step

    def _interrupt(self, trainer, *_, **__):
        is_late = self._first is not None and trainer.global_step - self._first >= self._more_steps
        if is_late and (trainer.is_last_batch or not self._in_last_batch):
            raise InterruptionError


@pytest.fixture
def make_training(make_project, table, tmp_path):
    """A function that makes a plain trainer for a run, with a module and data of five batches an epoch."""
    make_project(tmp_path)

    def make(directory, *more_callbacks, num_workers=0, workers="threads", optimizer=None, **options):
        seed_everything(0, verbose=False)
        run = RunDirectory(tmp_path / directory)
        last = LastCheckpoint(run.last_checkpoint, CheckpointConfig(every_n_steps=1))
        callbacks = [AttemptRecorder(run), BatchRecorder(run.batches), LossLogger(), last, *more_callbacks]
        with quiet_lightning():
            trainer = Trainer(
                **{"max_epochs": 3, "limit_val_batches": 1, "num_sanity_val_steps": 0} | options,
                accelerator="cpu",
                devices=1,
                callbacks=callbacks,
                logger=MetricsCsv(run.metrics),
                log_every_n_steps=1,
                use_distributed_sampler=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
        encoder = EncoderConfig(width=2, features=4, projection=4)
        model = ContrastiveModule(encoder, optimizer=optimizer or OptimizerConfig(), n_channels=2, crop=16)
        data = PairDataModule(
            tmp_path / "experiments.yaml",
            tmp_path / "anchors.parquet",
            crop=16,
            positive=table.positive,
            sampler=SamplerConfig(batch_size=50),
            split=SplitConfig(fraction=0.5),
            num_workers=num_workers,
            workers=workers,
            start_method="fork" if workers == "processes" else None,
        )
        return trainer, model, data

    return make


@pytest.fixture
def train(make_training, tmp_path):
    """A function that trains a run, or resumes it, in a new trainer; returns whether it was interrupted."""

    def run(directory, *callbacks, **options):
        last_checkpoint = RunDirectory(tmp_path / directory).last_checkpoint
        trainer, model, data = make_training(directory, *callbacks, **options)
        return fit(trainer, model, data, last_checkpoint if last_checkpoint.exists() else None)

    return run


def fit(trainer, model, data, checkpoint=None):
    """Train, and return whether the run was interrupted."""
    with quiet_lightning(), contextlib.suppress(InterruptionError):
        trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
        return False
    return True


def read_run(directory):
    """Return the batches and the metrics of a run."""
    run = RunDirectory(directory)
    batches = run.read_batches().sort_values(["step", "batch"], kind="stable", ignore_index=True)
    log = read_log(run.metrics)
    return batches, log.sort_values("step", kind="stable", ignore_index=True)


def keys(batches):
    """Return epoch and index of each batch."""
    return list(
        batches[["step", "epoch", "batch"]].drop_duplicates()[["epoch", "batch"]].itertuples(index=False, name=None)
    )


def assert_same_run(directory, expected):
    for observed, wanted in zip(read_run(directory), read_run(expected), strict=True):
        pd.testing.assert_frame_equal(observed, wanted[observed.columns], check_exact=True)


LIMITS = {
    "none": {},
    "a number of batches": {"limit_train_batches": 3},
    "a fraction of the batches": {"limit_train_batches": 0.5},
    "steps within an epoch": {"max_epochs": -1, "max_steps": 13},
    "steps of whole epochs": {"max_epochs": -1, "max_steps": 10},
    "overfitting": {"overfit_batches": 2},
    "accumulated gradients": {"accumulate_grad_batches": 2},
    "accumulated gradients of some batches": {"accumulate_grad_batches": 2, "limit_train_batches": 3},
    "validation after some batches": {"val_check_interval": 2},
    "validation after a fraction": {"val_check_interval": 0.34},
    "validation across epochs": {"val_check_interval": 4, "check_val_every_n_epoch": None},
    "validation of every second epoch": {"check_val_every_n_epoch": 2},
    "new loaders": {"reload_dataloaders_every_n_epochs": 1},
    "new loaders with threads": {"reload_dataloaders_every_n_epochs": 1, "num_workers": 2, "max_epochs": 2},
    "new loaders with a worker process": {
        "reload_dataloaders_every_n_epochs": 1,
        "num_workers": 1,
        "workers": "processes",
        "max_epochs": 2,
    },
}
# The others are tried once a week: these have an incomplete step, an incomplete epoch, and validations across epochs.
OFTEN = {"steps within an epoch", "accumulated gradients of some batches", "validation across epochs", "new loaders"}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(options, marks=[] if name in OFTEN else [pytest.mark.slow, pytest.mark.weekly], id=name)
        for name, options in LIMITS.items()
    ],
)
def test_an_interrupted_run_resumes_with_the_batches_of_an_uninterrupted_one(train, tmp_path, options):
    assert not train("expected", **options)
    # Within an epoch; when the metrics of a validation are logged, but not saved; between epochs; before a validation.
    interrupts = [
        Interrupt("on_train_batch_end", 1),
        Interrupt("on_validation_end", 1),
        Interrupt("on_train_epoch_start"),
        Interrupt("on_train_batch_end", in_last_batch=True),
    ]
    assert all(train("resumed", interrupt, **options) for interrupt in interrupts)
    assert not train("resumed", **options)
    assert_same_run(tmp_path / "resumed", tmp_path / "expected")


CONSTANT = OptimizerConfig(schedule="constant")


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"max_epochs": 2, "limit_train_batches": 3}, {"max_epochs": 4, "limit_train_batches": 3}),
        ({"max_epochs": -1, "max_steps": 7}, {"max_epochs": -1, "max_steps": 12}),
        ({"max_epochs": -1, "max_steps": 5}, {"max_epochs": -1, "max_steps": 8}),
        ({"max_epochs": 1, "overfit_batches": 2}, {"max_epochs": 3, "overfit_batches": 2}),
        ({"max_steps": 4, "accumulate_grad_batches": 2}, {"accumulate_grad_batches": 2}),
    ],
)
def test_an_extended_run_equals_one_that_was_longer_from_the_start(train, tmp_path, first, then):
    train("expected", optimizer=CONSTANT, **then)
    train("resumed", optimizer=CONSTANT, **first)
    train("resumed", optimizer=CONSTANT, **then)
    assert_same_run(tmp_path / "resumed", tmp_path / "expected")


class StopEarly(Callback):
    """Ask the trainer to stop after a batch, as `max_time` does."""

    def __init__(self, batch_idx):
        self._batch_idx = batch_idx

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = trainer.current_epoch == 1 and batch_idx == self._batch_idx


@pytest.mark.parametrize("batch_idx", [1, 2])
def test_a_run_that_stops_with_pending_gradients_trains_on_their_batches_again(train, tmp_path, batch_idx):
    options = {"accumulate_grad_batches": 2, "limit_val_batches": 0, "optimizer": CONSTANT}
    train("expected", **options)
    train("resumed", StopEarly(batch_idx), **options)
    train("resumed", **options)
    assert_same_run(tmp_path / "resumed", tmp_path / "expected")


@pytest.mark.parametrize("change", [{"limit_train_batches": 1.0}, {"limit_train_batches": 2}])
def test_a_limit_that_was_changed_holds_for_the_epoch_in_progress(train, tmp_path, change):
    train("run", max_steps=3, limit_train_batches=4)
    train("run", max_epochs=2, **change)
    lengths = [5, 5] if change["limit_train_batches"] == 1.0 else [3, 2]
    assert keys(read_run(tmp_path / "run")[0]) == [(e, k) for e, length in enumerate(lengths) for k in range(length)]


def test_overfitting_repeats_the_first_batches_of_the_first_epoch(train, tmp_path):
    train("run", overfit_batches=2)
    batches = read_run(tmp_path / "run")[0]
    assert keys(batches) == [(0, 0), (0, 1)] * 3
    assert batches.groupby("step")["row"].apply(tuple).nunique() == 2


@pytest.mark.parametrize("interrupts", [[], [Interrupt("on_train_batch_end", 7)]])
def test_a_second_call_of_fit_continues(make_training, train, tmp_path, interrupts):
    train("expected", max_epochs=3, optimizer=CONSTANT)
    trainer, model, data = make_training("run", *interrupts, max_epochs=2, optimizer=CONSTANT)
    assert fit(trainer, model, data) == bool(interrupts)
    trainer.fit_loop.max_epochs = 3
    trainer.callbacks[:] = [one for one in trainer.callbacks if one not in interrupts]
    fit(trainer, model, data)
    assert keys(read_run(tmp_path / "run")[0]) == keys(read_run(tmp_path / "expected")[0])


def test_a_new_trainer_starts_with_the_first_epoch(make_training, tmp_path):
    trainer, model, data = make_training("first", max_steps=2)
    fit(trainer, model, data)
    trainer, model, _ = make_training("second", max_steps=2)
    fit(trainer, model, data)
    assert keys(read_run(tmp_path / "second")[0]) == [(0, 0), (0, 1)]
