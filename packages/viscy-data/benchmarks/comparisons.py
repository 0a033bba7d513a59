"""A comparison: one row of the table of performance targets, from measurements of the same round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from .epochs import block_ends
from .jobs import Job
from .samplers import FLEXIBLE, OURS, RANDOM, RELEASED
from .setting import BATCH_SIZE, power_of_ten

TINY, SMALL = 10**4, 10**5
_BUDGET_S = 1.0

# The measurements of one round.
Round = Mapping[Job, Mapping[str, float]]


@dataclass(frozen=True)
class Comparison:
    """A number with a target, or a number that puts one with a target into context.

    Attributes
    ----------
    what
        Description of the number.
    quantity
        Name of the measured quantity.
    job, reference
        The job that is measured and the job that it is divided by. Without a reference the quantity is the number.
    must, aim
        The required bound and the better one, if there are any.
    unit
        The unit, unless the number is a ratio.
    at_least
        Whether the bounds are lower bounds and the ratio is reference over job.
    """

    what: str
    quantity: str
    job: Job
    reference: Job | None = None
    must: float | None = None
    aim: float | None = None
    unit: str = ""
    at_least: bool = False

    def number(self, measured: Round) -> float | None:
        """Return the number of one round, or None if a part was not measured."""
        parts = [measured.get(job, {}).get(self.quantity) for job in (self.job, self.reference or self.job)]
        value, other = parts
        if value is None or other is None:
            return None
        if self.reference is None:
            return value
        return other / value if self.at_least else value / other

    def verdict(self, numbers: list[float]) -> str:
        """Return the stricter bound that the median meets."""
        for bound, word in ((self.aim, "aim"), (self.must, "must")):
            if bound is not None and (median(numbers) >= bound if self.at_least else median(numbers) <= bound):
                return word
        return "missed" if self.must is not None else ""


def epoch(n_rows: int, sampler: str = FLEXIBLE, num_replicas: int = 1) -> Job:
    """Return the job of complete epochs; those of other samplers are cut off at the budget."""
    budget_s = 0.0 if sampler in (*OURS, RANDOM) else _BUDGET_S
    return Job("epoch", n_rows, sampler, num_replicas, budget_s=budget_s)


def own_batches(n_rows: int, num_replicas: int = 1) -> int:
    """Return the number of batches that rank 0 yields in an epoch."""
    return -(-(n_rows // BATCH_SIZE) // num_replicas)


def settled_block() -> tuple[int, int]:
    """Return the first batch of the last complete block in an epoch of the small table, and the batch after it."""
    first, end = block_ends(own_batches(SMALL))[-2:]
    return first, end


def comparisons(large: int, largest: int, *, with_released: bool) -> list[Comparison]:
    """Return the rows of the table; comparisons that follow each other are measured one after the other.

    Parameters
    ----------
    large : int
        Number of rows for the targets that concern a large table.
    largest : int
        Number of rows for the targets that concern a table of any size.
    with_released : bool
        Whether to compare with VisCy's released sampler.

    Returns
    -------
    list of Comparison
        In the order of the table.
    """
    return [
        *(_against_released(large) if with_released else []),
        *_epochs(large, largest),
        *_complete_epochs_of_ranks(large),
        *_ranks(largest),
        *_construction(large, largest),
        *_index(largest),
    ]


def _against_released(large: int) -> list[Comparison]:
    """Compare the cost of a batch and of construction."""
    rows = power_of_ten(large)
    build, theirs = Job("construction", large), Job("construction", large, RELEASED)
    faster = "times faster than VisCy's released sampler"
    return [
        Comparison(
            f"time per batch, {rows} rows, {faster}",
            "s_per_batch",
            epoch(large),
            epoch(large, RELEASED),
            1000,
            4000,
            at_least=True,
        ),
        Comparison(f"construction, {rows} rows, {faster}", "s", build, theirs, at_least=True),
    ]


def _epochs(large: int, largest: int) -> list[Comparison]:
    """Compare with a shuffle, and a large table with a small one: complete epochs, and the same batches of each.

    An epoch of 1e5 rows is so short that its start, spread over its batches, would hide the cost of a larger table.
    """
    many, small = map(power_of_ten, (largest, SMALL))
    first, end = settled_block()
    settled, of_small = (Job("epoch", n, n_batches=end, n_untimed=first) for n in (largest, SMALL))
    what = f"time per batch, {many} rows relative to {small}, batches {first} to {end - 1} of each epoch"
    return [
        _against_a_shuffle(large, 0.5, 0.25),
        _against_a_shuffle(SMALL, 2.0, 1.0),
        _against_a_shuffle(TINY, 10.0, 5.0),
        Comparison(what, "s_per_batch", settled, of_small, 2.0, 1.3),
        Comparison("the same, complete epochs", "s_per_batch", epoch(largest), epoch(SMALL)),
    ]


def _against_a_shuffle(n_rows: int, must: float, aim: float) -> Comparison:
    what = f"complete epoch, {power_of_ten(n_rows)} rows, relative to torch's plain shuffle"
    return Comparison(what, "s_per_batch", epoch(n_rows), epoch(n_rows, RANDOM), must, aim)


def _complete_epochs_of_ranks(n_rows: int) -> list[Comparison]:
    """Compare complete epochs of one rank of many with those of a single process."""
    n_ranks = 64
    of_ranks = f"rank 0 of {n_ranks} relative to rank 0 of 1"
    what = f"time per own batch, {of_ranks}, {power_of_ten(n_rows)} rows, complete epochs"
    return [Comparison(what, "s_per_batch", epoch(n_rows, num_replicas=n_ranks), epoch(n_rows), 1.3, 1.1)]


def _ranks(n_rows: int) -> list[Comparison]:
    """Compare ranks by the same number of own batches, and by their complete epochs."""
    n_ranks = 1024
    own = own_batches(n_rows, n_ranks)
    first = block_ends(own)[-1]
    one, many = (Job("epoch", n_rows, num_replicas=n, n_batches=first) for n in (1, n_ranks))
    what = f"time per own batch, rank 0 of {n_ranks} relative to rank 0 of 1, {power_of_ten(n_rows)} rows"
    complete = f"the same, complete epochs ({own} and {own_batches(n_rows)} own batches)"
    return [
        Comparison(f"{what}, first {first} of each epoch", "s_per_batch", many, one, 1.2, 1.05),
        Comparison(complete, "s_per_batch", epoch(n_rows, num_replicas=n_ranks), epoch(n_rows)),
    ]


def _construction(large: int, largest: int) -> list[Comparison]:
    rows, many = power_of_ten(large), power_of_ten(largest)
    build, sorting, latency = Job("construction", large), Job("sorting", large), Job("latency", largest)
    what = f"construction, {rows} rows, relative to factorizing the columns and one 16-bit sort"
    kept = Comparison(
        f"memory kept, {many} rows", "bytes_per_anchor", Job("memory", largest), None, 4.5, 4.0, "bytes per anchor"
    )
    steps = (("first_ms", "first batch"), ("batch_ms", "`batch(k)`"), ("load_ms", "`load_state_dict`"))
    return [
        Comparison(what, "s", build, sorting, 1.5, 1.2),
        kept,
        *(Comparison(f"{what}, {many} rows", name, latency, None, 5.0, 0.5, "ms") for name, what in steps),
    ]


def _index(n_rows: int) -> list[Comparison]:
    rows = power_of_ten(n_rows)
    build, opened = Job("building", n_rows), Job("opening", n_rows)
    peak = f"`AnchorIndex`, {rows} rows: peak memory while building, in addition to the columns"
    added = "private memory that a process adds by opening it and drawing batches"
    return [
        Comparison(peak, "bytes_per_anchor", build, must=16.0, unit="bytes per anchor"),
        Comparison("opening the index", "open_ms", opened, must=50.0, unit="ms"),
        Comparison("constructing a sampler from it", "sampler_ms", opened, unit="ms"),
        Comparison("its first batch", "first_ms", opened, unit="ms"),
        Comparison(added, "added_mb", opened, must=50.0, unit="MB"),
    ]
