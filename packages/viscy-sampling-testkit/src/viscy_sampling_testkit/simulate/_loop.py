"""The training loop: step after step and epoch after epoch, from where a checkpoint left off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from viscy_sampling_testkit.simulate._checkpoint import Checkpoint, StateFormat, dumps, loads
from viscy_sampling_testkit.simulate.protocol import ResumableBatchSampler, checked


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How a loop trains: see `simulate_training`."""

    num_replicas: int
    n_steps: int | None
    life: int
    checkpoint_every: int
    state_format: StateFormat
    set_epoch: bool


class Rank:
    """A rank's sampler, and the batch that it trains on next; None where its epoch has ended."""

    def __init__(self, sampler: ResumableBatchSampler) -> None:
        self.sampler = sampler
        self.batch: list[int] | None = None
        self._batches: Iterator[Sequence[int]] = iter(())

    def begin(self) -> None:
        """Begin an epoch, and draw its first batch."""
        self._batches = iter(self.sampler)
        self.draw()

    def draw(self) -> None:
        """Draw the next batch."""
        batch = next(self._batches, None)
        self.batch = None if batch is None else [int(position) for position in batch]

    def close(self) -> None:
        """Let go of the iterator, and close a sampler that can be: loaders end their workers so."""
        self._batches = iter(())
        close = getattr(self.sampler, "close", None)
        if close is not None:
            close()


class Loop:
    """The loop of those ranks that run in this process, all of them or one, in step with each other.

    A batch is drawn before the step in which it is trained on, and a state is taken before that: so it is known with
    a state whether its epoch has ended, and a state that goes on changing does no harm.
    """

    def __init__(
        self, terms: Terms, ranks: Sequence[Rank], checkpoint: Checkpoint | None, on_any_rank: Callable[[bool], bool]
    ) -> None:
        """Begin; `on_any_rank` tells of something that holds here or not whether it does on any rank."""
        self.terms, self.ranks, self._on_any_rank = terms, ranks, on_any_rank
        self.epoch = 0 if checkpoint is None else checkpoint.epoch
        if checkpoint is not None:
            for rank in ranks:
                rank.sampler.load_state_dict(loads(checkpoint.state, terms.state_format))
        self._begin()
        if checkpoint is not None and not self._goes_on:
            # A state of an epoch's end may resume as an epoch without a batch, which is none.
            self._begin()
        self._check_goes_on()

    def steps(self) -> Iterator[tuple[list[list[int] | None], Checkpoint | None]]:
        """Train; yield for each step the batch of each rank here, and the checkpoint if one is due."""
        n_done, longest = 0, max(len(rank.sampler) for rank in self.ranks)
        while self.terms.n_steps is None or n_done < self.terms.n_steps:
            if not self._goes_on:
                if self.terms.n_steps is None:
                    return
                self.epoch += 1
                self._begin()
                self._check_goes_on()
            if self.terms.n_steps is None and n_done == longest:
                raise ValueError(
                    f"an epoch must end after the {longest} batches of its length, got more in {self._where}"
                )
            n_done += 1
            yield self._step(n_done)

    def _begin(self) -> None:
        for rank in self.ranks:
            if self.terms.set_epoch:
                rank.sampler.set_epoch(self.epoch)
            rank.begin()
        self._look_ahead()

    def _step(self, n_done: int) -> tuple[list[list[int] | None], Checkpoint | None]:
        batches = [rank.batch for rank in self.ranks]
        is_due = n_done % self.terms.checkpoint_every == 0
        # Only that of rank 0 survives, which is the first of those here, if it is here.
        state = dumps(self.ranks[0].sampler.state_dict(), self.terms.state_format) if is_due else None
        for rank in self.ranks:
            if rank.batch is not None:
                rank.draw()
        self._look_ahead()
        epoch = self.epoch if self._goes_on else self.epoch + 1
        return batches, None if state is None else Checkpoint(state, epoch, self.terms.life, n_done)

    def _look_ahead(self) -> None:
        """See whether any rank has a batch: others that have none sit out until all have ended."""
        self._goes_on = self._on_any_rank(any(rank.batch is not None for rank in self.ranks))

    def _check_goes_on(self) -> None:
        if not self._goes_on:
            n_ranks = self.terms.num_replicas
            raise ValueError(f"an epoch must have a batch, got none on any of {n_ranks} ranks in {self._where}")

    @property
    def _where(self) -> str:
        return f"epoch {self.epoch}"


def open_ranks(make_sampler: Callable[..., Any], numbers: Sequence[int], terms: Terms, stack: ExitStack) -> list[Rank]:
    """Make the samplers of ranks, which the stack closes, however many there are when one fails."""
    ranks = []
    for number in numbers:
        rank = Rank(checked(make_sampler(number, terms.num_replicas)))
        stack.callback(rank.close)
        ranks.append(rank)
    return ranks
