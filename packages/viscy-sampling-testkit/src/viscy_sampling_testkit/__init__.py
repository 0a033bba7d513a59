"""Tests for batch samplers: synthetic tables, simulated ranks, assertions, and one call that runs all of them."""

from importlib.metadata import version
from typing import TYPE_CHECKING

from viscy_sampling_testkit.assertions.beyond import assert_fresh_padding, assert_replays_beyond, assert_replays_epochs
from viscy_sampling_testkit.assertions.choice import (
    ChoiceTargets,
    assert_choice_unbiased,
    assert_chosen_in_proportion,
    assert_conditions_chosen,
    assert_pairs_chosen,
    choose_targets,
)
from viscy_sampling_testkit.assertions.cost import assert_rank_cost
from viscy_sampling_testkit.assertions.distinct_values import assert_distinct_values
from viscy_sampling_testkit.assertions.epochs import (
    assert_epoch_of_first_draw,
    assert_epochs_advance,
    assert_set_epoch_keeps_state,
)
from viscy_sampling_testkit.assertions.exact import (
    assert_batch_sizes,
    assert_in_window,
    assert_leak,
    assert_one_group,
    assert_positions,
    assert_rounded,
    assert_shares,
)
from viscy_sampling_testkit.assertions.identity import assert_batches_stay, assert_copies, assert_leaves_no_trace
from viscy_sampling_testkit.assertions.inclusion import assert_block_inclusion, assert_row_inclusion
from viscy_sampling_testkit.assertions.independence import assert_independent_batches
from viscy_sampling_testkit.assertions.keys import assert_distinct_keys
from viscy_sampling_testkit.assertions.leaks import assert_uniform_leak
from viscy_sampling_testkit.assertions.locality import (
    assert_run_inclusion,
    assert_run_places,
    assert_runs,
    assert_same_counts,
)
from viscy_sampling_testkit.assertions.neighbors import assert_independent_rows
from viscy_sampling_testkit.assertions.order import assert_random_order, assert_unbiased_rounding
from viscy_sampling_testkit.assertions.pools import (
    assert_distinct,
    assert_drawn_evenly,
    assert_drawn_in_rounds,
    assert_repeats_evenly,
)
from viscy_sampling_testkit.assertions.power import (
    detectable_categories,
    detectable_coincidences,
    detectable_leak,
    detectable_means,
    detectable_position,
    detectable_row_ratios,
    detectable_share,
    detectable_window_shift,
)
from viscy_sampling_testkit.assertions.processes import assert_same_in_other_processes
from viscy_sampling_testkit.assertions.reload import (
    assert_direct_access,
    assert_plain_state,
    assert_refuses_state,
    assert_reloads,
    assert_resumes_repeatedly,
)
from viscy_sampling_testkit.assertions.rounds import assert_round_covers, assert_short_epochs
from viscy_sampling_testkit.assertions.sequences import (
    assert_chooses_epochs,
    assert_complete_ranks,
    assert_deterministic,
    assert_digest,
    assert_disjoint_ranks,
    assert_equal_steps,
    assert_length,
    assert_ranks_interleave,
    assert_same_batches,
    digest_of,
)
from viscy_sampling_testkit.assertions.state import (
    assert_length_stays,
    assert_replays,
    assert_resumes,
    assert_resumes_elastically,
)
from viscy_sampling_testkit.assertions.statistical import (
    assert_exchangeable_slots,
    assert_mean_counts,
    assert_slot_classes,
    assert_uniform,
    assert_unrelated,
)
from viscy_sampling_testkit.assertions.steps import (
    assert_slices_alike,
    assert_slices_join,
    assert_split_resumes,
    join_slices,
)
from viscy_sampling_testkit.assertions.threads import assert_same_in_other_threads
from viscy_sampling_testkit.assertions.windows import assert_focal_turns, assert_window_shares, make_window
from viscy_sampling_testkit.conformance.check import check_batch_sampler
from viscy_sampling_testkit.conformance.promises import Promises
from viscy_sampling_testkit.conformance.report import Report, Verdict
from viscy_sampling_testkit.conformance.trial import Setting
from viscy_sampling_testkit.faults.command import Launch, TrainedBatch, TrainingCommand
from viscy_sampling_testkit.faults.plan import FAULTS, FaultPlan, plan_faults
from viscy_sampling_testkit.faults.report import FaultReport, FaultVerdict
from viscy_sampling_testkit.faults.run import run_faults
from viscy_sampling_testkit.simulate.loaders import PositionLoader
from viscy_sampling_testkit.simulate.protocol import ResumableBatchSampler
from viscy_sampling_testkit.simulate.ranks import interleave, simulate_ranks, spawn_ranks
from viscy_sampling_testkit.simulate.training import Attempt, simulate_training, spawn_training
from viscy_sampling_testkit.tables.anchors import make_anchors
from viscy_sampling_testkit.tables.awkward import AWKWARD_TABLES
from viscy_sampling_testkit.tables.columns import (
    make_arrow_dtypes,
    make_colliding_keys,
    make_nullable_dtypes,
    make_odd_index,
    make_unused_levels,
)
from viscy_sampling_testkit.tables.composition import (
    make_balanced,
    make_missing_conditions,
    make_skewed,
    make_tiny_groups,
)
from viscy_sampling_testkit.tables.times import (
    make_bursts,
    make_continuous_times,
    make_duplicate_times,
    make_irregular_times,
)

if TYPE_CHECKING:
    __version__: str

# Former names, kept so that existing imports work.
Life = Attempt
assert_dealt_evenly = assert_drawn_evenly
detectable_place = detectable_position

__all__ = [
    "AWKWARD_TABLES",
    "FAULTS",
    "Attempt",
    "ChoiceTargets",
    "FaultPlan",
    "FaultReport",
    "FaultVerdict",
    "Launch",
    "PositionLoader",
    "Promises",
    "Report",
    "ResumableBatchSampler",
    "Setting",
    "TrainedBatch",
    "TrainingCommand",
    "Verdict",
    "assert_batch_sizes",
    "assert_batches_stay",
    "assert_block_inclusion",
    "assert_choice_unbiased",
    "assert_chooses_epochs",
    "assert_chosen_in_proportion",
    "assert_complete_ranks",
    "assert_conditions_chosen",
    "assert_copies",
    "assert_deterministic",
    "assert_digest",
    "assert_direct_access",
    "assert_disjoint_ranks",
    "assert_distinct",
    "assert_distinct_keys",
    "assert_distinct_values",
    "assert_drawn_evenly",
    "assert_drawn_in_rounds",
    "assert_epoch_of_first_draw",
    "assert_epochs_advance",
    "assert_equal_steps",
    "assert_exchangeable_slots",
    "assert_focal_turns",
    "assert_fresh_padding",
    "assert_in_window",
    "assert_independent_batches",
    "assert_independent_rows",
    "assert_leak",
    "assert_leaves_no_trace",
    "assert_length",
    "assert_length_stays",
    "assert_mean_counts",
    "assert_one_group",
    "assert_pairs_chosen",
    "assert_plain_state",
    "assert_positions",
    "assert_random_order",
    "assert_rank_cost",
    "assert_ranks_interleave",
    "assert_refuses_state",
    "assert_reloads",
    "assert_repeats_evenly",
    "assert_replays",
    "assert_replays_beyond",
    "assert_replays_epochs",
    "assert_resumes",
    "assert_resumes_elastically",
    "assert_resumes_repeatedly",
    "assert_round_covers",
    "assert_rounded",
    "assert_row_inclusion",
    "assert_run_inclusion",
    "assert_run_places",
    "assert_runs",
    "assert_same_batches",
    "assert_same_counts",
    "assert_same_in_other_processes",
    "assert_same_in_other_threads",
    "assert_set_epoch_keeps_state",
    "assert_shares",
    "assert_short_epochs",
    "assert_slices_alike",
    "assert_slices_join",
    "assert_slot_classes",
    "assert_split_resumes",
    "assert_unbiased_rounding",
    "assert_uniform",
    "assert_uniform_leak",
    "assert_unrelated",
    "assert_window_shares",
    "check_batch_sampler",
    "choose_targets",
    "detectable_categories",
    "detectable_coincidences",
    "detectable_leak",
    "detectable_means",
    "detectable_position",
    "detectable_row_ratios",
    "detectable_share",
    "detectable_window_shift",
    "digest_of",
    "interleave",
    "join_slices",
    "make_anchors",
    "make_arrow_dtypes",
    "make_balanced",
    "make_bursts",
    "make_colliding_keys",
    "make_continuous_times",
    "make_duplicate_times",
    "make_irregular_times",
    "make_missing_conditions",
    "make_nullable_dtypes",
    "make_odd_index",
    "make_skewed",
    "make_tiny_groups",
    "make_unused_levels",
    "make_window",
    "plan_faults",
    "run_faults",
    "simulate_ranks",
    "simulate_training",
    "spawn_ranks",
    "spawn_training",
]


def __getattr__(name: str) -> str:
    """Look up the version."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return version("viscy-sampling-testkit")
