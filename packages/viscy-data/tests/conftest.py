"""Fixtures that several test modules use; those that are functions are named for what they do."""

import itertools
import logging

import pytest

from viscy_data import FlexibleBatchSampler


@pytest.fixture
def draw_batches():
    """Draw the batches of the first epoch, or `n_batches` of as many epochs as needed."""

    def draw_batches(table, batch_size=32, n_batches=None, **options):
        sampler = FlexibleBatchSampler(table, batch_size, **options)
        batches = itertools.chain.from_iterable(sampler for _ in itertools.count())
        return list(itertools.islice(batches, n_batches or len(sampler)))

    return draw_batches


@pytest.fixture
def collect_warnings(caplog):
    """Return the warnings that are logged while a sampler is constructed with the given arguments."""

    def collect_warnings(*args, **options):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="viscy_data.sampler"):
            FlexibleBatchSampler(*args, **options)
        return caplog.messages

    return collect_warnings
