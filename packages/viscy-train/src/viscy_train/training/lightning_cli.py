"""Training CLI: Lightning's command line for our module and data, with one configuration for all commands."""

from __future__ import annotations

import functools
import operator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml
from jsonargparse import Namespace
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.plugins.environments import ClusterEnvironment, SLURMEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from viscy_train.config.schema import (
    CropSettings,
    LossConfig,
    PositiveConfig,
    SamplerConfig,
)
from viscy_train.config.suggestions import parse
from viscy_train.config.yaml_source import read_yaml
from viscy_train.console import get_console
from viscy_train.errors import UserError
from viscy_train.loading.data_module import PairDataModule
from viscy_train.model.module import ContrastiveModule
from viscy_train.remote.path import as_path, local_path
from viscy_train.run.attempts import AttemptRecorder
from viscy_train.run.batch_record import BatchRecorder
from viscy_train.run.checkpoint import BEST
from viscy_train.run.directory import RunDirectory
from viscy_train.run.metrics_csv import MetricsCsv
from viscy_train.training.callbacks import CompositionLogger, EvaluationProgress, LossLogger, LossProgress
from viscy_train.training.checkpointing import AtomicCheckpointIO, LastCheckpoint
from viscy_train.training.data_cli import (
    TRAINER_DEFAULTS,
    add_own_arguments,
    check_seed,
    make_data,
    make_loss_config,
    refuse_nulls,
)
from viscy_train.training.data_wait import DataWait
from viscy_train.training.lightning_warnings import quiet_lightning
from viscy_train.training.rank_watch import RankWatch
from viscy_train.training.read_volume import ReadVolume
from viscy_train.training.representation_watch import RepresentationWatch
from viscy_train.training.stopping import GracefulStop

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

# Sections of `data` that determine the batches of a run.
_BATCH_OPTIONS = (
    "crop",
    "z_slices",
    "crop_um",
    "depth_um",
    "z",
    "normalization",
    "positive",
    "sampler",
    "split",
    "augmentation",
)


def _try_integers_first(parser: LightningArgumentParser) -> None:
    """Read numbers such as ``trainer.limit_train_batches 1`` as integers: one batch, where 1.0 would be all batches.

    Python returns the same object for ``Optional[Union[int, float]]`` and ``Optional[Union[float, int]]``, namely the
    first that any imported module has used, and the parser tries the types in that order.
    """
    for action in parser._actions:
        kinds = get_args(getattr(action, "_typehint", None))
        if action.dest.startswith("trainer.") and {int, float} <= set(kinds):
            others = [kind for kind in kinds if kind not in (int, float)]
            typed: Any = action
            typed._typehint = functools.reduce(operator.or_, [int, float, *others])


class TrainingCLI(LightningCLI):
    """Parse a configuration, and make the objects that a command needs from it.

    Parameters
    ----------
    command : str
        Name of the command, for the help.
    args : list of str
        Arguments after the command.
    description : str
        What the command does, for the help.
    options : dict, optional
        Options of this command in addition to the configuration: keyword arguments of ``add_argument`` by name.
    """

    def __init__(
        self, command: str, args: list[str], description: str, options: dict[str, dict[str, Any]] | None = None
    ) -> None:
        self._command_options = options or {}
        with quiet_lightning():
            super().__init__(
                ContrastiveModule,
                PairDataModule,
                run=False,
                args=args,
                save_config_callback=None,
                seed_everything_default=0,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                trainer_defaults=TRAINER_DEFAULTS,
                parser_kwargs={"exit_on_error": False, "prog": f"viscy-train {command}", "description": description},
            )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of this package, and link those that depend on each other."""
        _try_integers_first(parser)
        add_own_arguments(parser, self._command_options)
        parser.link_arguments("seed_everything", "data.seed")
        parser.link_arguments("data.sampler.split_batches", "model.split_batches")
        parser.link_arguments("data.n_channels", "model.n_channels", apply_on="instantiate")
        parser.link_arguments("data.z_slices", "model.z_slices", apply_on="instantiate")
        parser.link_arguments("data.crop", "model.crop", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the options, without Lightning's warning that the process has command line arguments of its own."""
        self.config = parse(parser, args)
        refuse_nulls(self.config, parser.get_defaults(skip_validation=True))

    def _set_seed(self) -> None:
        """Check the seed, then set it."""
        check_seed(self.config)
        super()._set_seed()

    def before_instantiate_classes(self) -> None:
        """Refuse options that would change the batches."""
        if self.config.trainer.use_distributed_sampler:
            raise UserError(
                "trainer.use_distributed_sampler must be false, got true: the sampler distributes its batches over "
                "the processes itself; remove the key"
            )

    def instantiate_classes(self) -> None:
        """Instantiate nothing yet: `make_data` and `make_all` do, as a command needs it."""

    @property
    def run_directory(self) -> RunDirectory:
        """Directory of the run."""
        return RunDirectory(local_path(self.config.output, "output"))

    def require_config_of_run(self) -> None:
        """Refuse a configuration whose batches differ from those of the run in the output directory.

        Raises
        ------
        UserError
            If an option that determines the batches differs; the message names the option.
        """
        names = ["seed_everything", *(f"data.{name}" for name in _BATCH_OPTIONS)]
        if self.run_directory.config.is_file():
            self._require_options_of(self.run_directory, names)

    def require_split_of_run(self, checkpoint: Path) -> bool:
        """Refuse a configuration whose split differs from that of the run of a checkpoint.

        Parameters
        ----------
        checkpoint : pathlib.Path
            The checkpoint, whose run is in the parent of its directory.

        Returns
        -------
        bool
            Whether the run is there; nothing is refused if it is not.

        Raises
        ------
        UserError
            If an option that determines the split differs; the message names the option.
        """
        run = RunDirectory(checkpoint.absolute().parent.parent)
        if not run.has_run:
            return False
        is_random = self.config.data.split.by == "position" and self.config.data.split.fraction
        more = ["seed_everything", "data.sampler.condition_by"] if is_random else []
        self._require_options_of(run, ["data.split", *more])
        return True

    def _require_options_of(self, run: RunDirectory, names: list[str]) -> None:
        recorded, given = read_yaml(run.config), yaml.safe_load(self.dump())
        if not isinstance(recorded, dict) or not isinstance(recorded.get("data", {}), dict):
            raise UserError(f"{run.config} must be the configuration of a run; restore it")
        for name in names:
            expected, got = _option(recorded, name), _option(given, name)
            if expected != got:
                expected, got = _differing(expected, got)
                raise UserError(
                    f"{name} must be that of the run in {run.path}, {expected}, got {got}; use --config {run.config}"
                )

    def dump(self) -> str:
        """Return the complete configuration with absolute paths, as YAML that every command reads."""
        config = self.config.clone()
        for name in ("output", "data.experiments", "data.anchors", "data.store", "model.init_from"):
            if config[name] is not None:
                config[name] = str(as_path(config[name]).absolute())
        config.data.positive = Namespace(asdict(PositiveConfig(**config.data.positive.as_dict()).resolved()))
        for name in self._command_options:
            config.pop(name, None)
        return self.parser.dump(config, skip_unset=False, skip_validation=True)

    def make_data(self) -> PairDataModule:
        """Return only the data module, for commands without a model."""
        return make_data(self.config, PairDataModule)

    def make_loss_config(self) -> LossConfig:
        """Return the configuration of the loss, for commands without a model."""
        return make_loss_config(self.config)

    def make_all(self, *, training: bool = True) -> tuple[Trainer, ContrastiveModule, PairDataModule]:
        """Return trainer, module and data module.

        Parameters
        ----------
        training : bool, default True
            Whether the trainer gets the callbacks and loggers of a training run.

        Raises
        ------
        UserError
            If Lightning refuses the options of the trainer, such as a device that does not exist.
        """
        with quiet_lightning():
            made = self.parser.instantiate(self.config)
            self.config_init = made
            return self._make_trainer(made, training=training), made.model, made.data

    def _make_trainer(self, made: Namespace, *, training: bool) -> Trainer:
        evaluating = [RepresentationWatch(made.data), EvaluationProgress(get_console())]
        try:
            return self.instantiate_trainer(
                default_root_dir=str(self.run_directory.path),
                logger=self._loggers(made) if training else False,
                callbacks=self._callbacks(made) if training else evaluating,
                plugins=self._plugins(made),
            )
        except UserError:
            raise
        except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
            raise UserError(f"trainer: {' '.join(str(error).split())}") from error

    def _plugins(self, made: Namespace) -> list[Any]:
        plugins = _as_list(made.trainer.plugins)
        if not any(isinstance(one, CheckpointIO) for one in plugins):
            plugins = [*plugins, AtomicCheckpointIO()]
        if SLURMEnvironment.detect() and not any(isinstance(one, ClusterEnvironment) for one in plugins):
            # Lightning would requeue the job itself, with a checkpoint of its own.
            return [*plugins, SLURMEnvironment(auto_requeue=False)]
        return plugins

    def _loggers(self, made: Namespace) -> list[Any]:
        configured = made.trainer.logger
        metrics = MetricsCsv(self.run_directory.metrics)  # the report reads it
        if configured is False:
            return [metrics]
        if configured in (None, True):
            # Its thread opens the file for each metric; with the default of 10, training waits for it.
            queue: Any = {"max_queue": 1000}
            return [
                TensorBoardLogger(self.run_directory.path, name=self.run_directory.log.name, version="", **queue),
                metrics,
            ]
        return [*_as_list(configured), metrics]

    def _callbacks(self, made: Namespace) -> list[Callback]:
        options, run_directory = made.checkpoint, self.run_directory
        last = LastCheckpoint(run_directory.last_checkpoint, options)
        # Callbacks run in this order, so that the records of a step are on disk before its checkpoint is.
        callbacks: list[Callback] = [
            RankWatch(made.data.stall_warning_seconds, lambda: made.data.stall_watch.is_waiting),
            AttemptRecorder(run_directory),
            BatchRecorder(run_directory.batches),
            DataWait(),
            ReadVolume(),
            CompositionLogger(made.data.labeled, made.data.complete_batch),
            LossLogger(),
            RepresentationWatch(made.data),
            LossProgress(get_console()),
            GracefulStop(last),
            last,
        ]
        if options.keep_best:
            callbacks.append(
                ModelCheckpoint(
                    run_directory.checkpoints,
                    filename=Path(BEST.format("{epoch}")).stem,
                    monitor="val/loss",
                    save_top_k=options.keep_best,
                    save_on_train_epoch_end=False,
                )
            )
        return [*_as_list(made.trainer.callbacks), *callbacks]


def _option(config: dict[str, Any], name: str) -> Any:
    """Return an option of a configuration, which may have been recorded before it existed, by its name with dots."""
    first, _, rest = name.partition(".")
    if first != "data":
        return config.get(name)
    section, _, key = rest.partition(".")
    value = _complete(section, config.get("data", {}).get(section))
    return value.get(key) if key and isinstance(value, dict) else value


def _differing(one: Any, other: Any) -> tuple[Any, Any]:
    """Return what two mappings give for the keys in which they differ; other values as they are."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return one, other
    keys = [key for key in {**one, **other} if key not in one or key not in other or one[key] != other[key]]
    return {key: one[key] for key in keys if key in one}, {key: other[key] for key in keys if key in other}


def _complete(name: str, section: Any) -> Any:
    """Return a section of `data` with the default of each option that did not exist when it was recorded."""
    complete: dict[str, Any] = {"sampler": SamplerConfig(), "positive": PositiveConfig()}
    if name in complete and isinstance(section, dict):
        return asdict(complete[name]) | section
    if section is None and name in ("z", "normalization"):
        return asdict(CropSettings())[name]
    return section


def _as_list(value: Any) -> list[Any]:
    """Return an option of the trainer that may be one object, a list of them, or None as a list."""
    return [] if value is None else value if isinstance(value, list) else [value]
