"""Batches do not depend on the thread that draws them."""

import threading

from viscy_sampling_testkit import assert_same_in_other_threads


class Counts:
    """One batch an epoch, which holds the number of the epoch; `key` names whose epochs are counted."""

    def __init__(self, key=lambda: None, fails=False):
        self.key, self.fails, self.epochs = key, fails, {}

    def __iter__(self):
        if self.fails and threading.current_thread() is not threading.main_thread():
            raise RuntimeError("not here")
        self.epochs[self.key()] = self.epochs.get(self.key(), 0) + 1
        yield [self.epochs[self.key()]]


def test_sampler_that_ignores_threads_passes():
    assert_same_in_other_threads(Counts)


def test_epochs_that_each_thread_counts_fail(assertion_fails):
    with assertion_fails("epoch 1", r"observed: \[1\]", r"expected: \[2\]"):
        assert_same_in_other_threads(lambda: Counts(threading.current_thread))


def test_exception_in_another_thread_fails(assertion_fails):
    with assertion_fails("must not raise in another thread", "RuntimeError: not here"):
        assert_same_in_other_threads(lambda: Counts(fails=True))
