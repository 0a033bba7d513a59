"""Workers: processes that read ahead, and end with the one that they read for."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait


def end_with_trainer(worker: int) -> None:
    """End this process when the one that it reads for is gone, however it went; a loader's ``worker_init_fn``.

    Parameters
    ----------
    worker : int
        Its number.

    Notes
    -----
    torch's workers look whether they have another parent. Under a fork server they do not: their parent is the server,
    which lives as long as they do.
    """
    trainer = multiprocessing.parent_process()
    if trainer is not None:
        threading.Thread(target=_end_with, args=(trainer.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
