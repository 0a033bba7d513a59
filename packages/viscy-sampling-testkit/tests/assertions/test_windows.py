"""Batches drawn by the rule of a temporal window pass; another width, share or choice of focal times fails."""

import numpy as np
import pytest

from viscy_sampling_testkit import assert_focal_turns, assert_window_shares, detectable_window_shift, make_window
from viscy_sampling_testkit.assertions.windows import WindowedBatches, most_within

N_TIMES, ROWS = 20, 15
TIMES = np.repeat(np.arange(N_TIMES) * 0.5, ROWS)
WINDOW = make_window(TIMES, hours=1.0, global_fraction=0.25)


def draw_epoch(rng, low=-1.0, high=1.0, in_window=9, focal=None, size=12):
    """Return a batch for each time, with slots from the window [focal + low, focal + high] and from all times."""
    times = rng.permutation(N_TIMES) * 0.5 if focal is None else focal
    epoch = []
    for time in times:
        near = np.flatnonzero((time + low <= TIMES) & (time + high >= TIMES))
        first = rng.choice(near, in_window, replace=False)
        rest = rng.choice(np.setdiff1d(np.arange(len(TIMES)), first), size - in_window, replace=False)
        epoch.append(rng.permutation(np.r_[first, rest]).tolist())
    return epoch


def sample(seed=0, n_epochs=20, **options):
    rng = np.random.default_rng(seed)
    return [draw_epoch(rng, **options) for _ in range(n_epochs)]


def test_batches_by_the_rule_pass():
    for seed in range(3):
        epochs = sample(seed)
        for epoch in epochs:
            assert_focal_turns(epoch, WINDOW)
        assert_window_shares([batch for epoch in epochs for batch in epoch], WINDOW)


@pytest.mark.parametrize(
    "options",
    [
        {"low": -0.5, "high": 0.5},
        {"high": 0.5},
        {"low": 0.0},
        {"low": -1.5, "high": 1.5},
        {"in_window": 12},
        {"in_window": 10},
        {"in_window": 8},
    ],
    ids=str,
)
def test_another_width_or_share_fails(options, assertion_fails):
    batches = [batch for epoch in sample(**options) for batch in epoch]
    with assertion_fails("must be that of the temporal window", "observed: mean", "expected: mean", "simulated"):
        assert_window_shares(batches, WINDOW)


def test_focal_times_that_do_not_take_turns_fail(assertion_fails):
    rng = np.random.default_rng(0)
    for focal in (np.full(N_TIMES, 4.0), np.repeat(np.arange(0, N_TIMES, 2) * 0.5, 2), np.arange(10).repeat(2) * 0.5):
        with assertion_fails("times of a group must take turns", "no such assignment", "each time 1 times", "20 times"):
            assert_focal_turns(draw_epoch(rng, focal=focal), WINDOW)


def test_times_that_are_seldom_focal_fail_although_they_take_turns(assertion_fails):
    rng = np.random.default_rng(0)
    epochs = [draw_epoch(rng, focal=rng.permutation(10) * 0.5) for _ in range(40)]
    for epoch in epochs:
        assert_focal_turns(epoch, WINDOW)
    with assertion_fails("must be"):
        assert_window_shares([batch for epoch in epochs for batch in epoch], WINDOW)


def test_batch_without_a_focal_time_fails(assertion_fails):
    scattered = list(range(0, len(TIMES), ROWS))[:12]
    with assertion_fails(
        "must have a focal time with enough slots", "no possible focal time", "first offending batch: 1"
    ):
        assert_focal_turns([list(range(12)), scattered], WINDOW)


def test_times_of_each_group_take_turns_on_their_own(assertion_fails):
    groups = np.repeat(["early", "late"], len(TIMES) // 2)
    window = make_window(TIMES, hours=0, global_fraction=0, groups=groups)
    batches = [[ROWS * time, ROWS * time + 1] for time in range(N_TIMES)]
    assert_focal_turns(batches, window)
    assert_focal_turns(batches[:10] * 2 + batches[10:], window)
    with assertion_fails("group 'late', 10 times"):
        assert_focal_turns(batches[:10] + batches[10:15] * 2, window)


def test_condition_without_rows_in_the_window_is_drawn_from_all_times(assertion_fails):
    conditions = np.where(TIMES.max() == TIMES, "rare", "frequent")
    shares = {"rare": 0.5, "frequent": 0.5}
    window = make_window(TIMES, 0.5, 0.0, conditions=conditions, condition_shares=shares)
    rare = np.flatnonzero(conditions == "rare")[:2].tolist()
    assert_focal_turns([[0, 1, *rare]], window)
    with assertion_fails("enough slots of each condition"):
        assert_focal_turns([[0, ROWS * 10, *rare]], window)


def test_stated_shift_is_detected():
    """One batch in ten has more slots in its window, so that the mean shifts by the stated number of slots."""
    clean = [batch for epoch in sample(n_epochs=20) for batch in epoch]
    deviation = float(most_within(WindowedBatches(clean, WINDOW), 2.0).std())
    shift = detectable_window_shift(len(clean), deviation)
    missed = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        epochs = [draw_epoch(rng, in_window=9 + (rng.random() < shift / 0.7)) for _ in range(20)]
        try:
            assert_window_shares([batch for epoch in epochs for batch in epoch], WINDOW)
            missed += 1
        except AssertionError:
            pass
    assert shift < 0.7
    assert missed <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"global_fraction": 1.5}, r"global_fraction must be in \[0, 1\], got 1.5"),
        ({"leaky": 0.5}, r"leaky must be in \[0, 0.499\], got 0.5"),
        ({"hours": -1}, "hours must be at least 0, got -1"),
    ],
)
def test_invalid_window_raises(options, message):
    with pytest.raises(ValueError, match=message):
        make_window(**{"times": TIMES, "hours": 1.0, "global_fraction": 0.25, **options})
