"""The laws of batch samplers: what each says, who claims it, and how it is checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from viscy_sampling_testkit.assertions._slots import factorize
from viscy_sampling_testkit.conformance import (
    _batch_laws,
    _locality_laws,
    _object_laws,
    _option_laws,
    _order_laws,
    _run_laws,
    _state_laws,
    _time_laws,
)
from viscy_sampling_testkit.conformance.promises import Promises
from viscy_sampling_testkit.conformance.trial import Trial


class Law(NamedTuple):
    """A law: its name, what it says, whether a sampler claims it, and how it is checked."""

    name: str
    statement: str
    claimed: Callable[[Promises], bool]
    check: Callable[[Trial], None]


def _has_quotas(promises: Promises) -> bool:
    """Return whether each condition has the same quota in every batch."""
    return promises.condition_shares is not None and promises.anchors_per_condition is None


def _has_equal_shares(promises: Promises) -> bool:
    """Return whether three or more conditions have equal shares, and a batch has no room for all of them."""
    shares = promises.condition_shares
    if shares is None:
        n_chosen = max(1, promises.batch_size // (promises.anchors_per_condition or 1))
        return len(set(map(tuple, np.column_stack([promises.labels("condition_by")]).tolist()))) > max(2, n_chosen)
    return max(Counter(shares.values()).values(), default=0) >= 3


def _has_runs(promises: Promises) -> bool:
    """Return whether slots are filled by runs; rows that replace others with the same value are not in runs."""
    return promises.locality is not None and promises.distinct_by is None


def _has_places_of_runs(promises: Promises) -> bool:
    """Return whether each stratum has a complete run at each time and place."""
    if not _has_runs(promises) or promises.place_by is None:
        return False
    codes, names = factorize(promises.labels("group_by", "condition_by", "time_by", "place_by"))
    return int(np.bincount(codes, minlength=len(names)).min()) >= (promises.locality or 1)


LAWS = (
    Law("positions", "positions are Python ints within the table", lambda p: p.python_ints, _batch_laws.positions),
    Law(
        "batches stay",
        "a batch is an object of its own, which does not change later",
        lambda p: p.python_ints,
        _object_laws.batches_stay,
    ),
    Law(
        "batch sizes",
        "all batches are full, except a short last one if claimed",
        lambda p: p.last_batch is not None,
        _batch_laws.batch_sizes,
    ),
    Law("distinct", "no anchor is repeated within a batch", lambda p: p.distinct, _batch_laws.distinct),
    Law(
        "even repeats",
        "rows of a stratum occur equally often in a batch, to within one",
        lambda p: p.even_repeats,
        _batch_laws.even_repeats,
    ),
    Law("one group", "a batch holds one group", lambda p: p.leaky == 0, _batch_laws.one_group),
    Law("leak", "the leak is the floor or the ceiling of its quota", lambda p: bool(p.leaky), _batch_laws.leak),
    Law("leak on average", "the leak matches its quota on average", lambda p: bool(p.leaky), _batch_laws.mean_leak),
    Law(
        "leak rows",
        "the leak is drawn uniformly from the rows of the other groups",
        lambda p: bool(p.leaky) and p.uniform_leak,
        _time_laws.uniform_leak,
    ),
    Law(
        "group shares",
        "each group has its share of an epoch's batches, to within one",
        lambda p: p.group_shares is not None,
        _batch_laws.group_shares,
    ),
    Law(
        "condition shares",
        "each condition has the floor or the ceiling of its quota",
        lambda p: p.condition_shares is not None and p.anchors_per_condition is None,
        _batch_laws.condition_shares,
    ),
    Law(
        "condition shares on average",
        "each condition matches its quota on average",
        lambda p: p.condition_shares is not None and p.anchors_per_condition is None,
        _batch_laws.mean_condition_shares,
    ),
    Law(
        "chosen conditions",
        "a batch holds as many conditions as have room, each with the floor or the ceiling of its part",
        lambda p: p.anchors_per_condition is not None,
        _option_laws.chosen_conditions,
    ),
    Law(
        "choice in proportion",
        "each condition is in its share of a group's batches, to within one",
        lambda p: p.anchors_per_condition is not None,
        _option_laws.choice_in_proportion,
    ),
    Law(
        "unbiased choice",
        "conditions are chosen, and have their further slots, without preference",
        lambda p: p.anchors_per_condition is not None and p.epochs is not None,
        _option_laws.unbiased_choice,
    ),
    Law(
        "pairs of conditions",
        "conditions with equal shares are together in a batch equally often",
        lambda p: p.anchors_per_condition is not None and p.epochs is not None and _has_equal_shares(p),
        _option_laws.pairs_of_conditions,
    ),
    Law(
        "distinct values",
        "no two rows of a batch share a value while there are rows with others",
        lambda p: p.distinct_by is not None,
        _option_laws.distinct_values,
    ),
    Law(
        "runs",
        "slots are filled by runs of rows that follow each other in time and place",
        _has_runs,
        _locality_laws.runs,
    ),
    Law(
        "places of runs",
        "a run touches at most two places",
        _has_places_of_runs,
        _locality_laws.places_of_runs,
    ),
    Law(
        "counts without locality",
        "all counts of a batch are those of the sampler without locality",
        lambda p: p.without_locality is not None,
        _locality_laws.counts_without_locality,
    ),
    Law(
        "inclusion in runs",
        "rows are drawn equally often, wherever they are in time and place",
        lambda p: p.row_inclusion and _has_runs(p),
        _locality_laws.inclusion_in_runs,
    ),
    Law(
        "temporal window",
        "enough slots are in the temporal window around one time",
        lambda p: p.window_hours is not None and (p.window_fraction is not None or p.global_fraction is None),
        _batch_laws.temporal_window,
    ),
    Law(
        "focal turns",
        "the times of a group take turns as focal times",
        lambda p: p.focal_turns,
        _time_laws.focal_turns,
    ),
    Law(
        "window shares",
        "window slots and global slots have their shares, and focal times are equally frequent",
        lambda p: p.global_fraction is not None,
        _time_laws.window_shares,
    ),
    Law(
        "exchangeable slots",
        "the row of a slot does not depend on its position in the batch",
        lambda p: p.exchangeable,
        _batch_laws.exchangeable_slots,
    ),
    Law(
        "slot classes",
        "even and odd, first and last slots hold the same labels",
        lambda p: p.exchangeable,
        _batch_laws.slot_classes,
    ),
    Law(
        "random order",
        "the index of a batch in its epoch does not say anything about its group or time",
        lambda p: p.random_order and (p.group_by is not None or p.global_fraction is not None),
        _order_laws.random_order,
    ),
    Law(
        "unbiased rounding",
        "quotas are rounded up equally often at all indexes and in all groups",
        lambda p: p.random_order and p.epochs is not None and (_has_quotas(p) or bool(p.leaky)),
        _order_laws.unbiased_rounding,
    ),
    Law(
        "independent batches",
        "batches have no more in common than expected by chance",
        lambda p: p.independent_batches,
        _order_laws.independent_batches,
    ),
    Law(
        "coverage",
        "an epoch draws the rows of a stratum equally often, to within one",
        lambda p: p.coverage,
        _batch_laws.coverage,
    ),
    Law(
        "rounds",
        "no row is drawn again before all rows of its stratum were drawn",
        lambda p: p.rounds,
        _batch_laws.rounds,
    ),
    Law(
        "short epochs",
        "epochs have equally many batches, and groups their shares of each and of a round",
        lambda p: p.epoch_batches is not None,
        _option_laws.short_epochs,
    ),
    Law(
        "rounds of short epochs",
        "over the epochs of a round, no row is drawn again before its stratum was drawn",
        lambda p: p.epoch_batches is not None and p.rounds,
        _option_laws.rounds_of_short_epochs,
    ),
    Law(
        "rounds unrelated",
        "rounds of short epochs have no more in common than expected by chance",
        lambda p: p.epoch_batches is not None,
        _option_laws.unrelated_rounds,
    ),
    Law(
        "row inclusion",
        "rows of a stratum are drawn equally often on average",
        lambda p: p.row_inclusion,
        _batch_laws.row_inclusion,
    ),
    Law(
        "row blocks",
        "rows are drawn equally often whatever their number",
        lambda p: p.row_inclusion and p.locality is None,
        _time_laws.row_blocks,
    ),
    Law(
        "independent rows",
        "rows that follow each other in the table or in time are in a batch by chance",
        lambda p: p.independent_rows,
        _time_laws.independent_rows,
    ),
    Law("length", "the length is the number of batches", lambda p: p.length, _run_laws.length),
    Law(
        "length stays",
        "the length does not depend on what was drawn or loaded",
        lambda p: p.length and p.resume,
        _run_laws.length_stays,
    ),
    Law(
        "determinism",
        "the same arguments give the same batches",
        lambda p: p.deterministic,
        _run_laws.deterministic,
    ),
    Law(
        "no trace",
        "drawing changes neither the global generators nor the table",
        lambda p: p.deterministic,
        _object_laws.leaves_no_trace,
    ),
    Law(
        "other processes",
        "other processes, with another hash seed, id and time, draw the same batches",
        lambda p: p.deterministic,
        _object_laws.other_processes,
    ),
    Law(
        "other threads",
        "other threads draw the same batches",
        lambda p: p.deterministic,
        _object_laws.other_threads,
    ),
    Law(
        "bit stability",
        "the first epoch matches the recorded one bit for bit",
        lambda p: p.digest is not None,
        _run_laws.bit_stability,
    ),
    Law(
        "epoch choice",
        "set_epoch gives the same epoch each time",
        lambda p: p.epochs == "set_epoch",
        _run_laws.epoch_choice,
    ),
    Law(
        "epochs advance",
        "without set_epoch, each iteration is the next epoch",
        lambda p: p.epochs_advance,
        _object_laws.epochs_advance,
    ),
    Law(
        "epoch of the first draw",
        "an iterator draws the epoch that is set when its first batch is drawn",
        lambda p: p.epoch_of_first_draw,
        _object_laws.epoch_of_first_draw,
    ),
    Law(
        "epochs unrelated",
        "epochs have no more in common than expected by chance",
        lambda p: p.epochs is not None,
        _run_laws.unrelated_epochs,
    ),
    Law(
        "seeds unrelated",
        "seeds have no more in common than expected by chance",
        lambda p: p.seeded,
        _run_laws.unrelated_seeds,
    ),
    Law(
        "seeds far apart",
        "far-apart seeds and epochs share no batch",
        lambda p: p.seeded,
        _object_laws.distinct_seeds,
    ),
    Law(
        "copies",
        "a copy of a sampler is where the original is",
        lambda p: p.copies,
        _object_laws.copies,
    ),
    Law("equal steps", "all ranks have the same number of batches", lambda p: p.equal_steps, _run_laws.equal_steps),
    Law(
        "ranks interleave",
        "ranks interleave the batches of a single process",
        lambda p: p.ranks == "interleave",
        _run_laws.ranks_interleave,
    ),
    Law(
        "many ranks",
        "five to eight ranks, and more ranks than batches, interleave the same sequence",
        lambda p: p.ranks == "interleave",
        _state_laws.many_ranks,
    ),
    Law(
        "fresh padding",
        "ranks complete their last step with fresh batches of the same sequence",
        lambda p: p.fresh_padding,
        _state_laws.fresh_padding,
    ),
    Law(
        "slices",
        "the slices of a step are the batch of a single process, on any number of ranks",
        lambda p: p.ranks == "split",
        _option_laws.slices,
    ),
    Law(
        "slices alike",
        "a slice does not betray its rank",
        lambda p: p.ranks == "split" and p.exchangeable,
        _option_laws.slices_alike,
    ),
    Law(
        "ranks disjoint",
        "no anchor occurs on two ranks",
        lambda p: p.ranks == "disjoint",
        _run_laws.ranks_disjoint,
    ),
    Law(
        "ranks complete",
        "all ranks together contain every anchor",
        lambda p: p.complete_ranks,
        _run_laws.ranks_complete,
    ),
    Law("rank cost", "a rank builds its own batches only", lambda p: p.rank_cost, _run_laws.rank_cost),
    Law("resume", "a stopped epoch resumes with the next batch", lambda p: p.resume, _run_laws.resume),
    Law(
        "elastic resume",
        "a stopped epoch resumes on another number of ranks",
        lambda p: p.elastic_resume,
        _run_laws.elastic_resume,
    ),
    Law(
        "states at any time",
        "states can be saved and loaded at any time, in any epoch",
        lambda p: p.resume and p.epochs is not None,
        _state_laws.reload,
    ),
    Law(
        "repeated resume",
        "a run that is stopped again and again draws each batch once",
        lambda p: p.elastic_resume and p.ranks == "interleave",
        _state_laws.repeated_resume,
    ),
    Law(
        "set_epoch after resume",
        "set_epoch with the epoch of a loaded state resumes in it",
        lambda p: p.set_epoch_keeps_state,
        _object_laws.set_epoch_keeps_state,
    ),
    Law(
        "plain state",
        "a state is a small dict that survives JSON",
        lambda p: p.plain_state,
        _state_laws.plain_state,
    ),
    Law(
        "foreign state",
        "a state of another sampler is refused",
        lambda p: p.refuses_state is not None,
        _state_laws.refuses_state,
    ),
    Law(
        "replay",
        "a batch requested by index is that of the sequence",
        lambda p: p.random_access,
        _run_laws.replay,
    ),
    Law(
        "replay beyond the end",
        "batches beyond the end of the epoch can be requested by index",
        lambda p: p.random_access and p.fresh_padding,
        _state_laws.beyond_the_end,
    ),
    Law(
        "replay of epochs",
        "batches of any epoch can be requested, also while the sampler is iterated",
        lambda p: p.random_epochs,
        _state_laws.replay_of_epochs,
    ),
    Law(
        "direct access",
        "a batch costs the same anywhere in the epoch",
        lambda p: p.direct_access,
        _state_laws.direct_access,
    ),
)
