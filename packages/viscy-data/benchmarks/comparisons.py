"""A comparison: one line of the table of promised numbers, made of measurements of the same round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from .epochs import block_ends
from .jobs import Job
from .samplers import FLEXIBLE, OURS, RANDOM, RELEASED
from .setting import BATCH_SIZE, power_of_ten

SMALL = 10**5
_BUDGET_S = 1.0

# What one round measured.
Round = Mapping[Job, Mapping[str, float]]


@dataclass(frozen=True)
class Comparison:
    """A number that is promised, or stands beside one that is.

    Attributes
    ----------
    what
        Its description.
    quantity
        Name of the quantity measured.
    job, reference
        What is measured and what it is divided by; without a reference the quantity itself is the number.
    must, aim
        Bounds, if there are any.
    unit
        Of a number that is no ratio.
    at_least
        Whether the bounds are lower ones, and the ratio is reference over job.
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
        """Return the number of one round; None if a part was not measured."""
        parts = [measured.get(job, {}).get(self.quantity) for job in (self.job, self.reference or self.job)]
        value, other = parts
        if value is None or other is None:
            return None
        if self.reference is None:
            return value
        return other / value if self.at_least else value / other

    def verdict(self, numbers: list[float]) -> str:
        """Say which bound the median keeps."""
        for bound, word in ((self.aim, "aim"), (self.must, "must")):
            if bound is not None and (median(numbers) >= bound if self.at_least else median(numbers) <= bound):
                return word
        return "missed" if self.must is not None else ""


def epoch(n_rows: int, sampler: str = FLEXIBLE, num_replicas: int = 1) -> Job:
    """Return the job of whole epochs, of a peer's only what the budget allows."""
    budget_s = 0.0 if sampler in (*OURS, RANDOM) else _BUDGET_S
    return Job("epoch", n_rows, sampler, num_replicas, budget_s=budget_s)


def own_batches(n_rows: int, num_replicas: int = 1) -> int:
    """Return how many batches of an epoch are rank 0's."""
    return -(-(n_rows // BATCH_SIZE) // num_replicas)


def settled_block() -> tuple[int, int]:
    """Return which batches are the last whole block of an epoch of the small table, from one to before another."""
    first, end = block_ends(own_batches(SMALL))[-2:]
    return first, end


def comparisons(large: int, largest: int, *, with_released: bool) -> list[Comparison]:
    """Return the lines of the table, those that follow each other measured one after the other.

    Parameters
    ----------
    large : int
        Rows of the table for what is promised of a large one.
    largest : int
        Rows of the table for what is promised of any.
    with_released : bool
        Whether VisCy's released sampler is there to be compared with.

    Returns
    -------
    list of Comparison
        In the order of the table.
    """
    return [
        *(_against_released(large) if with_released else []),
        *_epochs(large, largest),
        *_ranks(largest),
        *_construction(large, largest),
        *_index(largest),
    ]


def _against_released(large: int) -> list[Comparison]:
    """Compare what a batch and what construction costs."""
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
    """Compare with a shuffle, and a table with a small one: whole epochs, and the same batches of each.

    An epoch of 1e5 rows is so short that its start, spread over its batches, would hide what a larger table adds.
    """
    rows, many, small = map(power_of_ten, (large, largest, SMALL))
    first, end = settled_block()
    settled, of_small = (Job("epoch", n, n_batches=end, n_untimed=first) for n in (largest, SMALL))
    what = f"time per batch, {many} rows over {small}, batches {first} to {end - 1} of each epoch"
    shuffle = f"a whole epoch, {rows} rows, over torch's plain shuffle"
    return [
        Comparison(shuffle, "s_per_batch", epoch(large), epoch(large, RANDOM), 1.0, 0.5),
        Comparison(what, "s_per_batch", settled, of_small, 2.0, 1.3),
        Comparison(f"the same, {many} rows over {small}, whole epochs", "s_per_batch", epoch(largest), epoch(SMALL)),
    ]


def _ranks(n_rows: int) -> list[Comparison]:
    """Compare ranks by equally many own batches, and by their own whole epochs."""
    n_ranks = 1024
    own = own_batches(n_rows, n_ranks)
    first = block_ends(own)[-1]
    one, many = (Job("epoch", n_rows, num_replicas=n, n_batches=first) for n in (1, n_ranks))
    what = f"time per own batch, rank 0 of {n_ranks} over rank 0 of 1, {power_of_ten(n_rows)} rows"
    whole = f"the same, whole epochs ({own} own batches over {own_batches(n_rows)})"
    return [
        Comparison(f"{what}, first {first} of each epoch", "s_per_batch", many, one, 1.2, 1.05),
        Comparison(whole, "s_per_batch", epoch(n_rows, num_replicas=n_ranks), epoch(n_rows)),
    ]


def _construction(large: int, largest: int) -> list[Comparison]:
    rows, many = power_of_ten(large), power_of_ten(largest)
    build, sorting, latency = Job("construction", large), Job("sorting", large), Job("latency", largest)
    what = f"construction, {rows} rows, over factorising the columns and one 16-bit sort"
    kept = Comparison(
        f"memory kept, {many} rows", "bytes_per_anchor", Job("memory", largest), None, 8.0, 4.5, "bytes an anchor"
    )
    steps = (("first_ms", "first batch"), ("batch_ms", "`batch(k)`"), ("load_ms", "`load_state_dict`"))
    return [
        Comparison(what, "s", build, sorting, 3.0, 1.5),
        kept,
        *(Comparison(f"{what}, {many} rows", name, latency, None, 5.0, 0.5, "ms") for name, what in steps),
    ]


def _index(n_rows: int) -> list[Comparison]:
    rows = power_of_ten(n_rows)
    build, opened = Job("building", n_rows), Job("opening", n_rows)
    peak = f"`AnchorIndex`, {rows} rows: peak while building, over the columns themselves"
    added = "memory of its own that a process adds by opening it and drawing batches"
    return [
        Comparison(peak, "bytes_per_anchor", build, must=16.0, unit="bytes an anchor"),
        Comparison("opening it", "open_ms", opened, must=50.0, unit="ms"),
        Comparison("a sampler of it", "sampler_ms", opened, unit="ms"),
        Comparison("the first batch of that", "first_ms", opened, unit="ms"),
        Comparison(added, "added_mb", opened, must=50.0, unit="MB"),
    ]
