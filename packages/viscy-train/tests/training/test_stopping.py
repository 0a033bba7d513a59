"""Signals are handled by the run while it trains only: a report that is being written ends with its process."""

import os
import signal

import pytest

from viscy_train.cli import main
from viscy_train.exit_codes import EXIT_STOPPED
from viscy_train.model.module import ContrastiveModule

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@pytest.mark.parametrize("is_stopped", [False, True])
def test_after_training_signals_do_what_they_did_before(make_project, tmp_path, monkeypatch, is_stopped):
    config = make_project(tmp_path, **{"trainer.max_epochs": 1, "trainer.limit_train_batches": 2})
    handlers = [signal.getsignal(number) for number in SIGNALS]
    during = []

    def look(*_):
        during.append([signal.getsignal(number) for number in SIGNALS])
        if is_stopped:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ContrastiveModule, "on_train_batch_start", look)
    assert main(["fit", "--config", str(config)]) == (EXIT_STOPPED if is_stopped else 0)
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
    assert during[0] != handlers
