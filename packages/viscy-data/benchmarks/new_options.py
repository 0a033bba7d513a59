"""New options: how much longer a batch takes with an option than the same batch without it.

Complete epochs with and without the option are drawn alternately in one process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import process_time
from typing import Any

import numpy as np
import pandas as pd

from viscy_data import FlexibleBatchSampler

from .comparisons import Comparison
from .epochs import drain
from .jobs import Files, Job
from .setting import FRAME_HOURS, N_TIMES, OPTIONS, make_table, power_of_ten

LINEAGE_ROWS = 50
_N_RANKS = 8
_ANCHORS_PER_CONDITION = 4
_LOCALITY, _N_PLACES = 8, 20
_AT_LEAST_S = 0.3
_MUST, _AIM = 2.0, 1.3


@dataclass(frozen=True)
class Option:
    """An option to measure.

    Attributes
    ----------
    name
        The name to show.
    options
        Arguments of the sampler that has it.
    make_table
        Makes the table, given the number of rows.
    """

    name: str
    options: dict[str, Any]
    make_table: Callable[[int], pd.DataFrame] = make_table

    @property
    def jobs(self) -> dict[str, bool]:
        """Names of the jobs that measure the option, and whether batches are enriched."""
        return {f"{self.name}, enriched": True, f"{self.name}, not enriched": False}


def make_lineages(n_rows: int) -> pd.DataFrame:
    """Make a table of lineages of 50 rows: each is observed in consecutive frames, in one group and condition.

    Frames are counted modulo their number, so that all have equally many anchors.

    Parameters
    ----------
    n_rows : int
        Number of anchors, rounded down to complete lineages.

    Returns
    -------
    pandas.DataFrame
        As `setting.make_table`, with a column ``lineage_id`` (int32) in addition.
    """
    n_lineages = n_rows // LINEAGE_ROWS
    each = make_table(n_lineages).loc[:, ["experiment", "condition"]]
    first = np.random.default_rng(1).integers(0, N_TIMES, n_lineages)
    frame = (first[:, None] + np.arange(LINEAGE_ROWS)).ravel() % N_TIMES
    table = each.loc[each.index.repeat(LINEAGE_ROWS)].reset_index(drop=True)
    lineage = np.repeat(np.arange(n_lineages, dtype=np.int32), LINEAGE_ROWS)
    return table.assign(hours_post_infection=(frame * FRAME_HOURS).astype(np.float32), lineage_id=lineage)


def make_places(n_rows: int) -> pd.DataFrame:
    """Make the table of `setting.make_table` with a column ``place`` (int8) in addition, of 20 places."""
    place = np.random.default_rng(2).integers(0, _N_PLACES, n_rows, dtype=np.int8)
    return make_table(n_rows).assign(place=place)


_LISTED = (
    Option(f"`split_batches`, rank 0 of {_N_RANKS}", {"split_batches": True, "num_replicas": _N_RANKS, "rank": 0}),
    *(
        Option(
            f"`anchors_per_condition={_ANCHORS_PER_CONDITION}`, {n} conditions",
            {"anchors_per_condition": _ANCHORS_PER_CONDITION},
            partial(make_table, n_conditions=n),
        )
        for n in (96, 1000)
    ),
    Option("`epoch_batches=1000`", {"epoch_batches": 1000}),
    Option(f"`distinct_by`, lineages of {LINEAGE_ROWS} rows", {"distinct_by": "lineage_id"}, make_lineages),
    Option(
        f"`locality={_LOCALITY}`, {_N_PLACES} places",
        {"locality": _LOCALITY, "place_by": "place"},
        make_places,
    ),
)


def compare_options(n_rows: int) -> list[Comparison]:
    """Return the rows of the table, one for each option with and without enrichment."""
    return [
        Comparison(
            f"time per batch, {power_of_ten(n_rows)} rows, {name}, relative to the same batch without the option",
            "ratio",
            Job("new_option", n_rows, option=name),
            must=_MUST,
            aim=_AIM,
        )
        for option in _LISTED
        for name in option.jobs
    ]


def new_option(job: Job, files: Files) -> dict[str, float]:
    """Measure the ratio of the times per batch with and without an option."""
    del files
    option = next(option for option in _LISTED if job.option in option.jobs)
    table = option.make_table(job.n_rows)
    without: dict[str, Any] = OPTIONS | {"temporal_enrichment": option.jobs[job.option]}
    samplers = [FlexibleBatchSampler(table, **(without | options)) for options in (option.options, {})]
    for sampler in samplers:
        sampler.batch(0)  # excludes what is done once per process
    seconds, n_batches = np.zeros((2, 2))
    while seconds.min() < _AT_LEAST_S:
        for i, sampler in enumerate(samplers):
            start = process_time()
            n_batches[i] += drain(iter(sampler))
            seconds[i] += process_time() - start
    with_option, without_option = (seconds / n_batches).tolist()
    return {"ratio": with_option / without_option, "s_per_batch": with_option}
