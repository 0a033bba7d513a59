"""Sampler: the sampler of a run, made from its options, and what it has to say to them."""

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


def restore_sampler(sampler: FlexibleBatchSampler, state_dict: Mapping[str, Any]) -> None:
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
def collect_sampler_warnings() -> Generator[list[str]]:
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


def with_nonzero_weight(options: SamplerConfig, cells: pd.DataFrame, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of some rows that batches may hold: of experiments and conditions with a weight that is not 0."""
    for column, weights in (("experiment", options.experiment_weights), ("condition", options.condition_ratio)):
        if isinstance(weights, dict):
            unasked = [name for name, weight in weights.items() if not weight]
            rows = rows[~cells[column].iloc[rows].isin(unasked).to_numpy()]
    return rows


def options_for_validation(options: SamplerConfig, anchors: pd.DataFrame) -> SamplerConfig:
    """Return the options for validation: of what is there, in batches that there are enough anchors for."""
    present = {axis: set(anchors[axis].unique()) for axis in ("experiment", "condition")}
    weights, ratio = options.experiment_weights, options.condition_ratio
    if isinstance(weights, dict):
        weights = {name: weight for name, weight in weights.items() if name in present["experiment"]}
    if ratio is not None:
        ratio = {name: part for name, part in ratio.items() if name in present["condition"]}
    return replace(
        options,
        batch_size=min(options.batch_size, len(anchors)),
        leaky=options.leaky if len(present["experiment"]) > 1 else 0.0,
        experiment_weights=weights,
        condition_ratio=ratio,
    )
