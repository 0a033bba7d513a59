"""Worker exit: a worker process of a data loader ends when the training process that it belongs to ends."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait


def exit_with_trainer(worker: int) -> None:
    """Make this worker exit when its training process ends, for whatever reason; a loader's ``worker_init_fn``.

    Parameters
    ----------
    worker : int
        Index of the worker.

    Notes
    -----
    torch's workers poll whether their parent has changed. With a fork server, that check does not help: their parent
    is the server, which does not end before they do.
    """
    trainer = multiprocessing.parent_process()
    if trainer is not None:
        threading.Thread(target=_exit_after, args=(trainer.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
