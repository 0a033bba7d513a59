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
from viscy_sampling_testkit.mutants import _epochs as epochs
from viscy_sampling_testkit.mutants import _keys as keys
from viscy_sampling_testkit.mutants import _leaks as leaks
from viscy_sampling_testkit.mutants import _order as order
from viscy_sampling_testkit.mutants import _runs as runs
from viscy_sampling_testkit.mutants import _states as states
from viscy_sampling_testkit.mutants import _times as times
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
        uniform_leak=True,
        refuses_state=({"leaky": 0.2}, {"group_shares": _UNEVEN_SHARES}, {"drop_last": False}),
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
    # Shares that are no whole numbers of batches, a group and a condition that are excluded, and a short last batch.
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
    # A condition with fewer rows than slots.
    "tiny": _claim(
        _make_table({"mock": 15, "dengue": 10, "zika": 1}, n_times=2, frame_hours=0.5),
        {"group_by": "experiment", "condition_by": "condition", "condition_shares": _EQUAL_SHARES},
        even_repeats=True,
        rounds=True,
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
    "focal time fixed": _mutant(times.FocalTimeFixed, "focal turns", "windowed"),
    "focal time fixed in an epoch": _mutant(times.FocalTimeFixedInEpoch, "focal turns", "windowed"),
    "focal times independent": _mutant(times.FocalTimesIndependent, "focal turns", "windowed"),
    "focal times in proportion to rows": _mutant(times.FocalTimesByRows, "focal turns", "windowed"),
    "focal times early": _mutant(times.FocalTimesEarly, "focal turns", "windowed"),
    "last time never focal": _mutant(times.FocalTimesWithoutLast, "focal turns", "windowed"),
    "focal times of the table": _mutant(times.FocalTimesOfTable, "focal turns", "all axes"),
    "focal times start with the earliest": _mutant(times.FocalTimesStartEarly, "window shares", "windowed"),
    "focal times ascend in an epoch": _mutant(times.FocalTimesAscending, "random order", "windowed"),
    "temporal window half as wide": _mutant(times.WindowHalf, "window shares", "windowed"),
    "temporal window without its ends": _mutant(times.WindowWithoutEnds, "window shares", "windowed"),
    "temporal window without one end": _mutant(times.WindowWithoutOneEnd, "window shares", "windowed"),
    "temporal window forward only": _mutant(times.WindowForward, "window shares", "windowed"),
    "temporal window shifted": _mutant(times.WindowShifted, "focal turns", "windowed"),
    "temporal window in frames": _mutant(times.WindowInFrames, "focal turns", "all axes"),
    "global fraction ignored": _mutant(times.GlobalFractionIgnored, "window shares", "windowed"),
    "global fraction halved": _mutant(times.GlobalFractionHalved, "window shares", "windowed"),
    "global slots outside the window": _mutant(times.GlobalOutsideWindow, "window shares", "windowed"),
    "window slots rounded up": _mutant(times.WindowSlotsRoundedUp, "window shares", "windowed"),
    "window overrides the condition": _mutant(times.WindowOverridesCondition, "condition shares", "sparse"),
    "slots sorted by time": _mutant(times.SortedByTime, "exchangeable slots", "windowed"),
    "leak of a batch from one group": _mutant(leaks.LeakFromOneGroup, "leak rows"),
    "leak from the next group": _mutant(leaks.LeakFromNextGroup, "leak rows"),
    "leak of an epoch from one group": _mutant(leaks.LeakFromOneGroupAnEpoch, "leak rows"),
    "leak in equal shares of the groups": _mutant(leaks.LeakByGroup, "leak rows", "all axes"),
    "leak in the shares of the batches": _mutant(leaks.LeakByShares, "leak rows"),
    "leak of large groups": _mutant(leaks.LeakOfLargeGroups, "leak rows", "all axes"),
    "leak of the first rows": _mutant(leaks.LeakOfFirstRows, "leak rows"),
    "leak of one condition": _mutant(leaks.LeakOfOneCondition, "leak rows", "all axes"),
    "leak ignores conditions": _mutant(leaks.LeakIgnoresConditions, "condition shares"),
    "leak from the temporal window": _mutant(leaks.LeakInWindow, "leak rows", "all axes"),
    "leak repeated in all batches": _mutant(leaks.LeakRepeated, "independent batches"),
    "leak in some groups only": _mutant(leaks.LeakOnlyInSomeGroups, "leak", "all axes"),
    "groups in blocks": _mutant(order.GroupsInBlocks, "random order"),
    "groups in pairs": _mutant(order.GroupsInPairs, "random order"),
    "groups take turns": _mutant(order.GroupsTakeTurns, "random order"),
    "largest group first": _mutant(order.LargestGroupFirst, "random order"),
    "rare group late": _mutant(order.RareGroupLast, "random order"),
    "same order in each epoch": _mutant(order.SameOrderInEachEpoch, "random order"),
    "same order in each seed": _mutant(order.SameOrderInEachSeed, "random order"),
    "quotas rounded by index": _mutant(order.RoundedByIndex, "unbiased rounding"),
    "quotas rounded by group": _mutant(order.RoundedByGroup, "unbiased rounding"),
    "leak rounded by index": _mutant(order.LeakRoundedByIndex, "unbiased rounding"),
    "group shares rounded the same way": _mutant(order.GroupSharesRoundedTheSameWay, "unbiased rounding", "weighted"),
    "pairs of batches share draws": _mutant(order.PairsShareDraws, "independent batches"),
    "pairs of batches share draws in windows": _mutant(order.PairsShareDraws, "independent batches", "windowed"),
    "every fourth batch shares draws": _mutant(order.BatchesShareDraws, "independent batches", "windowed"),
    "all batches share draws": _mutant(order.AllBatchesShareDraws, "independent batches", "windowed"),
    "epochs share draws": _mutant(order.EpochsShareDraws, "independent batches", "windowed"),
    "slots ordered the same way": _mutant(order.SlotsOrderedTheSameWay, "independent batches"),
    "two rounds mixed": _mutant(order.SecondRoundMixed, "rounds"),
    "rows drawn twice in turn": _mutant(order.DrawnTwiceInTurn, "rounds"),
    "row carried over": _mutant(order.CarriesRowOver, "independent batches", "windowed"),
    "seed reduced to its parity": _mutant(keys.SeedParity, "seeds far apart"),
    "seed reduced to its lowest byte": _mutant(keys.SeedByte, "seeds far apart"),
    "seed reduced to its two lowest bytes": _mutant(keys.SeedTwoBytes, "seeds far apart"),
    "seed reduced to its four lowest bytes": _mutant(keys.SeedFourBytes, "seeds far apart"),
    "seed reduced to its precision of a float": _mutant(keys.SeedAsFloat, "seeds far apart"),
    "seed reduced to its remainder modulo 1000": _mutant(keys.SeedModuloThousand, "seeds far apart"),
    "seed times 1000 plus epoch": _mutant(keys.SeedTimesThousandPlusEpoch, "seeds far apart"),
    "seed xor epoch": _mutant(keys.SeedXorEpoch, "seeds far apart"),
    "seed times epoch": _mutant(keys.SeedTimesEpoch, "seeds far apart"),
    "seed and epoch sorted": _mutant(keys.SeedAndEpochSwap, "seeds far apart"),
    "epoch modulo 4": _mutant(keys.EpochModuloFour, "seeds far apart"),
    "epoch modulo 100": _mutant(keys.EpochModuloHundred, "seeds far apart"),
    "epoch modulo 256": _mutant(keys.EpochByte, "seeds far apart"),
    "hash of a string in the key": _mutant(keys.HashSeedInKey, "other processes"),
    "order of a set in the key": _mutant(keys.SetOrderInKey, "other processes"),
    "hash seed in the key": _mutant(keys.HashSeedVariableInKey, "other processes"),
    "process id in the key": _mutant(keys.ProcessIdInKey, "other processes"),
    "day in the key": _mutant(keys.DayInKey, "other processes"),
    "NumPy's generator consumed": _mutant(keys.ConsumesNumpyGenerator, "no trace"),
    "NumPy's generator seeded": _mutant(keys.SeedsNumpyGenerator, "no trace"),
    "torch's generator consumed": _mutant(keys.ConsumesTorchGenerator, "no trace"),
    "table changed": _mutant(states.ChangesTable, "no trace", "tiny"),
    "iteration repeats the epoch": _mutant(epochs.EpochStays, "epochs advance"),
    "iteration skips an epoch": _mutant(epochs.EpochsSkip, "epochs advance"),
    "abandoned epoch continues": _mutant(epochs.AbandonedEpochContinues, "epochs advance"),
    "iterators share their cursor": _mutant(epochs.IteratorsShareCursor, "epochs advance"),
    "set_epoch one late": _mutant(epochs.SetEpochIsOneLate, "epochs advance"),
    "epoch fixed when the iterator is made": _mutant(epochs.EpochFixedAtIter, "epoch of the first draw"),
    "set_epoch restarts a resumed epoch": _mutant(epochs.SetEpochRestarts, "set_epoch after resume"),
    "set_epoch continues in another epoch": _mutant(epochs.SetEpochContinues, "set_epoch after resume"),
    "padding repeats the first batches": _mutant(epochs.PaddingRepeatsFirst, "fresh padding"),
    "padding repeats the last batch": _mutant(epochs.PaddingRepeatsLast, "fresh padding"),
    "padding from the next epoch": _mutant(epochs.PaddingFromNextEpoch, "fresh padding"),
    "padding from the epoch before": _mutant(epochs.PaddingFromEpochBefore, "fresh padding"),
    "padding the same on all ranks": _mutant(epochs.PaddingSameOnAllRanks, "fresh padding"),
    "padding in another order": _mutant(epochs.PaddingReordered, "fresh padding"),
    "padding short": _mutant(epochs.PaddingShort, "batch sizes"),
    "padding empty": _mutant(epochs.PaddingEmpty, "batch sizes"),
    "padding of rows at random": _mutant(epochs.PaddingOfRowsAtRandom, "condition shares"),
    "padding depends on the ranks": _mutant(epochs.PaddingDependsOnRanks, "fresh padding"),
    "padding of the largest group": _mutant(epochs.PaddingMostlyOfLargestGroup, "fresh padding"),
    "five ranks overlap": _mutant(epochs.ManyRanksOverlap, "many ranks"),
    "more ranks than batches uneven": _mutant(epochs.ManyRanksUneven, "many ranks"),
    "length of many ranks rounded down": _mutant(epochs.LengthRoundedDown, "many ranks"),
    "replay raises beyond the end": _mutant(epochs.ReplayRaisesBeyondTheEnd, "replay beyond the end"),
    "replay starts again beyond the end": _mutant(epochs.ReplayStartsAgainBeyondTheEnd, "replay beyond the end"),
    "sequence repeats": _mutant(epochs.SequenceRepeats, "replay beyond the end"),
    "replay ignores the epoch": _mutant(epochs.ReplayIgnoresEpoch, "replay of epochs"),
    "replay depends on the iteration": _mutant(epochs.ReplayDependsOnIteration, "replay of epochs"),
    "replay disturbs the iteration": _mutant(epochs.ReplayDisturbsIteration, "replay of epochs"),
    "replay walks": _mutant(epochs.ReplayWalks, "direct access"),
    "state forgets the epoch": _mutant(states.StateForgetsEpoch, "states at any time"),
    "state ignores set_epoch": _mutant(states.StateIgnoresSetEpoch, "set_epoch after resume"),
    "used sampler ignores a state": _mutant(states.LoadsOnlyWhenNew, "states at any time"),
    "saving skips an epoch": _mutant(states.SavingAdvances, "states at any time"),
    "saving skips a batch": _mutant(states.SavingDraws, "states at any time"),
    "loaded state read later": _mutant(states.LoadedStateAliases, "states at any time"),
    "state of NumPy values": _mutant(states.StateOfArrays, "plain state"),
    "state grows": _mutant(states.StateGrows, "plain state"),
    "state of another seed accepted": _mutant(states.StateOfAnySeed, "foreign state"),
    "state of other options accepted": _mutant(states.StateOfAnyOptions, "foreign state"),
    "state of a rank": _mutant(states.StateDiffersByRank, "repeated resume"),
    "epoch after an elastic resume skipped": _mutant(states.NextEpochLostOnOtherRanks, "repeated resume"),
    "second resume counts twice": _mutant(states.SecondResumeCountsTwice, "repeated resume"),
    "resume draws again": _mutant(states.ResumesByDrawing, "direct access"),
    "one list for all batches": _mutant(states.OneListForAll, "batches stay"),
    "two lists in turn": _mutant(states.TwoListsInTurn, "batches stay"),
    "batches cached": _mutant(states.CachesBatches, "batches stay"),
    "copy starts again": _mutant(states.CopyStartsAgain, "copies"),
    "copy shares the cursor": _mutant(states.CopySharesCursor, "copies"),
    "copy forgets the seed": _mutant(states.CopyForgetsSeed, "copies"),
    "copy impossible": _mutant(states.CannotBePickled, "copies"),
    "plan changes": _mutant(states.PlanChanges, "replay"),
    "rows of even number preferred": _mutant(batches.EvenRowsPreferred, "row blocks", "shuffled"),
}
