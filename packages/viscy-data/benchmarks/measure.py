"""A measurement: one job in its own process with one thread.

Times are CPU seconds of the process, user and system, which depend less on what else the machine runs than wall-clock
time does.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

from .construction import construction, latency, memory, sorting
from .epochs import epoch
from .jobs import Files, Job
from .new_options import new_option
from .opening import building, opening

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_FUNCTIONS = (epoch, construction, sorting, memory, latency, building, opening, new_option)
_KINDS = {function.__name__: function for function in _FUNCTIONS}
# Not forked: all memory of a forked process is shared at first and becomes private when it is written to.
_SPAWNED = {opening.__name__}


def run(job: Job, files: Files) -> dict[str, float]:
    """Measure a job in a new process, forked from one that has only imported modules.

    Parameters
    ----------
    job : Job
        The job to measure.
    files : Files
        The files that it needs.

    Returns
    -------
    dict
        The measured quantities by name.

    Raises
    ------
    Exception
        Whatever the job raises.
    """
    os.environ.update(_ONE_THREAD)
    context = multiprocessing.get_context("spawn" if job.kind in _SPAWNED else "forkserver")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, context) as process:
        return process.submit(_measure, job, files).result()


def _measure(job: Job, files: Files) -> dict[str, float]:
    return _KINDS[job.kind](job, files)
