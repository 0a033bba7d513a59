"""Worker exit: a worker process of a data loader ends when the training process that it belongs to ends."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from multiprocessing.connection import wait
from multiprocessing.queues import Queue
from typing import Any

from viscy_train.errors import one_line


def exit_with_trainer(worker: int) -> None:
    """Make this worker exit when its training process ends, for whatever reason; a loader's ``worker_init_fn``.

    Parameters
    ----------
    worker : int
        Index of the worker.

    Notes
    -----
    torch's workers poll whether their parent has changed. With a fork server, that check does not help: their parent
    is the server, which does not end before they do. A worker that cannot hand over a batch, as where the shared memory
    is full, would drop it, and the training process would wait for it forever.
    """
    feeders: Any = Queue
    feeders._on_queue_feeder_error = staticmethod(_exit_with_error)
    trainer = multiprocessing.parent_process()
    if trainer is not None:
        threading.Thread(target=_exit_after, args=(trainer.sentinel,), daemon=True).start()


def _exit_with_error(error: Exception, batch: Any) -> None:
    """Say why a batch cannot be handed over, and end this process; the training process then reports a lost worker."""
    text = f"a data worker cannot hand over a batch ({one_line(error)}); is the shared memory full?"
    try:
        print(text, file=sys.stderr, flush=True)
    finally:
        os._exit(1)


def _exit_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
