"""Sampler: the batch sampler of a run, made from the configuration, with its errors and warnings."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from viscy_data import FlexibleBatchSampler
from viscy_train.config.schema import SamplerConfig
from viscy_train.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


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
        The anchors. The sampler yields row numbers of this table.
    options : SamplerConfig
        Composition of the batches.
    seed : int
        Seed of the run.
    rank, num_replicas : int, optional
        Rank of the process, and number of processes; by default those of the process group.
    as_arrays : bool, default False
        Whether batches are arrays instead of lists.

    Returns
    -------
    viscy_data.FlexibleBatchSampler
        A sampler whose batches are all full, because processes that gather negatives need batches of equal size.

    Raises
    ------
    UserError
        If the options are invalid or do not match the anchors.
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


def restore_sampler(sampler: FlexibleBatchSampler, state_dict: Mapping[str, Any]) -> None:
    """Restore the state of a sampler from a checkpoint.

    Parameters
    ----------
    sampler : FlexibleBatchSampler
        The sampler of the run.
    state_dict : mapping
        State of the data module in the checkpoint.

    Raises
    ------
    UserError
        If the checkpoint belongs to other anchors or another composition.
    """
    try:
        own = sampler.state_dict()
        sampler.load_state_dict({name: value for name, value in state_dict.items() if name in own})
    except ValueError as error:
        # The rest of the message is advice for programmers.
        reason = str(error).partition("; ")[0]
        raise UserError(
            f"the checkpoint belongs to other data or batches: {reason}; restore seed_everything, data.sampler, "
            "data.split and the anchor table, or start a new run in another `output`"
        ) from error


@contextmanager
def collect_sampler_warnings() -> Generator[list[str]]:
    """Collect the warnings that samplers log, instead of printing them."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, collector = logging.getLogger("viscy_data"), Collector()
    propagates = logger.propagate
    logger.addHandler(collector)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagates


def drop_excluded(options: SamplerConfig, observations: pd.DataFrame, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows that batches may contain, without experiments and conditions whose weight is 0."""
    for column, weights in (("experiment", options.experiment_weights), ("condition", options.condition_ratio)):
        if isinstance(weights, dict):
            excluded = [name for name, weight in weights.items() if not weight]
            rows = rows[~observations[column].iloc[rows].isin(excluded).to_numpy()]
    return rows


def validation_options(options: SamplerConfig, anchors: pd.DataFrame) -> SamplerConfig:
    """Return the options for validation: without the weights of absent names, in batches no larger than the table."""
    experiments, conditions = (set(anchors[column].unique()) for column in ("experiment", "condition"))
    weights, ratio = options.experiment_weights, options.condition_ratio
    if isinstance(weights, dict):
        weights = {name: weight for name, weight in weights.items() if name in experiments}
    if ratio is not None:
        ratio = {name: weight for name, weight in ratio.items() if name in conditions}
    return replace(
        options, batch_size=min(options.batch_size, len(anchors)), experiment_weights=weights, condition_ratio=ratio
    )
