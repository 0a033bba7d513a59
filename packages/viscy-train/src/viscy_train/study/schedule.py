"""Schedule: the trials of a study, run on several processes or one after the other, and continued where they ended."""

from __future__ import annotations

import os
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING

from viscy_train.console import say
from viscy_train.process_pool import process_pool
from viscy_train.study.cases import make_files
from viscy_train.wording import count

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from concurrent.futures import Executor

    from threadpoolctl import threadpool_limits

    from viscy_train.study.cases import Case
    from viscy_train.study.opened_case import OpenedCase
    from viscy_train.study.study_folder import StudyFolder
    from viscy_train.study.trial import Result, Trial

_LOG_INTERVAL = 10
# Of a long study, a line each tenth of the time so far.
_LOG_SHARE = 0.1


def run_study(
    trials: Sequence[Trial],
    folder: StudyFolder,
    *,
    processes: int = 1,
    accelerator: str = "cpu",
    command: str = "study",
) -> None:
    """Run those trials of a study that are not finished, and say how many are.

    Parameters
    ----------
    trials : sequence of Trial
        The trials. Those of a case should follow each other.
    folder : StudyFolder
        Where finished trials are; each is added as soon as it is finished.
    processes : int, default 1
        Number of processes, each with one thread. With 1, trials run in this process one after the other.
    accelerator : str, default "cpu"
        Where to train, as Lightning names it.
    command : str, default "study"
        Name of the command, for an error message.

    Raises
    ------
    UserError
        If a case or an arm is invalid, or a process was killed; finished trials stay.
    """
    missing = [trial for trial in trials if trial not in folder]
    progress = _Progress(len(trials), len(missing))
    with _results(missing, min(processes, len(missing)), accelerator, command) as results:
        for result in results:
            folder.add(result)
            progress.add()


def count_processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Progress:
    """Says how many trials are finished, and when the others will be."""

    def __init__(self, n_trials: int, n_missing: int) -> None:
        self._n_trials, self._n_missing, self._n_run = n_trials, n_missing, 0
        self._start = self._last = monotonic()
        if n_missing < n_trials:
            say(f"{n_trials - n_missing:,} of {count(n_trials, 'run')} were finished before; {n_missing:,} are missing")

    def add(self) -> None:
        self._n_run += 1
        now, left = monotonic(), self._n_missing - self._n_run
        if left and now - self._last < max(_LOG_INTERVAL, (now - self._start) * _LOG_SHARE):
            return
        self._last = now
        seconds = (now - self._start) / self._n_run * left
        done = f"{self._n_trials - left:,} of {count(self._n_trials, 'run')} finished"
        say(f"{done}; about {_duration(seconds)} left" if left else done)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


@contextmanager
def _results(trials: Sequence[Trial], processes: int, accelerator: str, command: str) -> Generator[Iterator[Result]]:
    """Yield the results of trials, as they finish."""
    if processes <= 1:
        with _one_thread():
            yield (_run(trial, accelerator) for trial in trials)
        _opened.cache_clear()
        return
    again = ", which runs what is missing"
    with process_pool(processes, command, again=again) as pool:
        yield _results_of(pool, trials, accelerator)


def _results_of(executor: Executor, trials: Sequence[Trial], accelerator: str) -> Iterator[Result]:
    """Yield results as they finish; two processes never write the files of the same case."""
    unmade = {trial.case.config: trial.case for trial in trials if trial.case.make is not None}
    makes: dict[Future, Case] = {executor.submit(_make_in_process, case): case for case in unmade.values()}
    pending: set[Future] = set(makes)
    pending |= {
        executor.submit(_run_in_process, trial, accelerator) for trial in trials if trial.case.config not in unmade
    }
    while pending:
        done, pending = wait_for(pending, return_when=FIRST_COMPLETED)
        for future in done:
            if (case := makes.get(future)) is None:
                yield future.result()
                continue
            future.result()
            pending |= {
                executor.submit(_run_in_process, one, accelerator) for one in trials if one.case.config == case.config
            }


def _run(trial: Trial, accelerator: str) -> Result:
    from viscy_train.study.run_trial import run_trial

    return run_trial(_opened(trial.case), trial.arm, trial.seed, trial.n_steps, accelerator)


@lru_cache(maxsize=1)
def _opened(case: Case) -> OpenedCase:
    from viscy_train.study.opened_case import OpenedCase

    return OpenedCase(case)


@contextmanager
def _one_thread() -> Generator[None]:
    """Compute with one thread, because the rounding of sums depends on their number."""
    import torch

    n_threads = torch.get_num_threads()
    with _limit_threads():
        try:
            yield
        finally:
            torch.set_num_threads(n_threads)


def _limit_threads() -> threadpool_limits:
    """Limit all libraries that compute to one thread."""
    import sklearn.decomposition  # noqa: F401 (loads libraries with threads)
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    return threadpool_limits(1)


def _make_in_process(case: Case) -> None:
    """Write the files of a case, without waiting for torch."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        make_files(case)


def _run_in_process(trial: Trial, accelerator: str) -> Result:
    _limit_threads()
    return _run(trial, accelerator)
