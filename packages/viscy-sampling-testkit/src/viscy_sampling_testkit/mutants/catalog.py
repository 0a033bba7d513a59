"""Broken samplers: each has one mistake that ruins runs, and the law that must find it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from viscy_sampling_testkit.assertions.sequences import digest_of
from viscy_sampling_testkit.conformance.promises import Promises
from viscy_sampling_testkit.mutants import _batches as batches
from viscy_sampling_testkit.mutants import _runs as runs
from viscy_sampling_testkit.mutants.reference import ReferenceSampler

_BATCH_SIZE = 12
_GROUP_SHARES = {"a": 0.5, "b": 0.3, "c": 0.2}
_CONDITION_SHARES = {"mock": 0.5, "dengue": 0.3, "zika": 0.2}
_EQUAL_SHARES = dict.fromkeys(_CONDITION_SHARES, 1 / 3)


@dataclass(frozen=True)
class Claim:
    """A table, options of the reference for it, and what it promises with them."""

    promises: Promises
    options: Mapping[str, Any]

    def make(self, sampler: type[ReferenceSampler], rank: int, num_replicas: int, **options: Any) -> ReferenceSampler:
        """Make a sampler of one rank; `options` are such as the seed."""
        promises, own = self.promises, {**self.options, **options}
        return sampler(promises.table, promises.batch_size, rank=rank, num_replicas=num_replicas, **own)


class BrokenSampler(NamedTuple):
    """A factory of broken samplers, the law that they break, and the promises that they would keep but for that."""

    factory: Callable[..., ReferenceSampler]
    law: str
    promises: Promises


def _make_table(counts: Mapping[str, int], n_times: int, frame_hours: float, groups: str = "abc") -> pd.DataFrame:
    """Make a table with so many rows of each condition at each time of each group, in an order that shows none."""
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


def _claim(table: pd.DataFrame, options: Mapping[str, Any], **promised: Any) -> Claim:
    """Return the claim of a table: the laws that the reference keeps whatever its options are, and these."""
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
        "deterministic": True,
        "ranks": "interleave",
        "equal_steps": True,
        "resume": True,
        "elastic_resume": True,
        "random_access": True,
        **shared,
        **promised,
    }
    return Claim(Promises(**claimed), options)


def _shuffled() -> Claim:
    table = _make_table({"mock": 1}, n_times=96, frame_hours=0.5)
    first = list(ReferenceSampler(table, _BATCH_SIZE))
    return _claim(
        table,
        {},
        epochs="iter",
        distinct=True,
        coverage=True,
        ranks="disjoint",
        complete_ranks=True,
        rank_cost=True,
        digest=digest_of(first),
    )


_MIXED = {
    "group_by": "experiment",
    "group_shares": _GROUP_SHARES,
    "condition_by": "condition",
    "condition_shares": _CONDITION_SHARES,
}

CLAIMS = {
    # Groups, a leak, and conditions, dealt from decks.
    "mixed": _claim(
        _make_table({"mock": 5, "dengue": 3, "zika": 2}, n_times=8, frame_hours=0.5),
        {**_MIXED, "leaky": 0.1},
        leaky=0.1,
        group_shares=_GROUP_SHARES,
        distinct=True,
        even_repeats=True,
        coverage=True,
        rank_cost=True,
    ),
    # Groups and conditions, gathered around a focal time.
    "gathered": _claim(
        _make_table({"mock": 5, "dengue": 3, "zika": 2}, n_times=12, frame_hours=0.5),
        {**_MIXED, "time_by": "hours", "window_hours": 1.0},
        leaky=0.0,
        group_shares=_GROUP_SHARES,
        distinct=True,
        time_by="hours",
        window_hours=1.0,
        window_fraction=0.75,
    ),
    # One plain shuffle for all ranks, whose epochs follow each other without being set.
    "shuffled": _shuffled(),
    # The same with a short last batch.
    "short": _claim(
        _make_table({"mock": 1}, n_times=100, frame_hours=0.5, groups="a"),
        {"drop_last": False},
        last_batch="short",
        distinct=True,
        coverage=True,
    ),
    # Five conditions, for which twelve slots are 2.4 each.
    "five": _claim(
        _make_table(dict.fromkeys("pqrst", 2), n_times=24, frame_hours=0.5, groups="a"),
        {"condition_by": "condition", "condition_shares": dict.fromkeys("pqrst", 0.2)},
        distinct=True,
        even_repeats=True,
        coverage=True,
    ),
    # A condition with fewer rows than slots.
    "tiny": _claim(
        _make_table({"mock": 15, "dengue": 10, "zika": 1}, n_times=2, frame_hours=0.5),
        {"group_by": "experiment", "condition_by": "condition", "condition_shares": _EQUAL_SHARES},
        even_repeats=True,
        coverage=True,
    ),
}

REFERENCE_SAMPLERS = {name: (partial(claim.make, ReferenceSampler), claim.promises) for name, claim in CLAIMS.items()}


def _broken(sampler: type[ReferenceSampler], law: str, claim: str = "mixed") -> BrokenSampler:
    return BrokenSampler(partial(CLAIMS[claim].make, sampler), law, CLAIMS[claim].promises)


BROKEN_SAMPLERS = {
    "focal window a frame too long": _broken(batches.WindowOneFrameTooLong, "focal window", "gathered"),
    "focal window ignored": _broken(batches.WindowIgnored, "focal window", "gathered"),
    "remainder to the last condition": _broken(batches.RemainderToTheLastCondition, "condition shares", "five"),
    "quotas always rounded alike": _broken(batches.RoundedAlike, "condition shares on average"),
    "ratio ignored": _broken(batches.RatioIgnored, "condition shares"),
    "rare condition dropped": _broken(batches.RareConditionDropped, "condition shares"),
    "replacement within a batch": _broken(batches.DrawnWithReplacement, "distinct"),
    "deck reshuffled each batch": _broken(batches.DeckReshuffledEachBatch, "coverage"),
    "tiny pool drawn unevenly": _broken(batches.TinyPoolDrawnUnevenly, "even repeats", "tiny"),
    "one row never drawn": _broken(batches.RowNeverDrawn, "row inclusion", "shuffled"),
    "one row drawn twice as often": _broken(batches.RowDrawnTwiceAsOften, "row inclusion", "shuffled"),
    "leak from the own group": _broken(batches.LeakFromTheOwnGroup, "leak"),
    "leak twice as large": _broken(batches.LeakTwice, "leak"),
    "leak rounded down": _broken(batches.LeakRoundedDown, "leak on average"),
    "leak rounded up": _broken(batches.LeakRoundedUp, "leak on average"),
    "two groups mixed": _broken(batches.GroupsMixed, "one group", "gathered"),
    "group shares ignored": _broken(batches.GroupSharesIgnored, "group shares"),
    "order betrays the condition": _broken(batches.OrderBetraysTheCondition, "exchangeable slots"),
    "order betrays the row": _broken(batches.OrderBetraysTheRow, "exchangeable slots", "shuffled"),
    "order betrays the time": _broken(batches.OrderBetraysTheTime, "exchangeable slots", "gathered"),
    "first slot always primary": _broken(batches.PrimaryFirst, "exchangeable slots"),
    "labels in place of positions": _broken(batches.LabelsForPositions, "positions"),
    "NumPy's integers": _broken(batches.NumpyInts, "positions"),
    "one slot short": _broken(batches.OneSlotShort, "batch sizes"),
    "drop_last never read": _broken(batches.DropLastNeverRead, "batch sizes", "short"),
    "seed plus epoch": _broken(runs.SeedPlusEpoch, "seeds unrelated"),
    "seed ignored": _broken(runs.SeedIgnored, "seeds unrelated"),
    "plan shared by all seeds": _broken(runs.PlanSharedByAllSeeds, "seeds unrelated"),
    "epoch repeats": _broken(runs.EpochRepeats, "epochs unrelated"),
    "epochs shift by one": _broken(runs.EpochsShiftByOne, "epochs unrelated"),
    "epochs add up": _broken(runs.EpochsAddUp, "epoch choice"),
    "uneven ranks": _broken(runs.UnevenRanks, "equal steps"),
    "ranks in blocks": _broken(runs.RanksInBlocks, "ranks interleave"),
    "ranks overlap": _broken(runs.RanksOverlap, "ranks disjoint", "shuffled"),
    "ranks leave anchors out": _broken(runs.RanksIncomplete, "ranks complete", "shuffled"),
    "rank builds all batches": _broken(runs.RankBuildsAll, "rank cost"),
    "rank builds all batches ahead": _broken(runs.RankBuildsAllAhead, "rank cost"),
    "rank holds memory for all": _broken(runs.RankHoldsAll, "rank cost"),
    "length of all ranks": _broken(runs.LengthOfAllRanks, "length"),
    "epoch without an end": _broken(runs.NeverEnds, "length"),
    "exception at the end": _broken(runs.RaisesAtTheEnd, "length"),
    "epoch starts over after resume": _broken(runs.StartsOverAfterResume, "resume"),
    "resume skips a batch": _broken(runs.SkipsABatchAfterResume, "resume"),
    "epoch replayed after resume": _broken(runs.ReplaysTheEpochAfterResume, "resume"),
    "nothing after a state of the end": _broken(runs.StaysAtTheEnd, "resume"),
    "state aliases": _broken(runs.StateAliases, "resume"),
    "resume depends on the world size": _broken(runs.StateCountsItsOwnSteps, "elastic resume"),
    "replay moves on": _broken(runs.ReplayMovesOn, "replay"),
    "replay counts from one": _broken(runs.ReplayCountsFromOne, "replay"),
    "global generator": _broken(runs.DrawsFromTheGlobalGenerator, "determinism"),
    "samplers share their place": _broken(runs.SharesItsPlace, "determinism"),
    "another stream": _broken(runs.AnotherStream, "bit stability", "shuffled"),
}
