"""What it takes to show that a batch sampler is right: tables, ranks, and assertions about batches."""

from viscy_sampling_testkit.anchors import make_anchors
from viscy_sampling_testkit.awkward import AWKWARD_TABLES
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

__all__ = [
    "AWKWARD_TABLES",
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
    "simulate_ranks",
    "spawn_ranks",
]
