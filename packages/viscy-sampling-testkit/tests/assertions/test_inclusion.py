"""Rows that are drawn as often as expected pass; a row that is drawn too often or too rarely fails."""

import numpy as np
import pytest

from viscy_sampling_testkit import assert_block_inclusion, assert_row_inclusion

# At the default false-alarm rate of 1e-6, these tests fail by chance in one of about two thousand runs.
SEEDS = range(200)
N, SIZE = 240, 12
STRATA = np.array(["a"] * 60 + ["b"] * 180)


def shuffled(seed, n_epochs=60):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(N).reshape(-1, SIZE) for _ in range(n_epochs)])


def independent(seed, n_batches=1200, weights=None, replace=True):
    rng = np.random.default_rng(seed)
    weights = np.ones(N) if weights is None else weights
    return [rng.choice(N, SIZE, replace, weights / weights.sum()) for _ in range(n_batches)]


def test_permutations_and_draws_with_and_without_replacement_pass():
    for seed in SEEDS:
        assert_row_inclusion(shuffled(seed, 10), ["all"] * N)
        assert_row_inclusion(independent(seed, 100), STRATA)
    for seed in SEEDS[:20]:
        assert_row_inclusion(independent(seed, 300, replace=False), STRATA)


def test_strata_can_have_other_shares_than_their_rows(assertion_fails):
    weights = np.where(STRATA == "a", 5.0, 1.0)
    for seed in SEEDS[:50]:
        batches = independent(seed, 200, weights)
        assert_row_inclusion(batches, STRATA)
        assert_row_inclusion(batches, expected=SIZE * weights / weights.sum())
    with assertion_fails("each row must be drawn", "expected: 60 times"):
        assert_row_inclusion(independent(0, 1200, weights), ["all"] * N)


def test_row_that_is_never_drawn_fails(assertion_fails):
    batches = [[row for row in batch if row != 77] for batch in shuffled(0, 30)]
    with assertion_fails(
        "observed: position 77 0 times",
        "expected: 29.88 times",
        "statistic: kl_div = 29.88",
        r"bound: 19.99 \(Chernoff, 240 rows\)",
        "n: 600 batches, 7170 slots",
        "seed: 5",
        "p value: .* less than the false-alarm rate 1e-06",
    ):
        assert_row_inclusion(batches, ["all"] * N, seed=5)


def test_row_that_is_drawn_twice_as_often_fails(assertion_fails):
    weights = np.where(np.arange(N) == 3, 2.0, 1.0)
    with assertion_fails("observed: position 3 "):
        assert_row_inclusion(independent(0, 2400, weights), STRATA)


def test_row_with_expectation_zero_must_not_be_drawn(assertion_fails):
    due = np.where(np.arange(N) < 120, SIZE / 120, 0)
    assert_row_inclusion([np.arange(12)], expected=due)
    with assertion_fails("position 239 1 times", "expected: 0 times", "kl_div = inf"):
        assert_row_inclusion([np.r_[np.arange(11), 239]], expected=due)


@pytest.mark.parametrize(("options", "got"), [({}, "neither"), ({"strata": STRATA, "expected": np.ones(N)}, "both")])
def test_exactly_one_of_strata_and_expected_must_be_given(options, got):
    with pytest.raises(ValueError, match=f"exactly one of strata and expected must be given, got {got}"):
        assert_row_inclusion([[0]], **options)


def draws(seed, weight, n=2000):
    p = weight / weight.sum()
    return np.random.default_rng(seed).choice(len(p), (n, 10), p=p).tolist()


def test_rows_that_are_drawn_equally_often_pass_in_blocks():
    for seed in range(100):
        assert_block_inclusion(draws(seed, np.ones(200)), ["a"] * 100 + ["b"] * 100)


@pytest.mark.parametrize(
    ("weight", "observed"),
    [
        (np.r_[np.full(100, 1.15), np.ones(100)], "rows of block"),
        (np.resize([1.12, 1.0], 200), "rows of number modulo 2"),
        (np.resize([1.15, 1.0, 1.0], 200), "rows of number modulo 3"),
    ],
)
def test_rows_that_are_drawn_a_little_more_often_fail_in_blocks(weight, observed, assertion_fails):
    batches = draws(0, weight)
    assert_row_inclusion(batches, ["all"] * 200)
    with assertion_fails("rows must be drawn equally often, whatever their number", observed):
        assert_block_inclusion(batches, ["all"] * 200)
