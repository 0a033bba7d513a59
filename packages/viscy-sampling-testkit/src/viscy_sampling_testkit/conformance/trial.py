"""A trial: a sampler's factory with one choice of options, what its samplers yield, and how hard they are tried."""

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

Factory = Callable[..., Any]
Sequences = list[list[int]]
_END = object()
# An epoch of a sampler without a length is taken to be endless after so many batches.
_MOST_BATCHES = 100_000


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How hard a sampler is tried.

    Parameters
    ----------
    name : str
        What the report calls it.
    seeds : sequence of int
        Seeds, where the sampler takes any; each is also compared with the next number.
    replicas : sequence of int
        Numbers of ranks, in ascending order, where anything is promised about ranks.
    n_epochs : int
        Number of epochs whose batches are looked at one by one, and compared with each other.
    row_times : int
        How often each row is due in the batches that statistical laws look at.
    most_batches : int
        The most batches that they look at for each seed.
    every_position : bool
        Whether runs are stopped at every position, and every batch asked for, or a few of them.
    """

    name: str
    seeds: Sequence[int]
    replicas: Sequence[int]
    n_epochs: int
    row_times: int
    most_batches: int
    every_position: bool

    def positions(self, n: int) -> list[int]:
        """Return the positions in [0, n) to try."""
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


class BrokenLawError(AssertionError):
    """A law is broken: the message of the assertion, and the example with which it was found."""

    def __init__(self, message: str, example: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.example = dict(example)


class Trial:
    """Draws what laws look at, once, and remembers what was tried.

    Parameters
    ----------
    make_sampler : callable
        Called as ``make_sampler(rank, num_replicas, **options)``.
    promises : Promises
        What the sampler claims.
    setting : Setting
        How hard it is tried.
    options : mapping, optional
        Options that are handed to the factory each time.
    false_alarm : float, default 1e-6
        Largest probability that a law is found broken, by chance, which holds.
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
        self._samplers: dict[tuple[Any, ...], Guarded] = {}
        self._epochs: dict[tuple[Any, ...], Sequences] = {}

    @property
    def seeds(self) -> list[int | None]:
        """The seeds to try; None where the sampler takes none."""
        return list(self.setting.seeds) if self.promises.seeded else [None]

    @property
    def replicas(self) -> list[int]:
        """The numbers of ranks to try; a single process where nothing is promised about ranks."""
        return list(self.setting.replicas) if self.promises.of_ranks else [1]

    @property
    def n_epochs(self) -> int:
        """The number of epochs to look at; one where nothing is promised about epochs."""
        return self.setting.n_epochs if self.promises.epochs else 1

    def make(self, rank: int = 0, num_replicas: int = 1, seed: int | None = None) -> Guarded:
        """Return a new sampler, which reports what it raises as a failure."""
        with guarding("made"):
            sampler = self.make_bare(rank, num_replicas, seed)
        return Guarded(sampler)

    def make_bare(self, rank: int, num_replicas: int, seed: int | None) -> Any:
        """Return a new sampler as the factory makes it."""
        return self.make_sampler(rank, num_replicas, **self.options, **({} if seed is None else {"seed": seed}))

    def maker(self, seed: int | None) -> Callable[[int, int], Guarded]:
        """Return a factory of rank and number of ranks alone."""
        return lambda rank, num_replicas: self.make(rank, num_replicas, seed)

    def epoch(self, epoch: int = 0, *, rank: int = 0, num_replicas: int = 1, seed: int | None = None) -> Sequences:
        """Return the batches of one epoch of one rank; epochs are as the promises say that they are chosen."""
        run = rank, num_replicas, seed
        with self.naming(ranks=num_replicas, rank=rank, epoch=epoch, seed=seed):
            if run not in self._samplers:
                self._samplers[run] = self.make(*run)
            sampler = self._samplers[run]
            by_number = self.promises.epochs == "set_epoch"
            for wanted in [epoch] if by_number else range(epoch + 1):
                if (run, wanted) not in self._epochs:
                    if by_number:
                        sampler.set_epoch(wanted)
                    # Of the iterator, which is not asked for a length that the sampler need not have.
                    self._epochs[run, wanted] = self._within_table(list(iter(sampler)))
            return self._epochs[run, epoch]

    def _within_table(self, batches: Sequences) -> Sequences:
        """Return batches that can be looked up in the table; of others no law can be kept."""
        if batches:
            Slots.of(batches).check_bounds(len(self.promises.table))
        return batches

    def ranks(self, num_replicas: int, seed: int | None, epoch: int = 0) -> list[Sequences]:
        """Return the batches of one epoch of each rank."""
        return [self.epoch(epoch, rank=rank, num_replicas=num_replicas, seed=seed) for rank in range(num_replicas)]

    def sample(self, seed: int | None) -> Sequences:
        """Return as many batches of a single process as statistics need, from as many epochs as that takes."""
        rows = len(self.promises.table) * self.setting.row_times
        wanted = min(self.setting.most_batches, max(200, -(-rows // self.promises.batch_size)))
        batches, epoch = list(self.epoch(seed=seed)), 1
        while self.promises.epochs and len(batches) < wanted and (more := self.epoch(epoch, seed=seed)):
            batches, epoch = batches + more, epoch + 1
        return batches

    @contextmanager
    def attempt(self, **example: Any) -> Generator[None]:
        """Count an example, and name it where it fails."""
        self.tried += 1
        with self.naming(**example):
            yield

    @contextmanager
    def naming(self, **example: Any) -> Generator[None]:
        """Name the example that a failure inside was found with."""
        try:
            yield
        except BrokenLawError:
            raise
        except AssertionError as error:
            raise BrokenLawError(str(error), {**self.options, **_without_none(example)}) from None

    def hold(self, assertion: Callable[[Sequences], None], batches: Sequences, **example: Any) -> None:
        """Hold batches to an assertion; a failure is given with as few of the first batches as show it."""
        self.tried += 1
        try:
            assertion(batches)
        except AssertionError as error:
            n_batches, message = _smallest(assertion, batches, str(error))
            raise BrokenLawError(message, {**self.options, **_without_none(example), "batches": n_batches}) from None


class Guarded:
    """A sampler whose exceptions are failures: they become AssertionErrors that give the traceback's last line."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler
        try:
            # Generous where the length is wrong.
            self._most_batches = 100 + 10 * len(sampler)
        except Exception:  # a sampler need not have a length; where it is claimed, its law finds what is wrong
            self._most_batches = _MOST_BATCHES

    def __iter__(self) -> Iterator[list[int]]:
        """Iterate the sampler at once; an epoch that does not end is a failure, too."""
        with guarding("iterated"):
            drawing = iter(self._sampler)
        return self._batches(drawing)

    def _batches(self, drawing: Iterator[Any]) -> Iterator[list[int]]:
        for k in range(self._most_batches):
            with guarding(f"asked for batch {k}"):
                drawn: Any = next(drawing, _END)
                batch: list[int] = [] if drawn is _END else list(drawn)
                for position in batch:
                    operator.index(position)
            if drawn is _END:
                return
            yield batch
        fail(
            "an epoch must end",
            observed=f"{self._most_batches} batches and no end",
            expected="an end",
            n=f"{self._most_batches} batches",
        )

    def __len__(self) -> int:
        """Return the sampler's own length."""
        with guarding("asked for its length"):
            return len(self._sampler)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch where the sampler lets it be chosen: itself, or its attribute `sampler`."""
        with guarding("told its epoch"):
            owner = self._sampler if hasattr(self._sampler, "set_epoch") else self._sampler.sampler
            owner.set_epoch(epoch)

    def state_dict(self) -> Any:
        """Return the sampler's own state."""
        with guarding("asked for its state"):
            return self._sampler.state_dict()

    def load_state_dict(self, state: Any) -> None:
        """Load a state."""
        with guarding("given a state"):
            self._sampler.load_state_dict(state)

    def batch(self, k: int) -> list[int]:
        """Return a batch by its number."""
        with guarding(f"asked for batch {k} by its number"):
            return list(self._sampler.batch(k))


@contextmanager
def guarding(what: str) -> Generator[None]:
    """Turn an exception of the sampler into a failure that says what was done with it."""
    try:
        yield
    except Exception as error:
        line = " ".join(traceback.format_exception_only(error)[-1].split())
        where = traceback.extract_tb(error.__traceback__)[-1]
        fail(
            f"a sampler must not raise when it is {what}",
            observed=line,
            expected="no exception",
            raised_in=f"{where.name}, line {where.lineno}",
        )


def _smallest(assertion: Callable[[Sequences], None], batches: Sequences, message: str) -> tuple[int, str]:
    """Return how few of the first batches fail an assertion which all of them fail, and its message for these."""
    fewest, passing, n = len(batches), 0, 1
    while passing + 1 < fewest:
        failure = _failure(assertion, batches[:n])
        if failure is None:
            passing = n
        else:
            fewest, message = n, failure
        # Twice as many until some fail; then the middle between what passes and what fails.
        n = min(2 * n, (n + fewest + 1) // 2) if fewest == len(batches) else (passing + fewest) // 2
        n = max(passing + 1, min(n, fewest - 1))
    return fewest, message


def _failure(assertion: Callable[[Sequences], None], batches: Sequences) -> str | None:
    """Return the message with which an assertion rejects batches; None if it accepts, or cannot judge them."""
    try:
        assertion(batches)
    except AssertionError as error:
        return str(error)
    except ValueError:
        return None
    return None


def _without_none(example: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in example.items() if value is not None}
