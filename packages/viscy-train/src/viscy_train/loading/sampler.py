"""Sampler: the sampler of a run, made from its options, and what it has to say to them."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from viscy_data import FlexibleBatchSampler
from viscy_train.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import pandas as pd

    from viscy_train.config.schema import SamplerConfig


def make_sampler(
    anchors: pd.DataFrame,
    options: SamplerConfig,
    seed: int,
    rank: int | None = None,
    num_replicas: int | None = None,
    *,
    as_arrays: bool = False,
) -> FlexibleBatchSampler:
    """Make the sampler of a run.

    Parameters
    ----------
    anchors : pandas.DataFrame
        What is trained on: its positions are row numbers of this.
    options : SamplerConfig
        Composition of the batches.
    seed : int
        Of everything random.
    rank, num_replicas : int, optional
        Which process it is for, of how many; those of the process group by default.
    as_arrays : bool, default False
        Whether batches are arrays in place of lists.

    Returns
    -------
    viscy_data.FlexibleBatchSampler
        All of its batches are full: processes that gather negatives need batches of one size.

    Raises
    ------
    UserError
        If the sampler refuses the options or the table.
    """
    try:
        return FlexibleBatchSampler(
            anchors,
            **asdict(options),
            drop_last=True,
            seed=seed,
            rank=rank,
            num_replicas=num_replicas,
            as_arrays=as_arrays,
        )
    except (ValueError, TypeError) as error:
        raise UserError(f"data.sampler: {error}") from error


def go_on_with(sampler: FlexibleBatchSampler, state_dict: Mapping[str, Any]) -> None:
    """Let a sampler go on where a checkpoint is.

    Parameters
    ----------
    sampler : FlexibleBatchSampler
        Of the run.
    state_dict : mapping
        State of the data in the checkpoint.

    Raises
    ------
    UserError
        If it is that of other anchors or of another composition.
    """
    try:
        sampler.load_state_dict(state_dict)
    except ValueError as error:
        # What follows is what a programmer would do.
        reason = str(error).partition("; ")[0]
        raise UserError(
            f"the checkpoint is of other data or batches: {reason}; leave seed_everything, data.sampler, data.split "
            "and the anchor table as they were, or begin a new run in another `output`"
        ) from error


@contextmanager
def warnings_of_sampler() -> Generator[list[str]]:
    """Collect what the sampler logs, in place of showing it."""
    told: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    logger, collector = logging.getLogger("viscy_data"), Collector()
    propagates = logger.propagate
    logger.addHandler(collector)
    logger.propagate = False
    try:
        yield told
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagates
