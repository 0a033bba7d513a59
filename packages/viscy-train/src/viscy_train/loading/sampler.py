"""Sampler: the batch sampler of a run, made from the configuration, with its errors and warnings."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from viscy_data import ComposedBatches
from viscy_train.config.schema import SamplerConfig
from viscy_train.errors import UserError
from viscy_train.loading.axes import ALL_OTHERS, WEIGHTS, check_axes, sampler_arguments
from viscy_train.loading.saved_index import saved_index

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Mapping
    from pathlib import Path

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
    saved_in: Path | None = None,
) -> ComposedBatches:
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
    saved_in : pathlib.Path, optional
        Directory in which the sorted anchors are saved for later samplers, see `viscy_train.loading.saved_index`.

    Returns
    -------
    viscy_data.ComposedBatches
        A sampler whose batches are all full, because processes that gather negatives need batches of equal size.

    Raises
    ------
    UserError
        If the options are invalid or do not match the anchors.
    """
    check_axes(anchors, options)
    try:
        arguments = sampler_arguments(options, anchors)
        return ComposedBatches(
            anchors if saved_in is None else saved_index(saved_in, anchors, arguments),
            **arguments,
            drop_last=True,
            seed=seed,
            rank=rank,
            num_replicas=num_replicas,
            as_arrays=as_arrays,
        )
    except (ValueError, TypeError) as error:
        raise UserError(f"data.sampler: {error}") from error


def restore_sampler(sampler: ComposedBatches, state_dict: Mapping[str, Any]) -> None:
    """Restore the state of a sampler from a checkpoint.

    Parameters
    ----------
    sampler : ComposedBatches
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


def training_options(
    options: SamplerConfig, table_labels: Mapping[str, Collection[str]], labels: Mapping[str, Collection[str]]
) -> SamplerConfig:
    """Return the options for training: without the weights of names that the table has, but not the training anchors.

    Parameters
    ----------
    options : SamplerConfig
        Composition of the batches.
    table_labels, labels : mapping of str to collection of str
        The labels of the table and those of the anchors used for training, by axis: ``experiment`` and ``condition``.

    Returns
    -------
    SamplerConfig
        The options. A name that is not in the table keeps its weight, which the sampler then refuses.
    """
    return _replace_weights(
        options,
        lambda weights, column: {
            name: weight
            for name, weight in weights.items()
            if name in labels[column] or name not in table_labels[column]
        },
    )


def drop_excluded(options: SamplerConfig, observations: pd.DataFrame, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows that batches may contain, without experiments and conditions whose weight is 0.

    The observations are those of `viscy_train.loading.axes.add_labels`.
    """
    for column, name in WEIGHTS.items():
        weights = getattr(options, name)
        if isinstance(weights, dict):
            labels = observations[column].iloc[rows]
            excluded = [label for label in labels.unique() if not weights.get(label, weights.get(ALL_OTHERS, 1))]
            rows = rows[~labels.isin(excluded).to_numpy()]
    return rows


def validation_options(options: SamplerConfig, anchors: pd.DataFrame, num_replicas: int = 1) -> SamplerConfig:
    """Return the options for validation: complete epochs of batches no larger than the table, without absent names.

    If a name is left out of the weights, as one that is not trained on may be, all have the default weight.

    Parameters
    ----------
    options : SamplerConfig
        Composition of the batches.
    anchors : pandas.DataFrame
        The anchors kept for validation, with the labels of `viscy_train.loading.axes.add_labels`.
    num_replicas : int, default 1
        Number of processes.

    Returns
    -------
    SamplerConfig
        The options. The batch size is 0 if there are fewer anchors than processes that share each batch.
    """

    def adapt(weights: dict[str, float], column: str) -> dict[str, float] | None:
        labels = list(anchors[column].unique())
        of_each = {label: weights.get(label, weights.get(ALL_OTHERS)) for label in labels}
        return None if None in of_each.values() else {label: weight or 0.0 for label, weight in of_each.items()}

    adapted = _replace_weights(options, adapt)
    size = min(options.batch_size, len(anchors))
    if options.split_batches and size < options.batch_size:
        size -= size % num_replicas
    least = options.anchors_per_condition
    least = min(least, size) if isinstance(least, int) else least
    return replace(adapted, batch_size=size, anchors_per_condition=least, epoch_batches=None)


def _replace_weights(
    options: SamplerConfig, change: Callable[[dict[str, float], str], dict[str, float] | None]
) -> SamplerConfig:
    """Return options with other weights of experiments and conditions, given a function of the weights and column."""
    given = {name: (getattr(options, name), column) for column, name in WEIGHTS.items()}
    changed: Any = {name: change(*pair) for name, pair in given.items() if isinstance(pair[0], dict)}
    return replace(options, **changed)
