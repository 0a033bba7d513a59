"""The counter-based RNG: its outputs depend only on their key and look random in every bit."""

import numpy as np
import pytest

from viscy_data._random.hash import below, derive, epoch_key, scramble


def test_outputs_are_the_published_splitmix64_stream():
    # first three outputs of SplitMix64 seeded with 0, as listed in the reference implementation's tests
    outputs = derive(np.zeros(1, np.uint64), np.arange(3))
    assert [f"{output:016x}" for output in outputs.tolist()] == [
        "e220a8397b1dcdaf",
        "6e789e6aa1b965f4",
        "06c45d188009454f",
    ]


def test_an_output_does_not_depend_on_its_neighbors():
    key = epoch_key(3, 4)
    assert derive(key, np.arange(100))[57] == derive(key, 57)[0]


def test_keys_of_different_depth_and_order_give_unrelated_outputs():
    key = epoch_key(0, 0)
    outputs = np.concatenate([derive(key, 1, 2), derive(key, 2, 1), derive(key, 1), derive(key, 2), derive(key, 0, 1)])
    assert len(set(outputs.tolist())) == 5


def test_seed_and_epoch_are_not_interchangeable():
    keys = {epoch_key(seed, epoch)[0] for seed in range(20) for epoch in range(20)}
    assert len(keys) == 400


def test_seeds_of_any_size_give_different_keys():
    assert epoch_key(2**64, 0) != epoch_key(0, 0)


def test_flipping_one_bit_flips_half_of_the_output():
    outputs = derive(epoch_key(1, 1), np.arange(2000))
    flipped = scramble(outputs[:, None] ^ (np.uint64(1) << np.arange(64, dtype=np.uint64)))
    changed_bits = flipped ^ scramble(outputs)[:, None]
    n_changed = np.unpackbits(changed_bits.view(np.uint8).reshape(2000, 64, 8), axis=2).sum(axis=2)
    # a mean of 2000 x 64 sums of 64 fair bits: standard deviation 4 / sqrt(128000) = 0.011; false alarms below 1e-15
    assert n_changed.mean() == pytest.approx(32, abs=0.1)


@pytest.mark.parametrize("bound", [1, 2, 7, 1000, 2**32])
def test_scaled_outputs_fill_their_range(bound):
    values = below(derive(epoch_key(0, 2), np.arange(5000)), bound)
    assert values.max() < bound
    # mean of 5000 uniform draws: 8 standard deviations, false alarms below 1e-14
    assert values.mean() == pytest.approx((bound - 1) / 2, abs=8 * bound / np.sqrt(12 * 5000))
