"""The training loop: runs step after step and epoch after epoch, starting from a checkpoint if there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from viscy_sampling_testkit.simulate._checkpoint import Checkpoint, StateFormat, dumps, loads
from viscy_sampling_testkit.simulate.protocol import ResumableBatchSampler, check_protocol


@dataclass(frozen=True, kw_only=True)
class AttemptOptions:
    """Options of one attempt, numbered by `index`: see `simulate_training`."""

    num_replicas: int
    n_steps: int | None
    index: int
    checkpoint_every: int
    state_format: StateFormat
    set_epoch: bool


class Rank:
    """A rank's sampler and the next batch to train on, which is None once the rank's epoch has ended."""

    def __init__(self, sampler: ResumableBatchSampler) -> None:
        self.sampler = sampler
        self.batch: list[int] | None = None
        self._batches: Iterator[Sequence[int]] = iter(())

    def start_epoch(self) -> None:
        """Start an epoch and draw its first batch."""
        self._batches = iter(self.sampler)
        self.draw()

    def draw(self) -> None:
        """Draw the next batch."""
        batch = next(self._batches, None)
        self.batch = None if batch is None else [int(position) for position in batch]

    def close(self) -> None:
        """Release the iterator, and call the sampler's ``close`` if it has one, as loaders do to stop their workers."""
        self._batches = iter(())
        close = getattr(self.sampler, "close", None)
        if close is not None:
            close()


class TrainingLoop:
    """The loop of the ranks that run in this process, either all ranks or a single one, in lockstep.

    Each batch is drawn one step ahead, and the state is saved before that. So the loop knows whether the epoch of a
    state has ended, and it notices a state that changes after it was saved.
    """

    def __init__(
        self,
        options: AttemptOptions,
        ranks: Sequence[Rank],
        checkpoint: Checkpoint | None,
        any_rank: Callable[[bool], bool],
    ) -> None:
        """Load the checkpoint and start the epoch; `any_rank` returns whether its argument is true on any rank."""
        self.options, self.ranks, self._any_rank = options, ranks, any_rank
        self.epoch = 0 if checkpoint is None else checkpoint.epoch
        if checkpoint is not None:
            for rank in ranks:
                rank.sampler.load_state_dict(loads(checkpoint.state, options.state_format))
        self._start_epoch()
        if checkpoint is not None and not self._has_batch:
            # A state saved at the end of an epoch may resume as an epoch without batches, which does not count.
            self._start_epoch()
        self._check_has_batch()

    def steps(self) -> Iterator[tuple[list[list[int] | None], Checkpoint | None]]:
        """Train; for each step yield the batch of each rank in this process, and the checkpoint if one is due."""
        n_done, longest = 0, max(len(rank.sampler) for rank in self.ranks)
        while self.options.n_steps is None or n_done < self.options.n_steps:
            if not self._has_batch:
                if self.options.n_steps is None:
                    return
                self.epoch += 1
                self._start_epoch()
                self._check_has_batch()
            if self.options.n_steps is None and n_done == longest:
                raise ValueError(
                    f"an epoch must end after {longest} batches, which is its length, but epoch {self.epoch} did not"
                )
            n_done += 1
            yield self._step(n_done)

    def _start_epoch(self) -> None:
        for rank in self.ranks:
            if self.options.set_epoch:
                rank.sampler.set_epoch(self.epoch)
            rank.start_epoch()
        self._look_ahead()

    def _step(self, n_done: int) -> tuple[list[list[int] | None], Checkpoint | None]:
        batches = [rank.batch for rank in self.ranks]
        is_due = n_done % self.options.checkpoint_every == 0
        # Only the state of rank 0 is kept; rank 0 comes first if it runs in this process.
        state = dumps(self.ranks[0].sampler.state_dict(), self.options.state_format) if is_due else None
        for rank in self.ranks:
            if rank.batch is not None:
                rank.draw()
        self._look_ahead()
        epoch = self.epoch if self._has_batch else self.epoch + 1
        return batches, None if state is None else Checkpoint(state, epoch, self.options.index, n_done)

    def _look_ahead(self) -> None:
        """Find out whether any rank has a batch; ranks without one wait until all have ended."""
        self._has_batch = self._any_rank(any(rank.batch is not None for rank in self.ranks))

    def _check_has_batch(self) -> None:
        if not self._has_batch:
            n_ranks = self.options.num_replicas
            raise ValueError(f"an epoch must have a batch, got none on any of {n_ranks} ranks in epoch {self.epoch}")


def open_ranks(
    make_sampler: Callable[..., Any], numbers: Sequence[int], options: AttemptOptions, stack: ExitStack
) -> list[Rank]:
    """Make the samplers of ranks; `stack` closes those that were made, even if a later one fails."""
    ranks = []
    for number in numbers:
        rank = Rank(check_protocol(make_sampler(number, options.num_replicas)))
        stack.callback(rank.close)
        ranks.append(rank)
    return ranks
