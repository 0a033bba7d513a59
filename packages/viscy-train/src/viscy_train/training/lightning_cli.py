"""Training CLI: Lightning's command line over our module, data and run folder; one configuration for all commands."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.plugins.environments import ClusterEnvironment, SLURMEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from rich.console import Console

from viscy_train.config.checks import require
from viscy_train.config.schema import CheckpointConfig, FilePath
from viscy_train.errors import UserError
from viscy_train.loading.data_module import PairDataModule
from viscy_train.model.module import ContrastiveModule
from viscy_train.run.attempts import AttemptRecorder
from viscy_train.run.batch_record import BatchRecorder
from viscy_train.run.directory import RunDirectory
from viscy_train.run.metrics_csv import MetricsCsv
from viscy_train.training.callbacks import CompositionLogger, LossLogger, LossProgress
from viscy_train.training.checkpointing import AtomicCheckpointIO, LastCheckpoint, StepCounter
from viscy_train.training.data_wait import DataWait
from viscy_train.training.stopping import GracefulStop

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


# What the pairs of a step depend on.
_OF_BATCHES = ("crop", "z_slices", "positive", "sampler", "split", "augmentation")


class TrainingCLI(LightningCLI):
    """Parse a configuration, and make from it what a command needs.

    Parameters
    ----------
    command : str
        Its name, for the help.
    args : list of str
        Options after the command.
    description : str
        What the command does.
    options : dict, optional
        Of this command beside those of the configuration: name to keyword arguments of ``add_argument``.
    """

    def __init__(
        self, command: str, args: list[str], description: str, options: dict[str, dict[str, Any]] | None = None
    ) -> None:
        quieten_lightning()
        self._command_options = options or {}
        super().__init__(
            ContrastiveModule,
            PairDataModule,
            run=False,
            args=args,
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            trainer_defaults={
                "use_distributed_sampler": False,
                "num_sanity_val_steps": 0,
                "max_epochs": 50,
                "log_every_n_steps": 10,
                "enable_progress_bar": False,
                "enable_model_summary": False,
            },
            parser_kwargs={"exit_on_error": False, "prog": f"viscy-train {command}", "description": description},
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what is ours, and say what follows from what."""
        parser.add_argument("--output", type=FilePath, required=True, help="folder of the run, new or empty")
        parser.add_class_arguments(CheckpointConfig, "checkpoint")
        for name, keywords in self._command_options.items():
            parser.add_argument(f"--{name}", **keywords)
        parser.link_arguments("seed_everything", "data.seed")
        parser.link_arguments("data.n_channels", "model.n_channels", apply_on="instantiate")
        parser.link_arguments("data.z_slices", "model.z_slices", apply_on="instantiate")
        parser.link_arguments("data.crop", "model.crop", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Read the options; unlike Lightning, without a warning that the process has some of its own."""
        self.config = parser.parse_args(args)

    def _set_seed(self) -> None:
        """Set the seed, after it was checked."""
        seed = self.config.seed_everything
        require(isinstance(seed, int) and 0 <= seed < 2**32, "seed_everything must be in [0, 2**32)", seed)
        super()._set_seed()

    def before_instantiate_classes(self) -> None:
        """Refuse what would spoil the batches."""
        if self.config.trainer.use_distributed_sampler:
            raise UserError(
                "trainer.use_distributed_sampler must be false, got true: the sampler deals its batches to the "
                "processes itself; leave the key out"
            )

    def instantiate_classes(self) -> None:
        """Make nothing yet: a command asks for what it needs."""

    @property
    def folder(self) -> RunDirectory:
        """Folder of the run."""
        return RunDirectory(Path(self.config.output))

    def require_config_of_run(self) -> None:
        """Refuse a configuration whose batches are not those that the run in the folder recorded.

        Raises
        ------
        UserError
            If it differs from that of the run; the message says in what.
        """
        if not self.folder.config.is_file():
            return
        of_run, here = yaml.safe_load(self.folder.config.read_text(encoding="utf-8")), yaml.safe_load(self.dump())
        pairs = {"seed_everything": (of_run.get("seed_everything"), here["seed_everything"])}
        pairs |= {f"data.{name}": (of_run.get("data", {}).get(name), here["data"][name]) for name in _OF_BATCHES}
        for name, (before, now) in pairs.items():
            if before != now:
                raise UserError(
                    f"{name} is not that of the run in {self.folder.path}: {before} there, {now} here; use "
                    f"--config {self.folder.config}"
                )

    def dump(self) -> str:
        """Return the configuration with all of its values and absolute paths, as YAML that every command reads."""
        config = self.config.clone()
        for name in ("output", "data.experiments", "data.anchors"):
            config[name] = str(Path(config[name]).absolute())
        for name in self._command_options:
            config.pop(name, None)
        return self.parser.dump(config, skip_unset=False, skip_validation=True)

    def make_data(self) -> PairDataModule:
        """Return the data module alone, for commands without a model."""
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(PairDataModule, "data")
        return parser.instantiate(Namespace(data=self.config.data)).data

    def make_all(self, *, training: bool = True) -> tuple[Trainer, ContrastiveModule, PairDataModule]:
        """Return trainer, module and data module; the trainer is that of a run in the folder.

        Raises
        ------
        UserError
            If Lightning refuses the options of the trainer, as for a device that is not there.
        """
        made = self.parser.instantiate(self.config)
        self.config_init = made
        try:
            trainer = self.instantiate_trainer(
                default_root_dir=str(self.folder.path),
                logger=self._loggers(made) if training else False,
                callbacks=self._callbacks(made) if training else [],
                plugins=self._plugins(made),
            )
        except UserError:
            raise
        except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
            raise UserError(f"trainer: {' '.join(str(error).split())}") from error
        return trainer, made.model, made.data

    def _plugins(self, made: Namespace) -> list[Any]:
        plugins = _as_list(made.trainer.plugins)
        if not any(isinstance(one, CheckpointIO) for one in plugins):
            plugins = [*plugins, AtomicCheckpointIO()]
        if SLURMEnvironment.detect() and not any(isinstance(one, ClusterEnvironment) for one in plugins):
            # Lightning would put the job back into the queue itself, with a checkpoint of its own.
            return [*plugins, SLURMEnvironment(auto_requeue=False)]
        return plugins

    def _loggers(self, made: Namespace) -> list[Any]:
        asked = made.trainer.logger
        ours = MetricsCsv(self.folder.metrics)  # what the report is made from
        if asked is False:
            return [ours]
        if asked in (None, True):
            return [TensorBoardLogger(self.folder.path, name=self.folder.log.name, version=""), ours]
        return [*_as_list(asked), ours]

    def _callbacks(self, made: Namespace) -> list[Callback]:
        options, folder = made.checkpoint, self.folder
        last = LastCheckpoint(folder.last_checkpoint, options)
        # In the order in which they see a step: what is noted of it is on disk before its state is.
        ours: list[Callback] = [
            AttemptRecorder(folder),
            BatchRecorder(folder.batches),
            DataWait(),
            CompositionLogger(made.data.table.observations),
            LossLogger(),
            LossProgress(Console()),
            StepCounter(),
            GracefulStop(last),
            last,
        ]
        if options.keep_best:
            ours.append(
                ModelCheckpoint(
                    folder.checkpoints,
                    filename="best-{epoch}",
                    monitor="val/loss",
                    save_top_k=options.keep_best,
                    save_on_train_epoch_end=False,
                )
            )
        return [*_as_list(made.trainer.callbacks), *ours]


def _as_list(asked: Any) -> list[Any]:
    """Return what Lightning takes as one, several or none."""
    return [] if asked is None else asked if isinstance(asked, list) else [asked]


def quieten_lightning() -> None:
    """Leave out what Lightning tells on every run; its other warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # How many processes read is the user's choice, and stands in the configuration.
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    # The data module resumes, not the loader.
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable")
    # A step is logged at the end of each epoch, too.
    warnings.filterwarnings("ignore", message="The number of training batches .* is smaller than the logging interval")
    # That is what going on with a run means, and with that of another folder.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    warnings.filterwarnings("ignore", message="The dirpath has changed from")
    # Measuring and predicting need none of the callbacks of training.
    warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint need to be provided")
    # Ours returns every row once.
    warnings.filterwarnings("ignore", message="You are using a custom batch sampler `RowBatches` for prediction")
    # Nothing is kept for validation where that is what the configuration says.
    warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")
    warnings.filterwarnings("ignore", message=".*all_gather is deprecated")
    # Lightning's own use of torch, nothing that a user could change.
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
