"""A training run: stopped after any step, killed, and started again on another number of ranks."""

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

from viscy_sampling_testkit.simulate._checkpoint import Checkpoint, StateFormat, loads, read_checkpoint, write_whole
from viscy_sampling_testkit.simulate._loop import Loop, Terms, open_ranks
from viscy_sampling_testkit.simulate._process import find
from viscy_sampling_testkit.simulate._supervisor import Crew, payload_of, reference
from viscy_sampling_testkit.simulate.protocol import ResumableBatchSampler
from viscy_sampling_testkit.tables._sizes import check_count

Stops = Sequence[tuple[int | None, int]]
Steps = list[list[list[int] | None]]


@dataclass(frozen=True, kw_only=True)
class Life:
    """What one life of a training run did, from its start to its stop.

    Attributes
    ----------
    num_replicas : int
        Number of ranks.
    steps : list of list of list of int
        The batches it trained on, shape (n_steps, num_replicas, batch_size). None in place of a batch: the epoch of
        that rank had ended, and others' had not, for which real ranks would have waited.
    n_saved : int
        Number of its steps that its last checkpoint knows of; the others are lost, and trained again.
    state : object
        The state in that checkpoint, or in that of a life before; None where there is none.
    """

    num_replicas: int
    steps: Steps
    n_saved: int
    state: Any

    @property
    def ranks(self) -> list[list[list[int]]]:
        """The batches of each rank, as `simulate_ranks` returns them."""
        each = zip(*self.steps, strict=True) if self.steps else [()] * self.num_replicas
        return [[batch for batch in own if batch is not None] for own in each]

    @property
    def batches(self) -> list[list[int]]:
        """All batches, shape (n_batches, batch_size), in order of steps, and within a step of ranks."""
        return [batch for step in self.steps for batch in step if batch is not None]

    @property
    def saved(self) -> list[list[int]]:
        """Those of the batches that the checkpoint knows of."""
        return [batch for step in self.steps[: self.n_saved] for batch in step if batch is not None]


def simulate_training(
    make_sampler: Callable[[int, int], ResumableBatchSampler],
    stops: Stops,
    *,
    checkpoint_every: int = 1,
    state_format: StateFormat = "pickle",
    set_epoch: bool = False,
) -> list[Life]:
    """Train with the samplers of all ranks in this process, stop, and go on with new samplers, time after time.

    A life is a loop over epochs and steps. In each step every rank trains on one batch; then a checkpoint with the
    state of rank 0 is taken, and the next batch is drawn, as a loader would. At a stop all samplers are gone, and only
    the bytes of the last checkpoint are left: all ranks of the next life load the same state.

    Parameters
    ----------
    make_sampler : callable
        Called as ``make_sampler(rank, num_replicas)``; returns a new sampler of that rank. A sampler with a method
        ``close`` is closed at the end of its life.
    stops : sequence of (int or None, int)
        For each life the number of its steps and of its ranks. Steps may be more than an epoch has, or 0; None is up to
        the end of the epoch that it is in.
    checkpoint_every : int, default 1
        Number of steps from one checkpoint to the next. Steps after the last one are lost.
    state_format : {"pickle", "json"}, default "pickle"
        What a state goes through.
    set_epoch : bool, default False
        Whether the loop calls ``set_epoch`` with its own count, which is in the checkpoint, before each epoch and where
        it resumes, as frameworks do. Otherwise what is next is left to the sampler.

    Returns
    -------
    list of Life
        What each life did.

    Raises
    ------
    TypeError
        If a number is no integer, or a sampler does not keep the protocol `ResumableBatchSampler`.
    ValueError
        If there is no life, a number is too small, a format unknown, an epoch has no batch on any rank, or the end of
        an epoch is waited for that has more batches than its length.

    Examples
    --------
    A sampler whose state is its place in the sequence of all ranks:

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
    >>> lives = simulate_training(Counting, [(2, 2), (None, 1)])
    >>> lives[0].ranks
    [[[0], [2]], [[1], [3]]]
    >>> lives[1].batches
    [[4], [5]]
    """
    lives: list[Life] = []
    checkpoint: Checkpoint | None = None
    for terms in _terms(stops, checkpoint_every, state_format, set_epoch):
        steps: Steps = []
        with ExitStack() as stack:
            ranks = open_ranks(make_sampler, range(terms.num_replicas), terms, stack)
            for batches, due in Loop(terms, ranks, checkpoint, bool).steps():
                steps.append(batches)
                checkpoint = due or checkpoint
        lives.append(_life(terms, steps, checkpoint))
    return lives


def spawn_training(
    make_sampler: Callable[..., ResumableBatchSampler],
    stops: Stops,
    *args: Any,
    checkpoint_every: int = 1,
    state_format: StateFormat = "pickle",
    set_epoch: bool = False,
    deadline: float = 120.0,
) -> list[Life]:
    """Train as `simulate_training` does, in a process for each rank, and kill them in the middle of a step.

    The ranks of a life keep in step by a collective operation over gloo; rank 0 writes checkpoints, each into a new
    file that replaces the old one. When a life's steps are done, every rank draws the next batch, and once all are in
    that step they are killed by SIGKILL; the last life ends by itself. However the call ends, nothing is left running.
    For POSIX systems.

    Parameters
    ----------
    make_sampler : callable
        A function at the top level of a module that is in a file, called as ``make_sampler(rank, num_replicas, *args)``
        in the process of the rank; see `spawn_ranks`.
    stops : sequence of (int or None, int)
        For each life the number of its steps and of its ranks.
    *args
        Further arguments of `make_sampler`; they are pickled.
    checkpoint_every, state_format, set_epoch
        As for `simulate_training`.
    deadline : float, default 120.0
        Seconds within which all lives together must have ended, with the start of their processes.

    Returns
    -------
    list of Life
        What each life did, equal to what `simulate_training` returns if the sampler does not mind where it runs.

    Raises
    ------
    Exception
        What was raised on a rank (the first to do so), with a note that gives the rank and its traceback.
    RuntimeError
        If a process died before it was to be killed.
    TimeoutError
        If the deadline passed.
    TypeError, ValueError
        As for `simulate_training`, and if `make_sampler` is no function at the top level of a module.
    """
    ends = time.monotonic() + deadline
    source, arguments = reference(make_sampler), pickle.dumps(args)
    lives = []
    plan = _terms(stops, checkpoint_every, state_format, set_epoch)
    with tempfile.TemporaryDirectory(prefix="spawn-training-") as folder:
        for terms in plan:
            is_last = terms.life == len(plan) - 1
            payload = payload_of(_train, (source, arguments, folder, terms, not is_last))
            crew = Crew.run(payload, terms.num_replicas, ends, may_die=not is_last)
            crew.results(deadline)
            if not is_last and any(not _mark(folder, terms, rank).exists() for rank in range(terms.num_replicas)):
                raise RuntimeError(f"{crew.obituary}, before it was to be killed")
            lives.append(_life(terms, _read_steps(folder, terms), read_checkpoint(_checkpoint_file(folder))))
    return lives


def _terms(stops: Stops, checkpoint_every: int, state_format: StateFormat, set_epoch: bool) -> list[Terms]:
    """Check what was asked for, and return how each life trains."""
    if len(stops) == 0:
        raise ValueError("stops must hold at least one life, got none; give (n_steps, num_replicas) for each")
    check_count("checkpoint_every", checkpoint_every)
    if state_format not in ("pickle", "json"):
        raise ValueError(f"state_format must be 'pickle' or 'json', got {state_format!r}")
    for n_steps, num_replicas in stops:
        check_count("num_replicas", num_replicas)
        if n_steps is not None:
            check_count("n_steps", n_steps, at_least=0)
    terms = partial(Terms, checkpoint_every=checkpoint_every, state_format=state_format, set_epoch=set_epoch)
    return [terms(num_replicas=n, n_steps=n_steps, life=life) for life, (n_steps, n) in enumerate(stops)]


def _life(terms: Terms, steps: Steps, checkpoint: Checkpoint | None) -> Life:
    is_own = checkpoint is not None and checkpoint.life == terms.life
    return Life(
        num_replicas=terms.num_replicas,
        steps=steps,
        n_saved=checkpoint.n_steps if checkpoint is not None and is_own else 0,
        state=None if checkpoint is None else loads(checkpoint.state, terms.state_format),
    )


# What follows runs in the process of a rank, but for the reading of what it wrote.


def _train(
    rank: int,
    num_replicas: int,
    source: tuple[str, str, str],
    arguments: bytes,
    folder: str,
    terms: Terms,
    is_killed: bool,
) -> None:
    """Train as one rank; keep what it trained on in a file, line by line, which outlives it."""
    make_sampler = find(*source)
    args = pickle.loads(arguments)
    with ExitStack() as stack:
        ranks = open_ranks(partial(_call, make_sampler, args), [rank], terms, stack)
        loop = Loop(terms, ranks, read_checkpoint(_checkpoint_file(folder)), _on_any_rank)
        lines = stack.enter_context(_lines_file(folder, terms, rank).open("ab", buffering=0))
        for (batch,), checkpoint in loop.steps():
            lines.write(json.dumps(batch).encode() + b"\n")
            if rank == 0 and checkpoint is not None:
                write_whole(_checkpoint_file(folder), pickle.dumps(checkpoint))
        if is_killed:
            _die_in_a_step(_mark(folder, terms, rank))


def _call(make_sampler: Callable[..., Any], args: tuple[Any, ...], rank: int, num_replicas: int) -> Any:
    return make_sampler(rank, num_replicas, *args)


def _on_any_rank(holds: bool) -> bool:
    import torch
    import torch.distributed as dist

    found = torch.tensor(int(holds))
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return bool(found.item())


def _die_in_a_step(mark: Path) -> None:
    """Wait until all ranks are in this step, rank 0 having written its checkpoint, and be killed."""
    import torch.distributed as dist

    mark.touch()
    try:
        dist.barrier()
    finally:
        # Peers that are killed first are no reason to end in another way.
        os.kill(os.getpid(), signal.SIGKILL)


def _read_steps(folder: str, terms: Terms) -> Steps:
    ranks = [_lines_file(folder, terms, rank).read_text().splitlines() for rank in range(terms.num_replicas)]
    return [[json.loads(line) for line in step] for step in zip(*ranks, strict=True)]


def _checkpoint_file(folder: str) -> Path:
    return Path(folder) / "checkpoint"


def _lines_file(folder: str, terms: Terms, rank: int) -> Path:
    return Path(folder) / f"life{terms.life}-rank{rank}.jsonl"


def _mark(folder: str, terms: Terms, rank: int) -> Path:
    return Path(folder) / f"life{terms.life}-rank{rank}.killed"
