"""The cache of decoded chunks: what enters, what leaves, and what threads share."""

from concurrent.futures import Future

import numpy as np
import pytest

from viscy_train.loading.cached_chunks import CachedChunks

MANY = 100


class Requests:
    """Makes requests, and counts them."""

    def __init__(self):
        self.made = []

    def find(self, cache, *blocks, size=10, now=False):
        def request(index):
            self.made.append(blocks[index])
            return Future()

        return cache.find(blocks, [size] * len(blocks), [now] * len(blocks), request)


def test_a_block_enters_when_it_is_needed_again_and_is_then_shared():
    cache, requests = CachedChunks(MANY), Requests()
    (first,), (second,), (third,) = (requests.find(cache, 7) for _ in range(3))
    assert (first.pending, first.is_hit) == (None, False)
    assert second.pending is third.pending is not None
    assert (second.is_hit, third.is_hit) == (False, True)
    assert requests.made == [7]
    assert cache.n_bytes == 10


def test_a_block_that_is_not_needed_again_in_time_does_not_enter():
    cache, requests = CachedChunks(MANY), Requests()
    for block in range(11):
        requests.find(cache, block)
    assert requests.find(cache, 0)[0].pending is None
    assert requests.find(cache, 10)[0].pending is not None
    assert requests.made == [10]


def test_the_block_that_was_needed_last_leaves_first():
    cache, requests = CachedChunks(MANY), Requests()
    for block in range(10):
        requests.find(cache, block, now=True)
    requests.find(cache, 0)
    requests.find(cache, 10, now=True)
    assert cache.n_bytes == MANY
    assert [requests.find(cache, block)[0].is_hit for block in (0, 10, 1)] == [True, True, False]


@pytest.mark.parametrize("now", [False, True])
def test_a_block_larger_than_the_cache_never_enters(now):
    cache, requests = CachedChunks(MANY), Requests()
    for _ in range(3):
        (found,) = requests.find(cache, 1, size=MANY + 1, now=now)
        assert not found.is_hit
        assert (found.pending is not None) == now
    assert cache.n_bytes == 0


def test_a_block_that_could_not_be_read_is_requested_again():
    cache, requests = CachedChunks(MANY), Requests()
    (failed,) = requests.find(cache, 3, now=True)
    cache.discard([(3, failed.pending)])
    assert cache.n_bytes == 0
    (again,) = requests.find(cache, 3, now=True)
    cache.discard([(3, failed.pending)])
    assert requests.find(cache, 3)[0].pending is again.pending
    assert requests.made == [3, 3]


@pytest.mark.parametrize("seed", range(3))
def test_bytes_are_counted_exactly(seed):
    rng = np.random.default_rng(seed)
    cache, requests, sizes = CachedChunks(1000), Requests(), rng.integers(1, 300, 20)
    for block in rng.integers(0, 20, 500).tolist():
        requests.find(cache, block, size=int(sizes[block]))
        assert cache.n_bytes == sum(size for _, size in cache._blocks.values()) <= 1000
        assert cache._n_seen == sum(cache._seen.values()) <= 1000
        assert not cache._blocks.keys() & cache._seen.keys()
