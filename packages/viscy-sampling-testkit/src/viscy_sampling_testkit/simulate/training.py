"""A training run: a sequence of attempts, each stopped or killed and then resumed on any number of ranks."""

from __future__ import annotations

import json
import os
import pickle
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from viscy_sampling_testkit.simulate._checkpoint import Checkpoint, StateFormat, atomic_write, loads, read_checkpoint
from viscy_sampling_testkit.simulate._loop import AttemptOptions, TrainingLoop, open_ranks
from viscy_sampling_testkit.simulate._process import load_function
from viscy_sampling_testkit.simulate._supervisor import Supervisor, locate, make_payload
from viscy_sampling_testkit.simulate.protocol import ResumableBatchSampler
from viscy_sampling_testkit.tables._sizes import check_count

Stops = Sequence[tuple[int | None, int]]
Steps = list[list[list[int] | None]]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What one attempt of a training run did, from its start to its stop.

    Attributes
    ----------
    num_replicas : int
        Number of ranks.
    steps : list of list of list of int
        The batches trained on, shape (n_steps, num_replicas, batch_size). None replaces the batch of a rank whose epoch
        had ended while that of another rank had not; real ranks would have waited there.
    n_saved : int
        Number of steps that the attempt's last checkpoint covers. The later steps are lost and trained again.
    state : object
        The state in the last checkpoint of this attempt, or of an earlier one; None if there is no checkpoint.
    """

    num_replicas: int
    steps: Steps
    n_saved: int
    state: Any

    @property
    def ranks(self) -> list[list[list[int]]]:
        """The batches of each rank, as `simulate_ranks` returns them."""
        by_rank = zip(*self.steps, strict=True) if self.steps else [()] * self.num_replicas
        return [[batch for batch in batches if batch is not None] for batches in by_rank]

    @property
    def batches(self) -> list[list[int]]:
        """All batches, shape (n_batches, batch_size), ordered by step and, within a step, by rank."""
        return [batch for step in self.steps for batch in step if batch is not None]

    @property
    def saved(self) -> list[list[int]]:
        """The batches that the last checkpoint covers."""
        return [batch for step in self.steps[: self.n_saved] for batch in step if batch is not None]


def simulate_training(
    make_sampler: Callable[[int, int], ResumableBatchSampler],
    stops: Stops,
    *,
    checkpoint_every: int = 1,
    state_format: StateFormat = "pickle",
    set_epoch: bool = False,
) -> list[Attempt]:
    """Train with the samplers of all ranks in this process, stop, and resume with new samplers, any number of times.

    An attempt is a loop over epochs and steps. In each step every rank trains on one batch; then a checkpoint with the
    state of rank 0 is saved, and the next batch is drawn, as a loader would. At a stop all samplers are discarded, and
    only the bytes of the last checkpoint remain: all ranks of the next attempt load the same state.

    Parameters
    ----------
    make_sampler : callable
        Called as ``make_sampler(rank, num_replicas)``; returns a new sampler of that rank. A sampler with a method
        ``close`` is closed at the end of its attempt.
    stops : sequence of (int or None, int)
        Number of steps and number of ranks of each attempt. The steps may be 0, or span several epochs; None trains to
        the end of the current epoch.
    checkpoint_every : int, default 1
        Number of steps from one checkpoint to the next. Steps after the last checkpoint are lost.
    state_format : {"pickle", "json"}, default "pickle"
        Format in which states are saved.
    set_epoch : bool, default False
        If True, the loop calls ``set_epoch`` with its own epoch, which the checkpoint contains, before each epoch and
        after resuming, as frameworks do. If False, the sampler chooses the epoch.

    Returns
    -------
    list of Attempt
        What each attempt did.

    Raises
    ------
    TypeError
        If a number is not an integer, or a sampler does not satisfy the protocol `ResumableBatchSampler`.
    ValueError
        If `stops` is empty, a number is too small, `state_format` is unknown, an epoch has no batch on any rank, or an
        epoch that must end has more batches than its length.

    Examples
    --------
    A sampler whose state is the number of batches that all ranks together have drawn:

    >>> class Counting:
    ...     def __init__(self, rank, num_replicas):
    ...         self.rank, self.num_replicas, self.done = rank, num_replicas, 0
    ...     def __iter__(self):
    ...         while self.done < 6:
    ...             own, self.done = self.done + self.rank, self.done + self.num_replicas
    ...             yield [own]
    ...     def __len__(self):
    ...         return 6 // self.num_replicas
    ...     def set_epoch(self, epoch):
    ...         self.done = 0
    ...     def state_dict(self):
    ...         return {"done": self.done}
    ...     def load_state_dict(self, state):
    ...         self.done = state["done"]
    >>> attempts = simulate_training(Counting, [(2, 2), (None, 1)])
    >>> attempts[0].ranks
    [[[0], [2]], [[1], [3]]]
    >>> attempts[1].batches
    [[4], [5]]
    """
    attempts: list[Attempt] = []
    checkpoint: Checkpoint | None = None
    for options in _plan(stops, checkpoint_every, state_format, set_epoch):
        steps: Steps = []
        with ExitStack() as stack:
            ranks = open_ranks(make_sampler, range(options.num_replicas), options, stack)
            for batches, due in TrainingLoop(options, ranks, checkpoint, bool).steps():
                steps.append(batches)
                checkpoint = due or checkpoint
        attempts.append(_attempt(options, steps, checkpoint))
    return attempts


def spawn_training(
    make_sampler: Callable[..., ResumableBatchSampler],
    stops: Stops,
    *args: Any,
    checkpoint_every: int = 1,
    state_format: StateFormat = "pickle",
    set_epoch: bool = False,
    deadline: float = 120.0,
) -> list[Attempt]:
    """Train as `simulate_training` does, with one process per rank, and kill the processes in the middle of a step.

    The ranks of an attempt stay in lockstep through a collective operation over gloo. Rank 0 replaces the checkpoint
    file in one step. After the last step of an attempt every rank draws another batch; once all ranks have it, they are
    killed with SIGKILL. The last attempt ends normally. However the call ends, no process is left running. Needs a
    POSIX system.

    Parameters
    ----------
    make_sampler : callable
        A function at the top level of a module in a file, called as ``make_sampler(rank, num_replicas, *args)`` in the
        process of the rank; see `spawn_ranks`.
    stops : sequence of (int or None, int)
        Number of steps and number of ranks of each attempt.
    *args
        Further arguments of `make_sampler`; they are pickled.
    checkpoint_every, state_format, set_epoch
        As for `simulate_training`.
    deadline : float, default 120.0
        Seconds within which all attempts together must have ended, including the start of their processes.

    Returns
    -------
    list of Attempt
        What each attempt did; equal to the result of `simulate_training` if the sampler does not depend on its process.

    Raises
    ------
    Exception
        The first exception that was raised on a rank, with a note that gives the rank and its traceback.
    RuntimeError
        If a process died before its planned kill; the message gives its rank, exit code and standard error.
    TimeoutError
        If the deadline passed.
    TypeError, ValueError
        As for `simulate_training`, and if `make_sampler` is not a function at the top level of a module.
    """
    ends = time.monotonic() + deadline
    source, arguments = locate(make_sampler), pickle.dumps(args)
    attempts = []
    plan = _plan(stops, checkpoint_every, state_format, set_epoch)
    with tempfile.TemporaryDirectory(prefix="spawn-training-") as folder:
        for options in plan:
            is_killed = options is not plan[-1]
            payload = make_payload(_train, (source, arguments, folder, options, is_killed))
            supervisor = Supervisor.run(payload, options.num_replicas, ends, may_die=is_killed)
            supervisor.results(deadline)
            if is_killed and not all(_kill_marker(folder, options, rank).exists() for rank in _ranks(options)):
                raise supervisor.death("before its planned kill")
            attempts.append(_attempt(options, _read_steps(folder, options), read_checkpoint(_checkpoint_file(folder))))
    return attempts


def _plan(stops: Stops, checkpoint_every: int, state_format: StateFormat, set_epoch: bool) -> list[AttemptOptions]:
    """Check the arguments, and return the options of each attempt."""
    if len(stops) == 0:
        raise ValueError("stops must hold at least one attempt, got none; give (n_steps, num_replicas) for each")
    check_count("checkpoint_every", checkpoint_every)
    if state_format not in ("pickle", "json"):
        raise ValueError(f"state_format must be 'pickle' or 'json', got {state_format!r}")
    for n_steps, num_replicas in stops:
        check_count("num_replicas", num_replicas)
        if n_steps is not None:
            check_count("n_steps", n_steps, at_least=0)
    options = partial(AttemptOptions, checkpoint_every=checkpoint_every, state_format=state_format, set_epoch=set_epoch)
    return [options(num_replicas=n, n_steps=n_steps, index=index) for index, (n_steps, n) in enumerate(stops)]


def _attempt(options: AttemptOptions, steps: Steps, checkpoint: Checkpoint | None) -> Attempt:
    is_own = checkpoint is not None and checkpoint.attempt == options.index
    return Attempt(
        num_replicas=options.num_replicas,
        steps=steps,
        n_saved=checkpoint.n_steps if checkpoint is not None and is_own else 0,
        state=None if checkpoint is None else loads(checkpoint.state, options.state_format),
    )


def _ranks(options: AttemptOptions) -> range:
    return range(options.num_replicas)


# The functions below run in the process of a rank, except `_read_steps`, which reads what the ranks wrote.


def _train(
    rank: int,
    num_replicas: int,
    source: tuple[str, str, str],
    arguments: bytes,
    folder: str,
    options: AttemptOptions,
    is_killed: bool,
) -> None:
    """Train as one rank, and append each batch to a file that survives the process."""
    make_sampler = load_function(*source)
    args = pickle.loads(arguments)
    with ExitStack() as stack:
        ranks = open_ranks(partial(_call, make_sampler, args), [rank], options, stack)
        loop = TrainingLoop(options, ranks, read_checkpoint(_checkpoint_file(folder)), _any_rank)
        lines = stack.enter_context(_batch_file(folder, options, rank).open("ab", buffering=0))
        for (batch,), checkpoint in loop.steps():
            lines.write(json.dumps(batch).encode() + b"\n")
            if rank == 0 and checkpoint is not None:
                atomic_write(_checkpoint_file(folder), pickle.dumps(checkpoint))
        if is_killed:
            _die_mid_step(_kill_marker(folder, options, rank))


def _call(make_sampler: Callable[..., Any], args: tuple[Any, ...], rank: int, num_replicas: int) -> Any:
    return make_sampler(rank, num_replicas, *args)


def _any_rank(value: bool) -> bool:
    """Return whether a value is true on any rank."""
    import torch
    import torch.distributed as dist

    flag = torch.tensor(int(value))
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag.item())


def _die_mid_step(marker: Path) -> None:
    """Wait until all ranks are in this step and rank 0 has written its checkpoint, then die by SIGKILL."""
    import torch.distributed as dist

    marker.touch()
    try:
        dist.barrier()
    finally:
        # Die in the same way even if the barrier fails because a peer was killed first.
        os.kill(os.getpid(), signal.SIGKILL)


def _read_steps(folder: str, options: AttemptOptions) -> Steps:
    ranks = [_batch_file(folder, options, rank).read_text().splitlines() for rank in _ranks(options)]
    return [[json.loads(line) for line in step] for step in zip(*ranks, strict=True)]


def _checkpoint_file(folder: str) -> Path:
    return Path(folder) / "checkpoint"


def _batch_file(folder: str, options: AttemptOptions, rank: int) -> Path:
    return Path(folder) / f"attempt{options.index}-rank{rank}.jsonl"


def _kill_marker(folder: str, options: AttemptOptions, rank: int) -> Path:
    return Path(folder) / f"attempt{options.index}-rank{rank}.killed"
