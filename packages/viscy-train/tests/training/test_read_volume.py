"""Tests of the volume of what a training step reads."""

from types import SimpleNamespace

import numpy as np
import pytest

from viscy_train.loading.crop_source import READS
from viscy_train.run.metrics_csv import CACHE_HITS, DECODED_MB, USED_MB
from viscy_train.training.read_volume import ReadVolume


class Log:
    """A logger that keeps what it gets."""

    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step):
        self.rows.append((step, metrics))


def batch_of(process, n_crops, n_chunks, n_hits, decoded_mb, used_mb):
    """Return a batch that a process has read, with what it has read in all."""
    numbers = [process, n_crops, n_chunks, n_hits, n_chunks - n_hits, decoded_mb * 1e6, used_mb * 1e6]
    return {READS: np.array(numbers, dtype=np.int64)}


def train(batches, *, every=1, accumulate=1, rank=0, volume=None):
    """Pass batches to the callback as a trainer does; return the callback and the rows of the log."""
    log, volume = Log(), ReadVolume() if volume is None else volume
    for index, batch in enumerate(batches):
        trainer = SimpleNamespace(
            global_step=index // accumulate,
            is_global_zero=rank == 0,
            loggers=[log],
            log_every_n_steps=every,
            accumulate_grad_batches=accumulate,
            is_last_batch=False,
        )
        volume.on_train_batch_start(trainer, None, batch, index)
        volume.on_train_batch_end(trainer, None, None, batch, index)
    return volume, log.rows


def test_a_step_counts_what_was_read_since_the_batch_before():
    volume, rows = train([batch_of(1, 4, 8, 2, 40, 1), batch_of(1, 8, 12, 5, 60, 2)])
    assert [step for step, _ in rows] == [0, 1]
    assert rows[0][1] == {DECODED_MB: 40, USED_MB: 1, CACHE_HITS: 0.25}
    assert rows[1][1] == {DECODED_MB: 20, USED_MB: 1, CACHE_HITS: 0.75}
    assert volume.sentence == "30 MB decoded a step for 1 MB of crops"


def test_crops_of_chunks_that_were_decoded_before_are_not_a_share_of_what_is_decoded():
    volume, _ = train([batch_of(1, 4, 8, 7, 0.5, 1), batch_of(1, 8, 16, 15, 0.5, 2)])
    assert volume.sentence == "0.25 MB decoded a step for 1 MB of crops"


def test_processes_are_distinguished():
    _, rows = train([batch_of(1, 4, 8, 0, 40, 1), batch_of(2, 4, 8, 0, 10, 1), batch_of(1, 8, 16, 0, 70, 2)])
    assert [metrics[DECODED_MB] for _, metrics in rows] == [40, 10, 30]


def test_a_batch_that_another_thread_began_earlier_counts_once():
    _, rows = train([batch_of(1, 8, 16, 0, 80, 2), batch_of(1, 4, 8, 0, 40, 1), batch_of(1, 12, 24, 0, 90, 3)])
    assert [metrics[DECODED_MB] for _, metrics in rows] == [80, 0, 10]


def test_steps_between_two_rows_of_the_log_share_it():
    batches = [batch_of(1, 4 * n, 8 * n, 0, 10 * n, n) for n in range(1, 5)]
    assert train(batches, every=2)[1] == [(step, {DECODED_MB: 10, USED_MB: 1, CACHE_HITS: 0}) for step in (1, 3)]
    assert [metrics[DECODED_MB] for _, metrics in train(batches, accumulate=2)[1]] == [20, 20]


def test_what_a_validation_reads_is_left_out():
    volume, _ = train([batch_of(1, 4, 8, 0, 40, 1)])
    volume.on_validation_batch_end(None, None, None, batch_of(1, 8, 16, 0, 90, 2), 0)
    _, rows = train([batch_of(1, 12, 24, 0, 95, 3)], volume=volume)
    assert rows[0][1][DECODED_MB] == pytest.approx(5)


def test_only_rank_0_logs_and_batches_may_lack_counts():
    assert train([batch_of(1, 4, 8, 0, 40, 1)], rank=1)[1] == []
    volume, rows = train([{}])
    assert rows == []
    assert volume.sentence is None
