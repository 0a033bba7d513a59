"""A trial: a sampler factory with one choice of options, the batches drawn from it, and how thoroughly to check it."""

from __future__ import annotations

import operator
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from viscy_sampling_testkit.assertions._failure import fail
from viscy_sampling_testkit.assertions._slots import Slots
from viscy_sampling_testkit.conformance.promises import Promises
from viscy_sampling_testkit.simulate.ranks import interleave

Factory = Callable[..., Any]
Sequences = list[list[int]]
_END = object()
# Number of batches after which an epoch of a sampler without a length counts as endless.
_MOST_BATCHES = 100_000
# Largest number of ranks that are tried for their padding.
MOST_RANKS = 32
# Number of epochs of each seed whose padding is in the sample for statistical laws.
_PADDED_EPOCHS = 4


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How thoroughly a sampler is checked.

    Parameters
    ----------
    name : str
        Name of the setting in the report.
    seeds : sequence of int
        Seeds to try if the sampler is seeded; each is also compared with the next integer.
    replicas : sequence of int
        Numbers of ranks to try, in ascending order, if the sampler claims anything about ranks.
    n_epochs : int
        Number of epochs whose batches are checked one by one and compared with each other.
    row_times : int
        Expected number of draws of each row in the sample for statistical laws.
    most_batches : int
        Largest number of batches in the sample for each seed.
    every_position : bool
        If True, stop after every batch and request every batch by index; if False, only a few of them.
    """

    name: str
    seeds: Sequence[int]
    replicas: Sequence[int]
    n_epochs: int
    row_times: int
    most_batches: int
    every_position: bool

    def positions(self, n: int) -> list[int]:
        """Return the batch indexes in [0, n) to try."""
        return list(range(n)) if self.every_position else sorted({0, 1, n // 2, n - 1} & set(range(n)))


FAST = Setting(
    name="fast", seeds=(0, 1), replicas=(1, 2, 3), n_epochs=3, row_times=60, most_batches=2000, every_position=False
)
FULL = Setting(
    name="full",
    seeds=tuple(range(5)),
    replicas=(1, 2, 3, 4, 6, 8),
    n_epochs=5,
    row_times=200,
    most_batches=20_000,
    every_position=True,
)


class LawFailedError(AssertionError):
    """A law failed: the message of the assertion, and the example that breaks the law."""

    def __init__(self, message: str, example: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.example = dict(example)


class Trial:
    """Draws the batches that laws check, each of them once, and counts the examples.

    Parameters
    ----------
    make_sampler : callable
        Called as ``make_sampler(rank, num_replicas, **options)``.
    promises : Promises
        What the sampler claims.
    setting : Setting
        How thoroughly it is checked.
    options : mapping, optional
        Options to pass to the factory.
    false_alarm : float, default 1e-6
        Largest probability that a law that the sampler satisfies fails.
    """

    def __init__(
        self,
        make_sampler: Factory,
        promises: Promises,
        setting: Setting,
        options: Mapping[str, Any] | None = None,
        false_alarm: float = 1e-6,
    ) -> None:
        self.make_sampler, self.promises, self.setting = make_sampler, promises, setting
        self.options, self.false_alarm = dict(options or {}), false_alarm
        self.tried, self.note = 0, ""
        self._samplers: dict[tuple[Any, ...], GuardedSampler] = {}
        self._epochs: dict[tuple[Any, ...], Sequences] = {}
        self.table_before = promises.table.copy()

    @property
    def seeds(self) -> list[int | None]:
        """The seeds to try; None if the sampler is not seeded."""
        return list(self.setting.seeds) if self.promises.seeded else [None]

    @property
    def replicas(self) -> list[int]:
        """The numbers of ranks to try; only a single process if nothing is claimed about ranks."""
        replicas = self.setting.replicas if self.promises.of_ranks else [1]
        return [n for n in replicas if self.promises.ranks != "split" or self.promises.batch_size % n == 0]

    @property
    def n_epochs(self) -> int:
        """The number of epochs to check; one if nothing is claimed about epochs."""
        return self.setting.n_epochs if self.promises.epochs else 1

    def make(self, rank: int = 0, num_replicas: int = 1, seed: int | None = None) -> GuardedSampler:
        """Return a new sampler whose exceptions are failures."""
        with exceptions_as_failures("make_sampler()"):
            sampler = self.make_unguarded(rank, num_replicas, seed)
        return GuardedSampler(sampler)

    def make_unguarded(self, rank: int, num_replicas: int, seed: int | None) -> Any:
        """Return a new sampler as the factory makes it."""
        return self.make_sampler(rank, num_replicas, **self.options, **({} if seed is None else {"seed": seed}))

    def epoch(self, epoch: int = 0, *, rank: int = 0, num_replicas: int = 1, seed: int | None = None) -> Sequences:
        """Return the batches of one epoch of one rank; the sampler's claims say how epochs are chosen."""
        run = rank, num_replicas, seed
        with self.naming(ranks=num_replicas, rank=rank, epoch=epoch, seed=seed):
            if run not in self._samplers:
                self._samplers[run] = self.make(*run)
            sampler = self._samplers[run]
            can_choose = self.promises.epochs == "set_epoch"
            for number in [epoch] if can_choose else range(epoch + 1):
                if (run, number) not in self._epochs:
                    if can_choose:
                        sampler.set_epoch(number)
                    # `list(sampler)` would call `len`, which the sampler need not support; an iterator has no length.
                    self._epochs[run, number] = self._check_bounds(list(iter(sampler)))
            return self._epochs[run, epoch]

    def _check_bounds(self, batches: Sequences) -> Sequences:
        """Return the batches; fail if a position is outside the table, because no other law can be checked then."""
        if batches:
            Slots.of(batches).check_bounds(len(self.promises.table))
        return batches

    def ranks(self, num_replicas: int, seed: int | None, epoch: int = 0) -> list[Sequences]:
        """Return the batches of one epoch of each rank."""
        return [self.epoch(epoch, rank=rank, num_replicas=num_replicas, seed=seed) for rank in range(num_replicas)]

    def round(self, number: int, seed: int | None) -> list[Sequences]:
        """Return the epochs of a round: a single epoch, unless epochs are claimed to be short."""
        n = self.promises.epochs_of_round
        return [self.epoch(number * n + i, seed=seed) for i in range(n)]

    def padding(self, seed: int | None, epoch: int = 0) -> tuple[int, Sequences]:
        """Return the number of ranks that need most batches to complete their last step, and these batches."""
        n_batches = len(self.epoch(epoch, seed=seed))
        most = max(range(2, MOST_RANKS + 1), key=lambda n: (-n_batches % n, -n))
        return most, interleave(self.ranks(most, seed, epoch))[n_batches:]

    def padding_sample(self) -> Sequences:
        """Return the padding of some epochs of each seed; nothing if it is not claimed to be like other batches."""
        epochs = range(_PADDED_EPOCHS if self.promises.epochs else 1)
        seeds = self.seeds if self.promises.fresh_padding else []
        return [batch for seed in seeds for epoch in epochs for batch in self.padding(seed, epoch)[1]]

    def sample(self, seed: int | None) -> Sequences:
        """Return the sample for statistical laws: batches of a single process, from as many epochs as needed."""
        return [batch for epoch in self.sample_epochs(seed) for batch in epoch]

    def sample_epochs(self, seed: int | None) -> list[Sequences]:
        """Return the epochs of the sample."""
        rows = len(self.promises.table) * self.setting.row_times
        n_needed = min(self.setting.most_batches, max(200, -(-rows // self.promises.batch_size)))
        epochs = [self.epoch(seed=seed)]
        n_drawn = len(epochs[0])
        while self.promises.epochs and n_drawn < n_needed and (more := self.epoch(len(epochs), seed=seed)):
            epochs.append(more)
            n_drawn += len(more)
        return epochs

    def sample_rounds(self, seed: int | None) -> list[Sequences]:
        """Return the batches of each complete round of the sample; each epoch is a round, unless epochs are short."""
        n, epochs = self.promises.epochs_of_round, self.sample_epochs(seed)
        starts = range(0, max(1, len(epochs) - n + 1), n)
        return [[batch for epoch in epochs[start : start + n] for batch in epoch] for start in starts]

    @contextmanager
    def example(self, **example: Any) -> Generator[None]:
        """Count an example; a failure inside the context names it."""
        self.tried += 1
        with self.naming(**example):
            yield

    @contextmanager
    def naming(self, **example: Any) -> Generator[None]:
        """Add the example to a failure inside the context."""
        try:
            yield
        except LawFailedError:
            raise
        except AssertionError as error:
            raise LawFailedError(str(error), {**self.options, **_without_none(example)}) from None

    def check(self, assertion: Callable[[Sequences], None], batches: Sequences, **example: Any) -> None:
        """Count an example and check its batches; a failure is reduced to the fewest leading batches that fail."""
        self.tried += 1
        try:
            assertion(batches)
        except AssertionError as error:
            n_batches, message = _reduce(assertion, batches, str(error))
            raise LawFailedError(message, {**self.options, **_without_none(example), "batches": n_batches}) from None


class GuardedSampler:
    """A sampler whose exceptions are failures: AssertionErrors with the last line of the traceback."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler
        try:
            # Leave room for a wrong length.
            self._most_batches = 100 + 10 * len(sampler)
        except Exception:  # a length is optional; if it is claimed, its law detects what is wrong
            self._most_batches = _MOST_BATCHES

    def __iter__(self) -> Iterator[list[int]]:
        """Start an epoch immediately, and return its batches; an epoch that does not end is a failure."""
        with exceptions_as_failures("iter()"):
            iterator = iter(self._sampler)
        return self._batches(iterator)

    def _batches(self, iterator: Iterator[Any]) -> Iterator[list[int]]:
        for k in range(self._most_batches):
            with exceptions_as_failures(f"next() for batch {k}"):
                drawn: Any = next(iterator, _END)
                batch: list[int] = [] if drawn is _END else list(drawn)
                for position in batch:
                    operator.index(position)
            if drawn is _END:
                return
            yield batch
        fail(
            "an epoch must end",
            observed=f"{self._most_batches} batches without an end",
            expected="a last batch",
            n=f"{self._most_batches} batches",
        )

    def __len__(self) -> int:
        """Return the sampler's own length."""
        with exceptions_as_failures("len()"):
            return len(self._sampler)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the sampler, or of its attribute `sampler` if only that has ``set_epoch``."""
        with exceptions_as_failures(f"set_epoch({epoch})"):
            owner = self._sampler if hasattr(self._sampler, "set_epoch") else self._sampler.sampler
            owner.set_epoch(epoch)

    def state_dict(self) -> Any:
        """Return the sampler's own state."""
        with exceptions_as_failures("state_dict()"):
            return self._sampler.state_dict()

    def load_state_dict(self, state: Any) -> None:
        """Load a state."""
        with exceptions_as_failures("load_state_dict()"):
            self._sampler.load_state_dict(state)

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        """Return a batch by its index."""
        call = f"batch({k})" if epoch is None else f"batch({k}, epoch={epoch})"
        with exceptions_as_failures(call):
            return list(self._sampler.batch(k) if epoch is None else self._sampler.batch(k, epoch=epoch))


@contextmanager
def exceptions_as_failures(call: str) -> Generator[None]:
    """Turn an exception of the sampler into a failure that names the call."""
    try:
        yield
    except Exception as error:
        line = " ".join(traceback.format_exception_only(error)[-1].split())
        where = traceback.extract_tb(error.__traceback__)[-1]
        fail(
            f"{call} must not raise",
            observed=line,
            expected="no exception",
            raised_in=f"{where.name}, line {where.lineno}",
        )


def _reduce(assertion: Callable[[Sequences], None], batches: Sequences, message: str) -> tuple[int, str]:
    """Return the fewest leading batches that fail an assertion, and its message for them; all batches together fail."""
    fewest, passing, n = len(batches), 0, 1
    while passing + 1 < fewest:
        failure = _failure(assertion, batches[:n])
        if failure is None:
            passing = n
        else:
            fewest, message = n, failure
        # Double the number until some batches fail; then bisect between the passing and the failing number.
        n = min(2 * n, (n + fewest + 1) // 2) if fewest == len(batches) else (passing + fewest) // 2
        n = max(passing + 1, min(n, fewest - 1))
    return fewest, message


def _failure(assertion: Callable[[Sequences], None], batches: Sequences) -> str | None:
    """Return the message with which an assertion rejects batches; None if it accepts them or cannot test them."""
    try:
        assertion(batches)
    except AssertionError as error:
        return str(error)
    except ValueError:
        return None
    return None


def _without_none(example: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in example.items() if value is not None}
