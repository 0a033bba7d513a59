"""A measurement: one job in a process of its own that runs one thread.

Times are CPU time of the process, user and system, in seconds: what other programs do at the same time changes them
less than the time on the wall.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

from .construction import construction, latency, memory, sorting
from .epochs import epoch
from .jobs import Files, Job
from .opening import building, opening

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_KINDS = {kind.__name__: kind for kind in (epoch, construction, sorting, memory, latency, building, opening)}
# Of a forked process all memory is shared at first and becomes its own when it is written to.
_OF_OWN_MEMORY = {opening.__name__}


def run(job: Job, files: Files) -> dict[str, float]:
    """Measure in a fresh process, forked from one that has only imported modules.

    Parameters
    ----------
    job : Job
        What to measure.
    files : Files
        Where its inputs are.

    Returns
    -------
    dict
        Name and value of each quantity.

    Raises
    ------
    Exception
        As raised by what was measured.
    """
    os.environ.update(_ONE_THREAD)
    context = multiprocessing.get_context("spawn" if job.kind in _OF_OWN_MEMORY else "forkserver")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, context) as process:
        return process.submit(_measure, job, files).result()


def _measure(job: Job, files: Files) -> dict[str, float]:
    return _KINDS[job.kind](job, files)
