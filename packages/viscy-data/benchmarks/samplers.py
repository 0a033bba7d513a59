"""The samplers that are compared: `FlexibleBatchSampler` and others, each with those of the axes that it supports.

Other samplers are imported when they are built, so one that is not installed is skipped with a remark.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler, WeightedRandomSampler

from viscy_data import AnchorIndex, FlexibleBatchSampler

from . import released
from .setting import BATCH_SIZE, OPTIONS, group_codes, stratum_codes

_AS_ARRAYS = "as_arrays"

# Starts an epoch: takes no arguments and returns an iterator over its batches.
Epochs = Callable[[], Iterator[Any]]


@dataclass(frozen=True)
class Contender:
    """A sampler that is measured.

    Attributes
    ----------
    name
        The name to show.
    axes
        The axes of the setting that it supports, or what it does instead.
    build
        Function from a table to its epochs. Those of this package also take an index and ranks.
    max_rows
        The number of rows up to which it is measured.
    """

    name: str
    axes: str
    build: Callable[..., Epochs]
    max_rows: int = 10**9


def flexible(source: pd.DataFrame | AnchorIndex, **ranks: int) -> Epochs:
    """Compose batches with all four axes."""
    return partial(iter, FlexibleBatchSampler(source, **OPTIONS, **ranks))


def _arrays(source: pd.DataFrame | AnchorIndex, **ranks: int) -> Epochs:
    if _AS_ARRAYS not in inspect.signature(FlexibleBatchSampler).parameters:
        raise TypeError(f"this version of the sampler has no option {_AS_ARRAYS}")
    options: dict[str, Any] = OPTIONS | {_AS_ARRAYS: True}
    return partial(iter, FlexibleBatchSampler(source, **options, **ranks))


def _random(table: pd.DataFrame) -> Epochs:
    return partial(iter, BatchSampler(RandomSampler(range(len(table))), BATCH_SIZE, drop_last=True))


def _distributed(table: pd.DataFrame) -> Epochs:
    sampler = DistributedSampler(range(len(table)), num_replicas=1, rank=0)  # ty: ignore[invalid-argument-type]
    return partial(iter, BatchSampler(sampler, BATCH_SIZE, drop_last=True))


def _weighted(table: pd.DataFrame) -> Epochs:
    stratum = stratum_codes(table)
    weights: Any = torch.from_numpy((1 / np.bincount(stratum))[stratum])
    sampler = WeightedRandomSampler(weights, len(table))
    return partial(iter, BatchSampler(sampler, BATCH_SIZE, drop_last=True))


def _m_per_class(table: pd.DataFrame) -> Epochs:
    samplers = importlib.import_module("pytorch_metric_learning.samplers")
    # One batch per pass, so that a few batches of an epoch can be measured without building all of it.
    one = samplers.MPerClassSampler(
        stratum_codes(table), m=16, batch_size=BATCH_SIZE, length_before_new_iter=BATCH_SIZE
    )
    return lambda: (list(one) for _ in range(len(table) // BATCH_SIZE))


def _concord(table: pd.DataFrame) -> Epochs:
    # Only the module: importing its package takes many seconds.
    sampler = released.module_of(_package_directory("concord") / "model" / "sampler.py").ConcordSampler(
        BATCH_SIZE,
        torch.from_numpy(group_codes(table).astype(np.int64)),
        neighborhood=None,
        p_intra_knn=0.0,
        p_intra_domain=1 - OPTIONS["leaky"],
        device=torch.device("cpu"),
    )
    return partial(iter, sampler)


def _scdataset(table: pd.DataFrame) -> Epochs:
    scdataset = importlib.import_module("scdataset")
    strategy = importlib.import_module("scdataset.strategy").ClassBalancedSampling(stratum_codes(table))
    positions = np.arange(len(table))
    batches = scdataset.scDataset(positions, strategy, batch_size=BATCH_SIZE, drop_last=True, seed=0)
    return lambda: (batch.tolist() for batch in batches)


def _grain(table: pd.DataFrame) -> Epochs:
    grain = importlib.import_module("grain")
    batches = grain.MapDataset.range(len(table)).shuffle(seed=0).batch(BATCH_SIZE, drop_remainder=True)
    return lambda: (batches[k].tolist() for k in range(len(batches)))


def _package_directory(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(name)
    return Path(spec.origin).parent


FLEXIBLE = "FlexibleBatchSampler"
ARRAYS = "FlexibleBatchSampler, arrays"
OURS = (FLEXIBLE, ARRAYS)
RANDOM = "torch RandomSampler"
RELEASED = "VisCy's released sampler"
_CONTENDERS = (
    Contender(FLEXIBLE, "all four", flexible),
    Contender(ARRAYS, "all four; a batch is a NumPy array", _arrays),
    Contender(RANDOM, "none: a plain shuffle", _random),
    Contender("torch DistributedSampler", "none: a plain shuffle, rank 0 of 1", _distributed),
    Contender("torch WeightedRandomSampler", "experiment and condition, equal on average", _weighted, 10**7),
    Contender("MPerClassSampler", "16 rows from each of 16 strata", _m_per_class, 10**7),
    Contender("ConcordSampler", "experiment and leak; no conditions, no times", _concord, 10**7),
    Contender("scDataset", "experiment and condition, equal on average", _scdataset, 10**7),
    Contender("Grain shuffle", "none: a plain shuffle", _grain),
)


def contenders(file: Path | None) -> dict[str, Contender]:
    """Return the samplers by name, with VisCy's released one if its file is given."""
    listed = {contender.name: contender for contender in _CONTENDERS}
    if file is not None:
        build = partial(released.epochs_of, file)
        listed[RELEASED] = Contender(RELEASED, released.AXES, build, 10**7)
    return listed
