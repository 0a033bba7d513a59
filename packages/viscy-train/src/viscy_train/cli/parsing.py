"""Parsing: the configuration of a command without a model, by the parser that needs the least imports."""

from __future__ import annotations

import logging
from argparse import ArgumentError
from typing import TYPE_CHECKING, Any

from viscy_train.config.suggestions import CommandLineError
from viscy_train.training.data_cli import DataCLI

_logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from viscy_train.training.lightning_cli import TrainingCLI


def parse_for_data(
    command: str, args: list[str], description: str, options: dict[str, dict[str, Any]] | None = None
) -> DataCLI | TrainingCLI:
    """Parse the configuration of a command without a model; with Lightning only if the section ``trainer`` needs it.

    Parameters
    ----------
    command, args, description, options
        As for `viscy_train.training.lightning_cli.TrainingCLI`.
    """
    try:
        # What is printed is complete, so that `fit` takes it.
        if not any(word.startswith("--print_config") for word in args):
            _logger.info("parsing the configuration without Lightning, because %s needs no model", command)
            return DataCLI(command, args, description, options)
    except (ArgumentError, CommandLineError) as error:
        if "trainer" not in str(error.__cause__ or error):
            raise
        _logger.info("parsing it with Lightning, because of options of the trainer that only Lightning knows")
    from viscy_train.training.lightning_cli import TrainingCLI

    return TrainingCLI(command, args, description, options)
