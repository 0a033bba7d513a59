"""A fault plan: which fault disturbs a run, at which moment, and on how many ranks the run then resumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from viscy_sampling_testkit.tables._sizes import check_count

FAULTS = MappingProxyType(
    {
        "kill all": "SIGKILL to all processes of the run",
        "kill rank": "SIGKILL to one rank",
        "kill worker": "SIGKILL to one data worker",
        "pause rank": "SIGSTOP to one rank, SIGCONT after a while",
        "pause worker": "SIGSTOP to one data worker, SIGCONT after a while",
        "stop rank": "SIGSTOP to one rank, SIGKILL after a while",
        "stop worker": "SIGSTOP to one data worker, SIGKILL after a while",
        "full disk": "ENOSPC for writes below the run's directory, by the functions of Python",
        "size limit": "EFBIG for writes of ranks beyond a size, to any file, in any language",
        "read error": "EIO for reads below the data folder, by the functions of Python",
        "unreadable data": "files of the data folder that open but cannot be read, in any language",
        "cut checkpoint": "SIGKILL to all processes, then the last checkpoint is truncated",
    }
)
"""What each fault does."""

# Longest time for which a process is stopped, in seconds.
_MAX_PAUSE = 1.0
# A run without a checkpoint has none to cut, so that fault comes later in the run.
_EARLIEST_CUT = 0.3


@dataclass(frozen=True, kw_only=True)
class FaultPlan:
    """A fault, its moment, and the numbers of ranks.

    Parameters
    ----------
    number : int
        Number of the plan.
    fault : str
        One of `FAULTS`.
    moment : float
        When: the fraction of the steps of an undisturbed run that are completed, in [0, 1).
    num_replicas, resume_num_replicas : int
        Number of ranks before and after the fault.
    delay : float
        Time from when that step is seen to be completed until the fault, as a fraction of the duration of a step.
    pause : float
        Seconds for which a process is stopped.
    target : int
        Which rank or worker, modulo their number; for failing writes and reads, how many succeed before.
    cut : float
        Fraction of the checkpoint's bytes that is left, in [0, 1).
    """

    number: int
    fault: str
    moment: float
    num_replicas: int
    resume_num_replicas: int
    delay: float = 0.0
    pause: float = 0.0
    target: int = 0
    cut: float = 0.0

    def __post_init__(self) -> None:
        if self.fault not in FAULTS:
            raise ValueError(f"fault must be one of {', '.join(FAULTS)}, got {self.fault!r}")
        for name in ("moment", "cut"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        for name in ("num_replicas", "resume_num_replicas"):
            check_count(name, getattr(self, name))

    def __str__(self) -> str:
        """Return the plan in one line."""
        ranks = f"{self.num_replicas} then {self.resume_num_replicas} ranks"
        return f"plan {self.number}: {self.fault} after {self.moment:.0%} of the steps, {ranks}"


def plan_faults(
    seed: int, n: int, *, faults: Sequence[str] = tuple(FAULTS), num_replicas: Sequence[int] = (1, 2)
) -> list[FaultPlan]:
    """Plan faults at random moments.

    Parameters
    ----------
    seed : int
        Plans with the same seed are equal. Plan `i` does not depend on `n`.
    n : int
        Number of plans.
    faults : sequence of str, default all
        Faults to choose from, such as `TrainingCommand.faults`. They take turns in random order.
    num_replicas : sequence of int, default (1, 2)
        Numbers of ranks to choose from, before and after the fault. In a round of all pairs, every fault meets every
        pair once.

    Returns
    -------
    list of FaultPlan
        The plans.

    Raises
    ------
    ValueError
        If there is nothing to choose from, a fault is unknown, or a number is too small.

    Examples
    --------
    >>> [plan.fault for plan in plan_faults(0, 4, faults=["kill all", "full disk"])]
    ['kill all', 'full disk', 'full disk', 'kill all']
    """
    check_count("n", n, at_least=0)
    if len(faults) == 0 or len(num_replicas) == 0:
        raise ValueError("faults and num_replicas must not be empty; give at least one of each")
    return [_plan(seed, number, list(faults), list(num_replicas)) for number in range(n)]


def _plan(seed: int, number: int, faults: list[str], num_replicas: list[int]) -> FaultPlan:
    round_, turn = divmod(number, len(faults))
    fault = int(np.random.default_rng([seed, 0, round_]).permutation(len(faults))[turn])
    # Each fault has its own random order of the pairs of numbers of ranks.
    pairs = [(before, after) for before in num_replicas for after in num_replicas]
    pair_round, pair_turn = divmod(round_, len(pairs))
    pair = np.random.default_rng([seed, 1, pair_round, fault]).permutation(len(pairs))[pair_turn]
    rng = np.random.default_rng([seed, 2, number])
    earliest = _EARLIEST_CUT if faults[fault] == "cut checkpoint" else 0.0
    return FaultPlan(
        number=number,
        fault=faults[fault],
        moment=round(float(rng.uniform(earliest, 1.0)), 4) % 1.0,
        num_replicas=pairs[pair][0],
        resume_num_replicas=pairs[pair][1],
        delay=round(float(rng.uniform(0, 1)), 4),
        pause=round(float(rng.uniform(0.1, _MAX_PAUSE)), 4),
        target=int(rng.integers(0, 6)),
        cut=round(float(rng.uniform(0, 1)), 4) % 1.0,
    )
