"""Distinct seeds and epochs share no batches; keys that collide fail."""

import numpy as np
import pytest

from viscy_sampling_testkit import assert_distinct_keys


class Keyed:
    """Batches from a generator whose key is a function of seed and epoch."""

    def __init__(self, seed, key):
        self.seed, self.key, self.epoch = seed, key, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        rng = np.random.default_rng([word for part in self.key(self.seed, self.epoch) for word in divmod(part, 2**32)])
        for _ in range(10):
            yield rng.permutation(1000)[:10].tolist()


SEEDS, EPOCHS = (0, 1, 2, 256, 65_536, 2**32, 2**63), (0, 1, 2, 100, 256)


def test_distinct_keys_pass():
    assert_distinct_keys(lambda seed: Keyed(seed, lambda s, e: [s, e]), SEEDS, EPOCHS, chance=1e-23)


@pytest.mark.parametrize(
    ("key", "observed"),
    [
        (lambda s, e: [s % 2, e], "seed 0 in epoch 0 and seed 2 in epoch 0 share a batch"),
        (lambda s, e: [s & 0xFFFF, e], "seed 0 in epoch 0 and seed 65536 in epoch 0"),
        (lambda s, e: [s % 2**32, e], "seed 0 in epoch 0 and seed 4294967296 in epoch 0"),
        (lambda s, e: [s + e], "seed 0 in epoch 1 and seed 1 in epoch 0"),
        (lambda s, e: [s, e % 100], "seed 0 in epoch 0 and seed 0 in epoch 100"),
    ],
)
def test_keys_that_collide_fail(key, observed, assertion_fails):
    with assertion_fails("different seeds and epochs must not share a batch", observed, "7 seeds, 5 epochs"):
        assert_distinct_keys(lambda seed: Keyed(seed, key), SEEDS, EPOCHS, chance=1e-23)


def test_small_batches_are_compared_in_runs(assertion_fails):
    class Small(Keyed):
        def __iter__(self):
            rng = np.random.default_rng(self.key(self.seed, self.epoch))
            for _ in range(40):
                yield rng.permutation(20)[:2].tolist()

    arguments = {"seeds": range(20), "chance": 1 / 190, "n_batches": 30}
    assert_distinct_keys(lambda seed: Small(seed, lambda s, e: [s, e]), **arguments)
    with assertion_fails("share 5 successive batches"):
        assert_distinct_keys(lambda seed: Small(seed, lambda s, e: [s % 8, e]), **arguments)
    with pytest.raises(ValueError, match=r"2 batches must be unlikely to coincide, got a probability of 0\.0053 for"):
        assert_distinct_keys(lambda seed: Small(seed, lambda s, e: [s]), range(9), chance=1 / 190, n_batches=2)
