"""The catalog of mutants: reference samplers with one mistake each, and the law that must reject them."""

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
    """A table, options of the reference sampler for it, and what the reference claims with them."""

    promises: Promises
    options: Mapping[str, Any]

    def make(self, sampler: type[ReferenceSampler], rank: int, num_replicas: int, **options: Any) -> ReferenceSampler:
        """Make the sampler of one rank; `options` are further options, such as the seed."""
        promises, own = self.promises, {**self.options, **options}
        return sampler(promises.table, promises.batch_size, rank=rank, num_replicas=num_replicas, **own)


class Mutant(NamedTuple):
    """A factory of mutants, the law that they break, and the claims of the reference, which they make as well."""

    factory: Callable[..., ReferenceSampler]
    law: str
    promises: Promises


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
        "deterministic": True,
        "ranks": "interleave",
        "equal_steps": True,
        "resume": True,
        "elastic_resume": True,
        "random_access": True,
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
    # Groups, a leak, and conditions, drawn without replacement.
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
    ),
    # A plain shuffle for all ranks, whose epochs follow each other without `set_epoch`.
    "shuffled": _shuffled(),
    # The same with a short last batch.
    "short": _claim(
        _make_table({"mock": 1}, n_times=100, frame_hours=0.5, groups="a"),
        {"drop_last": False},
        last_batch="short",
        distinct=True,
        coverage=True,
    ),
    # Five conditions, which have 2.4 of the twelve slots each.
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


def _mutant(sampler: type[ReferenceSampler], law: str, claim: str = "mixed") -> Mutant:
    return Mutant(partial(CLAIMS[claim].make, sampler), law, CLAIMS[claim].promises)


MUTANTS = {
    "temporal window one frame too long": _mutant(batches.WindowOneFrameTooLong, "temporal window", "windowed"),
    "temporal window ignored": _mutant(batches.WindowIgnored, "temporal window", "windowed"),
    "remainder goes to the last condition": _mutant(batches.RemainderToLastCondition, "condition shares", "five"),
    "quotas always rounded the same way": _mutant(batches.RoundedTheSameWay, "condition shares on average"),
    "condition ratio ignored": _mutant(batches.RatioIgnored, "condition shares"),
    "rare condition dropped": _mutant(batches.RareConditionDropped, "condition shares"),
    "slots drawn with replacement": _mutant(batches.DrawnWithReplacement, "distinct"),
    "permutation reshuffled for each batch": _mutant(batches.ReshuffledEachBatch, "coverage"),
    "tiny pool drawn unevenly": _mutant(batches.TinyPoolDrawnUnevenly, "even repeats", "tiny"),
    "one row never drawn": _mutant(batches.RowNeverDrawn, "row inclusion", "shuffled"),
    "one row drawn twice as often": _mutant(batches.RowDrawnTwiceAsOften, "row inclusion", "shuffled"),
    "leak from own group": _mutant(batches.LeakFromOwnGroup, "leak"),
    "leak twice as large": _mutant(batches.LeakTwice, "leak"),
    "leak rounded down": _mutant(batches.LeakRoundedDown, "leak on average"),
    "leak rounded up": _mutant(batches.LeakRoundedUp, "leak on average"),
    "two groups mixed": _mutant(batches.GroupsMixed, "one group", "windowed"),
    "group shares ignored": _mutant(batches.GroupSharesIgnored, "group shares"),
    "slots sorted by condition": _mutant(batches.SortedByCondition, "exchangeable slots"),
    "slots sorted by row": _mutant(batches.SortedByRow, "exchangeable slots", "shuffled"),
    "slots of the window first": _mutant(batches.WindowFirst, "exchangeable slots", "windowed"),
    "first slot always primary": _mutant(batches.PrimaryFirst, "exchangeable slots"),
    "index labels instead of positions": _mutant(batches.IndexLabels, "positions"),
    "NumPy integers": _mutant(batches.NumpyInts, "positions"),
    "one slot short": _mutant(batches.OneSlotShort, "batch sizes"),
    "drop_last ignored": _mutant(batches.DropLastIgnored, "batch sizes", "short"),
    "seed plus epoch": _mutant(runs.SeedPlusEpoch, "seeds unrelated"),
    "seed ignored": _mutant(runs.SeedIgnored, "seeds unrelated"),
    "plan shared by all seeds": _mutant(runs.PlanSharedByAllSeeds, "seeds unrelated"),
    "epoch repeats": _mutant(runs.EpochRepeats, "epochs unrelated"),
    "epochs shift by one": _mutant(runs.EpochsShiftByOne, "epochs unrelated"),
    "epochs add up": _mutant(runs.EpochsAddUp, "epoch choice"),
    "uneven ranks": _mutant(runs.UnevenRanks, "equal steps"),
    "ranks in blocks": _mutant(runs.RanksInBlocks, "ranks interleave"),
    "ranks overlap": _mutant(runs.RanksOverlap, "ranks disjoint", "shuffled"),
    "ranks leave anchors out": _mutant(runs.RanksIncomplete, "ranks complete", "shuffled"),
    "rank builds all batches": _mutant(runs.RankBuildsAll, "rank cost"),
    "rank builds all batches in advance": _mutant(runs.RankBuildsAllInAdvance, "rank cost"),
    "rank holds memory for all ranks": _mutant(runs.RankHoldsAll, "rank cost"),
    "length of all ranks": _mutant(runs.LengthOfAllRanks, "length"),
    "epoch without an end": _mutant(runs.NeverEnds, "length"),
    "exception at the end": _mutant(runs.RaisesAtTheEnd, "length"),
    "epoch restarts after resume": _mutant(runs.RestartsAfterResume, "resume"),
    "resume skips a batch": _mutant(runs.SkipsBatchAfterResume, "resume"),
    "epoch repeated after resume": _mutant(runs.RepeatsEpochAfterResume, "resume"),
    "no batches after a state at the end": _mutant(runs.StaysAtTheEnd, "resume"),
    "state changes after it was saved": _mutant(runs.StateAliases, "resume"),
    "resume depends on the world size": _mutant(runs.StateCountsItsOwnSteps, "elastic resume"),
    "replay moves the cursor": _mutant(runs.ReplayMovesCursor, "replay"),
    "replay counts from one": _mutant(runs.ReplayCountsFromOne, "replay"),
    "global generator": _mutant(runs.DrawsFromGlobalGenerator, "determinism"),
    "samplers share their cursor": _mutant(runs.SharesCursor, "determinism"),
    "another bit generator": _mutant(runs.AnotherBitGenerator, "bit stability", "shuffled"),
}
