"""A slope: how a number grows from one table to a table with ten times as many rows, to extrapolate from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .comparisons import Comparison, Round, own_batches, settled_block
from .epochs import block_ends
from .jobs import Job
from .samplers import FLEXIBLE

N_RANKS = 4096


@dataclass(frozen=True)
class Slope:
    """A number for each of two tables.

    Attributes
    ----------
    what
        Description of the number.
    quantity
        Name of the measured quantity.
    jobs
        The jobs that measure it on the smaller and on the larger table.
    unit
        The unit of the number.
    factor
        Factor that converts the quantity to that unit.
    """

    what: str
    quantity: str
    jobs: tuple[Job, Job]
    unit: str
    factor: float = 1.0

    def numbers(self, job: Job, rounds: Sequence[Round]) -> list[float]:
        """Return the number for one table in each round that measured it."""
        return [
            self.factor * measured[job][self.quantity]
            for measured in rounds
            if job in measured and self.quantity in measured[job]
        ]

    def growth(self, rounds: Sequence[Round]) -> list[float]:
        """Return the ratio of the number for the larger table to that for the smaller one, in each round."""
        smaller, larger = self.jobs
        ratio = Comparison(self.what, self.quantity, larger, smaller)
        return [number for measured in rounds if (number := ratio.number(measured)) is not None]


def slopes(largest: int) -> list[Slope]:
    """Return the slopes from a table with a tenth of the rows of the largest table to the largest."""
    tables = largest // 10, largest
    first = block_ends(own_batches(tables[0], N_RANKS))[-1]

    def jobs_of(kind: str, num_replicas: int = 1, n_batches: int = 0, n_untimed: int = 0) -> tuple[Job, Job]:
        smaller, larger = (Job(kind, n_rows, FLEXIBLE, num_replicas, n_batches, n_untimed) for n_rows in tables)
        return smaller, larger

    own = " and ".join(str(own_batches(n_rows, N_RANKS)) for n_rows in tables)
    begun, settled = settled_block()
    per_batch = [
        ("start of an epoch and its first batch", jobs_of("epoch", 1, 1)),
        (f"time per batch, rank 0 of 1, first {first} of each epoch", jobs_of("epoch", 1, first)),
        (f"time per own batch, rank 0 of {N_RANKS}, first {first} of each epoch", jobs_of("epoch", N_RANKS, first)),
        (
            f"time per batch, rank 0 of 1, batches {begun} to {settled - 1} of each epoch",
            jobs_of("epoch", 1, settled, begun),
        ),
        ("time per batch, rank 0 of 1, complete epochs", jobs_of("epoch")),
        (f"time per own batch, rank 0 of {N_RANKS}, complete epochs ({own} own batches)", jobs_of("epoch", N_RANKS)),
    ]
    if first == 1:
        del per_batch[1]
    return [
        Slope("memory kept", "bytes_per_anchor", jobs_of("memory"), "bytes per anchor"),
        Slope(
            "peak memory while building, in addition to the columns",
            "bytes_per_anchor",
            jobs_of("building"),
            "bytes per anchor",
        ),
        Slope("index on disk", "bytes_per_anchor", jobs_of("opening"), "bytes per anchor"),
        Slope("construction", "ns_per_row", jobs_of("construction"), "ns per row"),
        Slope("opening an index", "open_ms", jobs_of("opening"), "ms"),
        *(Slope(what, "s_per_batch", jobs, "microseconds", 1e6) for what, jobs in per_batch),
    ]
