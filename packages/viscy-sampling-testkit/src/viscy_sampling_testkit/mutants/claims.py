"""Claims: tables, options of the reference sampler for them, and what it promises with these options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from viscy_sampling_testkit.assertions.sequences import digest_of
from viscy_sampling_testkit.conformance.promises import Promises
from viscy_sampling_testkit.mutants.reference import ReferenceSampler

_BATCH_SIZE = 12
_GROUP_SHARES = {"a": 0.5, "b": 0.3, "c": 0.2}
_CONDITION_SHARES = {"mock": 0.5, "dengue": 0.3, "zika": 0.2}
_EQUAL_SHARES = dict.fromkeys(_CONDITION_SHARES, 1 / 3)
_UNEVEN_SHARES = {"a": 0.62, "b": 0.38, "c": 0.0}


@dataclass(frozen=True)
class Claim:
    """A table, options of the reference sampler for it, and what the reference claims with them."""

    promises: Promises
    options: Mapping[str, Any]

    def make(self, sampler: type[ReferenceSampler], rank: int, num_replicas: int, **options: Any) -> ReferenceSampler:
        """Make the sampler of one rank; `options` are further options, such as the seed.

        The option `order` makes the sampler of another table: the same rows in another order.
        """
        promises, own = self.promises, {**self.options, **options}
        order = own.pop("order", None)
        table = promises.table if order is None else promises.table.sample(frac=1, random_state=order)
        return sampler(table, promises.batch_size, rank=rank, num_replicas=num_replicas, **own)


def _make_table(counts: Mapping[str, int], n_times: int, frame_hours: float, groups: str = "abc") -> pd.DataFrame:
    """Make a shuffled table with the given number of rows of each condition at each time of each group."""
    rows = [
        (group, condition, time * frame_hours)
        for group in groups
        for time in range(n_times)
        for condition, n in counts.items()
        for _ in range(n)
    ]
    order = np.random.default_rng(0).permutation(len(rows))
    table = pd.DataFrame([rows[i] for i in order], columns=["experiment", "condition", "hours"])
    return table.set_axis(range(10_000, 10_000 + len(rows)))


def _make_uneven_table() -> pd.DataFrame:
    """Make a table of three groups with 60, 120 and 240 rows, other ranges of time, and frames of other lengths."""
    parts = [
        _make_table({"mock": n, "dengue": n, "zika": n}, n_times, frame_hours, group).eval(f"hours = hours + {start}")
        for group, n, n_times, frame_hours, start in (("a", 2, 10, 0.5, 0), ("b", 4, 10, 0.5, 2), ("c", 8, 10, 1.0, 4))
    ]
    table = pd.concat(parts, ignore_index=True)
    return table.sample(frac=1, random_state=0).set_axis(range(10_000, 10_000 + len(table)))


def _add_late_condition(table: pd.DataFrame, condition: str, n_rows: int) -> pd.DataFrame:
    """Add rows of a condition at the last time of each group."""
    last = table["hours"].max()
    rows = [(group, condition, last) for group in sorted(set(table["experiment"])) for _ in range(n_rows)]
    return pd.concat([table, pd.DataFrame(rows, columns=list(table))], ignore_index=True)


def _make_lineages(n_times: int, n_lineages: int = 20) -> pd.DataFrame:
    """Make a table whose rows are of so many lineages, each with rows of any condition in all groups."""
    table = _make_table({"mock": 5, "dengue": 3, "zika": 2}, n_times, 0.5)
    return table.assign(lineage=np.random.default_rng(1).permutation(np.arange(len(table)) % n_lineages))


def _make_places(n_times: int, groups: str = "abc") -> pd.DataFrame:
    """Make a table of two conditions with four rows of each at each time and field of view of each group."""
    table = _make_table({"mock": 16, "dengue": 16}, n_times, 0.5, groups)
    number = table.groupby(["experiment", "condition", "hours"]).cumcount()
    return table.assign(fov=number % 4)


def _claim(table: pd.DataFrame, options: Mapping[str, Any], **more: Any) -> Claim:
    """Return a claim: the laws that the reference satisfies with any options, and more that depend on them."""
    shared = {name: options[name] for name in ("group_by", "condition_by", "condition_shares") if name in options}
    claimed: dict[str, Any] = {
        "table": table,
        "batch_size": _BATCH_SIZE,
        "seeded": True,
        "epochs": "set_epoch",
        "python_ints": True,
        "last_batch": "full",
        "length": True,
        "exchangeable": True,
        "row_inclusion": True,
        "independent_rows": True,
        "deterministic": True,
        "ranks": "interleave",
        "equal_steps": True,
        "resume": True,
        "elastic_resume": True,
        "random_access": True,
        "large_seeds": True,
        "epochs_advance": True,
        "epoch_of_first_draw": True,
        "random_order": True,
        "independent_batches": True,
        "fresh_padding": True,
        "set_epoch_keeps_state": True,
        "plain_state": True,
        "refuses_state": ({"drop_last": not options.get("drop_last", True)},),
        "random_epochs": True,
        "direct_access": True,
        "copies": True,
        **shared,
        **more,
    }
    return Claim(Promises(**claimed), options)


def _shuffled() -> Claim:
    table = _make_table({"mock": 1}, n_times=96, frame_hours=0.5)
    first = list(ReferenceSampler(table, _BATCH_SIZE))
    return _claim(
        table,
        {},
        epochs="iter",
        epochs_advance=False,
        epoch_of_first_draw=False,
        set_epoch_keeps_state=False,
        random_epochs=False,
        distinct=True,
        coverage=True,
        rounds=True,
        ranks="disjoint",
        complete_ranks=True,
        rank_cost=True,
        digest=digest_of(first),
    )


# Claims that do not depend on the options of a batch, and are checked with other options.
_WITHOUT_RUNS: dict[str, Any] = dict.fromkeys(
    (
        *("deterministic", "resume", "elastic_resume", "set_epoch_keeps_state", "plain_state", "large_seeds"),
        *("epochs_advance", "epoch_of_first_draw", "direct_access", "copies", "random_epochs", "independent_rows"),
    ),
    False,
)
_WITHOUT_RUNS["refuses_state"] = None

_MIXED = {
    "group_by": "experiment",
    "group_shares": _GROUP_SHARES,
    "condition_by": "condition",
    "condition_shares": _CONDITION_SHARES,
}

_HALVES = {"mock": 0.5, "dengue": 0.5}
_RUNS = {"locality": 4, "place_by": ("hours", "fov")}
_OF_RUNS: dict[str, Any] = {
    "time_by": "hours",
    "locality": 4,
    "place_by": "fov",
    "without_locality": {"locality": 1},
    "independent_batches": False,
    **_WITHOUT_RUNS,
}

CLAIMS = {
    # Groups, a leak, and conditions, drawn without replacement.
    "mixed": _claim(
        _make_table({"mock": 5, "dengue": 3, "zika": 2}, n_times=8, frame_hours=0.5),
        {**_MIXED, "leaky": 0.1},
        leaky=0.1,
        uniform_leak=True,
        refuses_state=({"leaky": 0.2}, {"group_shares": _UNEVEN_SHARES}, {"drop_last": False}, {"order": 1}),
        rounds=True,
        group_shares=_GROUP_SHARES,
        distinct=True,
        even_repeats=True,
        coverage=True,
        rank_cost=True,
    ),
    # Groups and conditions in a temporal window.
    "windowed": _claim(
        _make_table({"mock": 5, "dengue": 3, "zika": 2}, n_times=12, frame_hours=0.5),
        {**_MIXED, "time_by": "hours", "window_hours": 1.0},
        leaky=0.0,
        group_shares=_GROUP_SHARES,
        distinct=True,
        time_by="hours",
        window_hours=1.0,
        window_fraction=0.75,
        global_fraction=0.25,
        focal_turns=True,
    ),
    # A plain shuffle for all ranks, whose epochs follow each other without `set_epoch`.
    "shuffled": _shuffled(),
    # The same with a short last batch.
    "short": _claim(
        _make_table({"mock": 1}, n_times=100, frame_hours=0.5, groups="a"),
        {"drop_last": False},
        last_batch="short",
        distinct=True,
        rounds=True,
        coverage=True,
    ),
    # Five conditions, which have 2.4 of the twelve slots each.
    "five": _claim(
        _make_table(dict.fromkeys("pqrst", 2), n_times=24, frame_hours=0.5, groups="a"),
        {"condition_by": "condition", "condition_shares": dict.fromkeys("pqrst", 0.2)},
        distinct=True,
        even_repeats=True,
        rounds=True,
        coverage=True,
    ),
    # All axes, with groups of different sizes and ranges of time.
    "all axes": _claim(
        _make_uneven_table(),
        {**_MIXED, "leaky": 0.2, "time_by": "hours", "window_hours": 1.0, "global_fraction": 0.4},
        leaky=0.2,
        uniform_leak=True,
        group_shares=_GROUP_SHARES,
        distinct=True,
        time_by="hours",
        window_hours=1.0,
        window_fraction=5 / 12,
        global_fraction=0.4,
        focal_turns=True,
    ),
    # A condition that has no rows in most windows.
    "sparse": _claim(
        _make_table({"mock": 6, "dengue": 4}, n_times=12, frame_hours=0.5).pipe(_add_late_condition, "zika", 12),
        {"group_by": "experiment", "condition_by": "condition", "time_by": "hours", "window_hours": 0.5},
        leaky=0.0,
        condition_shares=_EQUAL_SHARES,
        distinct=True,
        time_by="hours",
        window_hours=0.5,
        global_fraction=0.25,
        focal_turns=True,
    ),
    # Shares that do not give whole batches, an excluded group and condition, and a short last batch.
    "weighted": _claim(
        _make_table({"mock": 5, "dengue": 4, "zika": 2}, n_times=9, frame_hours=0.5).iloc[:-5],
        {
            "group_by": "experiment",
            "group_shares": _UNEVEN_SHARES,
            "condition_by": "condition",
            "condition_shares": {"mock": 0.55, "dengue": 0.45, "zika": 0.0},
            "drop_last": False,
        },
        last_batch="short",
        leaky=0.0,
        group_shares=_UNEVEN_SHARES,
        distinct=True,
        even_repeats=True,
        coverage=True,
        rounds=True,
    ),
    # One batch a step, of which each rank has a slice.
    "split": _claim(
        _make_table({"mock": 5, "dengue": 3, "zika": 2}, n_times=8, frame_hours=0.5),
        {**_MIXED, "leaky": 0.125, "split_batches": True},
        batch_size=24,
        ranks="split",
        fresh_padding=False,
        leaky=0.125,
        uniform_leak=True,
        group_shares=_GROUP_SHARES,
        distinct=True,
        coverage=True,
        rounds=True,
    ),
    # More conditions than a batch has room for, with equal shares.
    "chosen": _claim(
        _make_table(dict.fromkeys("pqrstu", 2), n_times=6, frame_hours=0.5),
        {
            "group_by": "experiment",
            "group_shares": _GROUP_SHARES,
            "condition_by": "condition",
            "anchors_per_condition": 4,
            "leaky": 0.1,
        },
        batch_size=14,
        leaky=0.1,
        uniform_leak=True,
        anchors_per_condition=4,
        group_shares=_GROUP_SHARES,
        distinct=True,
        coverage=True,
        rounds=True,
        **_WITHOUT_RUNS,
    ),
    # The same with a condition that is in every batch, others that are rare, and a short last batch.
    "chosen by share": _claim(
        _make_table({"p": 4, "q": 3, "r": 2, "s": 1, "t": 1}, n_times=6, frame_hours=0.5).iloc[:-4],
        {
            "group_by": "experiment",
            "condition_by": "condition",
            "condition_shares": {"p": 0.5, "q": 0.2, "r": 0.1, "s": 0.1, "t": 0.1},
            "anchors_per_condition": 4,
            "drop_last": False,
        },
        batch_size=14,
        last_batch="short",
        leaky=0.0,
        anchors_per_condition=4,
        distinct=True,
        coverage=True,
        rounds=True,
        **_WITHOUT_RUNS,
    ),
    # Lineages, which span conditions, of which a batch holds one row each.
    "lineages": _claim(
        _make_lineages(n_times=8),
        {**_MIXED, "leaky": 0.2, "distinct_by": "lineage"},
        leaky=0.2,
        distinct_by="lineage",
        group_shares=_GROUP_SHARES,
        distinct=True,
        coverage=True,
        rounds=True,
        **_WITHOUT_RUNS,
    ),
    # The same in a temporal window.
    "lineages in windows": _claim(
        _make_lineages(n_times=12, n_lineages=60),
        {**_MIXED, "time_by": "hours", "window_hours": 1.0, "distinct_by": "lineage"},
        leaky=0.0,
        distinct_by="lineage",
        independent_batches=False,
        group_shares=_GROUP_SHARES,
        distinct=True,
        time_by="hours",
        window_hours=1.0,
        window_fraction=0.75,
        **_WITHOUT_RUNS,
    ),
    # Short epochs, of which several are a round.
    "short epochs": _claim(
        _make_table({"mock": 5, "dengue": 3, "zika": 2}, n_times=8, frame_hours=0.5),
        {**_MIXED, "leaky": 0.1, "epoch_batches": 8},
        leaky=0.1,
        uniform_leak=True,
        epoch_batches=8,
        refuses_state=({"epoch_batches": 6}, {"epoch_batches": None}),
        group_shares=_GROUP_SHARES,
        distinct=True,
        coverage=True,
        rounds=True,
    ),
    # All options at once.
    "all options": _claim(
        _make_lineages(n_times=12, n_lineages=60),
        {
            "group_by": "experiment",
            "condition_by": "condition",
            "leaky": 0.125,
            "distinct_by": "lineage",
            "anchors_per_condition": 8,
            "epoch_batches": 8,
            "split_batches": True,
        },
        batch_size=16,
        ranks="split",
        fresh_padding=False,
        leaky=0.125,
        distinct_by="lineage",
        epoch_batches=8,
        anchors_per_condition=8,
        distinct=True,
        coverage=True,
        rounds=True,
        **_WITHOUT_RUNS,
    ),
    # Runs of rows that follow each other in time and place.
    "runs": _claim(
        _make_places(n_times=5),
        {"group_by": "experiment", "group_shares": _GROUP_SHARES, "condition_by": "condition", **_RUNS},
        batch_size=25,
        leaky=0.0,
        group_shares=_GROUP_SHARES,
        condition_shares=_HALVES,
        distinct=True,
        even_repeats=True,
        coverage=True,
        rounds=True,
        **_OF_RUNS,
    ),
    # The same for the leak.
    "runs of the leak": _claim(
        _make_places(n_times=3),
        {"group_by": "experiment", "leaky": 0.41, **_RUNS},
        batch_size=30,
        leaky=0.41,
        distinct=True,
        coverage=True,
        rounds=True,
        **_OF_RUNS,
    ),
    # The same in a temporal window.
    "runs in windows": _claim(
        _make_places(n_times=12, groups="ab"),
        {
            "group_by": "experiment",
            "condition_by": "condition",
            "time_by": "hours",
            "window_hours": 1.0,
            "global_fraction": 0.5,
            **_RUNS,
        },
        batch_size=32,
        leaky=0.0,
        condition_shares=_HALVES,
        distinct=True,
        window_hours=1.0,
        window_fraction=0.5,
        **_OF_RUNS,
    ),
    # A condition with fewer rows than slots.
    "tiny": _claim(
        _make_table({"mock": 15, "dengue": 10, "zika": 1}, n_times=2, frame_hours=0.5),
        {"group_by": "experiment", "condition_by": "condition", "condition_shares": _EQUAL_SHARES},
        even_repeats=True,
        rounds=True,
        coverage=True,
    ),
}
