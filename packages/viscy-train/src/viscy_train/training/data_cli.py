"""Data CLI: the configuration of a command that needs no model, parsed without importing torch or Lightning.

Its keys, types and messages are those of `viscy_train.training.lightning_cli.TrainingCLI`, because both parse the same
classes with jsonargparse. Only the section ``trainer`` is Lightning's: its plain options are listed in
`viscy_train.config.schema`, and a configuration with others is left to Lightning.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Union

from jsonargparse import ArgumentParser, Namespace

from viscy_train.config.checks import require
from viscy_train.config.schema import (
    CheckpointConfig,
    EvaluationConfig,
    FilePath,
    LossConfig,
    ModelConfig,
    PlainTrainerOptions,
)
from viscy_train.config.suggestions import parse
from viscy_train.errors import UserError
from viscy_train.loading.run_data import RunData
from viscy_train.remote.path import local_path
from viscy_train.run.directory import RunDirectory

_OWN_SECTIONS = ("data", "model", "checkpoint", "evaluation")
TRAINER_DEFAULTS: dict[str, Any] = {
    "use_distributed_sampler": False,
    "num_sanity_val_steps": 0,
    "max_epochs": 50,
    "log_every_n_steps": 10,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
"""Defaults of the trainer that differ from Lightning's."""


class DataCLI:
    """Parse a configuration, and make what a command without a model needs from it.

    Parameters
    ----------
    command, args, description, options
        As for `viscy_train.training.lightning_cli.TrainingCLI`.

    Attributes
    ----------
    config : jsonargparse.Namespace
        The configuration.

    Raises
    ------
    UserError
        If a key must not be null, or the seed is out of range.
    argparse.ArgumentError
        If the parser refuses the configuration.
    """

    def __init__(
        self, command: str, args: list[str], description: str, options: dict[str, dict[str, Any]] | None = None
    ) -> None:
        parser = make_data_parser(f"viscy-train {command}", description, options or {})
        self.config = parse(parser, args)
        refuse_nulls(self.config, parser.get_defaults(skip_validation=True))
        check_seed(self.config)

    @property
    def run_directory(self) -> RunDirectory:
        """Directory of the run."""
        return RunDirectory(local_path(self.config.output, "output"))

    def make_data(self) -> RunData:
        """Return what the run draws its batches from."""
        return make_data(self.config, RunData)

    def make_loss_config(self) -> LossConfig:
        """Return the configuration of the loss."""
        return make_loss_config(self.config)


def make_data_parser(prog: str, description: str, options: dict[str, dict[str, Any]]) -> ArgumentParser:
    """Return the parser of commands without a model, with options of a command in addition."""
    parser = ArgumentParser(prog=prog, description=description, exit_on_error=False, env_prefix="PL")
    parser.add_argument("-c", "--config", action="config", help="path to a configuration file in YAML")
    seed = "seed of all random numbers"
    # Python returns the same object for a union in either order, namely the first that was used; see TrainingCLI.
    parser.add_argument("--seed_everything", type=Union[bool, int], default=0, help=seed)  # noqa: UP007
    sections: Any = {"trainer": PlainTrainerOptions, "model": ModelConfig, "data": RunData}
    for name, section in sections.items():
        parser.add_class_arguments(section, name, fail_untyped=False, sub_configs=True)
    add_own_arguments(parser, options)
    parser.link_arguments("seed_everything", "data.seed")
    return parser


def add_own_arguments(parser: ArgumentParser, options: dict[str, dict[str, Any]]) -> None:
    """Add the options of this package that are not those of trainer, model and data, and those of a command."""
    parser.add_argument("--output", type=FilePath, required=True, help="directory of the run, new or empty")
    parser.add_class_arguments(CheckpointConfig, "checkpoint")
    parser.add_class_arguments(EvaluationConfig, "evaluation")
    for name, keywords in options.items():
        parser.add_argument(f"--{name}", **keywords)


def refuse_nulls(config: Namespace, defaults: Namespace) -> None:
    """Refuse null in our sections where the default is something else, which the parser accepts for any type."""
    for name, value in config.items():
        if value is None and name.partition(".")[0] in _OWN_SECTIONS and (default := defaults.get(name)) is not None:
            what = f", {json.dumps(default)}" if isinstance(default, (bool, int, float, str)) else ""
            raise UserError(f"{name} must not be null; remove the key to get its default{what}")


def check_seed(config: Namespace) -> None:
    """Refuse a seed out of range."""
    seed = config.seed_everything
    require(isinstance(seed, int) and 0 <= seed < 2**32, "seed_everything must be in [0, 2**32)", seed)


def make_data[D: RunData](config: Namespace, kind: type[D]) -> D:
    """Return only the data of a configuration, as an object of a class."""
    return _instantiator(kind).instantiate(Namespace(data=config.data)).data


@cache  # a study makes the data of hundreds of runs
def _instantiator(kind: type[RunData]) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "data")
    return parser


def make_loss_config(config: Namespace) -> LossConfig:
    """Return the configuration of the loss, without a model."""
    return LossConfig(**config.model.loss.as_dict())
