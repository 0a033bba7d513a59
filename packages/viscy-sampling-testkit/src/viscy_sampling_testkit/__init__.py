"""What it takes to show that a batch sampler is right: tables, ranks, and assertions about batches."""

from viscy_sampling_testkit.anchors import make_anchors
from viscy_sampling_testkit.awkward import AWKWARD_TABLES
from viscy_sampling_testkit.columns import (
    make_arrow_dtypes,
    make_colliding_keys,
    make_nullable_dtypes,
    make_odd_index,
    make_unused_levels,
)
from viscy_sampling_testkit.composition import make_balanced, make_missing_conditions, make_skewed, make_tiny_groups
from viscy_sampling_testkit.exact import (
    assert_dealt_evenly,
    assert_distinct,
    assert_in_window,
    assert_leak,
    assert_one_group,
    assert_positions,
    assert_rounded,
    assert_shares,
)
from viscy_sampling_testkit.loaders import PositionLoader
from viscy_sampling_testkit.protocol import ResumableBatchSampler
from viscy_sampling_testkit.ranks import interleave, simulate_ranks, spawn_ranks
from viscy_sampling_testkit.sequences import (
    assert_disjoint_ranks,
    assert_equal_steps,
    assert_ranks_interleave,
    assert_resumes,
    assert_same_batches,
)
from viscy_sampling_testkit.statistical import (
    assert_exchangeable_slots,
    assert_mean_counts,
    assert_uniform,
    assert_unrelated,
)
from viscy_sampling_testkit.times import (
    make_bursts,
    make_continuous_times,
    make_duplicate_times,
    make_irregular_times,
)
from viscy_sampling_testkit.training import Life, simulate_training, spawn_training

__all__ = [
    "AWKWARD_TABLES",
    "Life",
    "PositionLoader",
    "ResumableBatchSampler",
    "assert_dealt_evenly",
    "assert_disjoint_ranks",
    "assert_distinct",
    "assert_equal_steps",
    "assert_exchangeable_slots",
    "assert_in_window",
    "assert_leak",
    "assert_mean_counts",
    "assert_one_group",
    "assert_positions",
    "assert_ranks_interleave",
    "assert_resumes",
    "assert_rounded",
    "assert_same_batches",
    "assert_shares",
    "assert_uniform",
    "assert_unrelated",
    "interleave",
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
    "simulate_ranks",
    "simulate_training",
    "spawn_ranks",
    "spawn_training",
]
