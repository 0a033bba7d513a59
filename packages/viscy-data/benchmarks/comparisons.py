"""A comparison: one line of the table of promised numbers, made of measurements of the same round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from .measure import Job
from .samplers import FLEXIBLE, RANDOM, RELEASED
from .setting import BATCH_SIZE

LARGE = 10**7
SMALL = 10**5
_BUDGET_S = 1.0

# What one round measured.
Round = Mapping[Job, Mapping[str, float]]


@dataclass(frozen=True)
class Comparison:
    """A number that is promised.

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
        if self.job not in measured or (self.reference is not None and self.reference not in measured):
            return None
        value = measured[self.job][self.quantity]
        if self.reference is None:
            return value
        other = measured[self.reference][self.quantity]
        return other / value if self.at_least else value / other

    def verdict(self, numbers: list[float]) -> str:
        """Say which bound the median keeps."""
        for bound, word in ((self.aim, "aim"), (self.must, "must")):
            if bound is not None and (median(numbers) >= bound if self.at_least else median(numbers) <= bound):
                return word
        return "missed" if self.must is not None else ""


def epoch(n_rows: int, sampler: str = FLEXIBLE) -> Job:
    """Return the job of whole epochs, of a peer's only what the budget allows."""
    return Job("epoch", n_rows, sampler, budget_s=0.0 if sampler in (FLEXIBLE, RANDOM) else _BUDGET_S)


def comparisons(largest: int, released: Path | None) -> list[Comparison]:
    """Return the lines of the table, those that follow each other measured one after the other.

    Parameters
    ----------
    largest : int
        Rows of the largest table, at least 1e7.
    released : pathlib.Path, optional
        File of VisCy's released sampler; its line is left out without one.

    Returns
    -------
    list of Comparison
        In the order of the table.
    """
    plain, many = epoch(LARGE), _rows(largest)
    sorting = Job("sorting", LARGE)
    lines = [
        Comparison(
            "a whole epoch, 1e7 rows, over torch's plain shuffle", "s_per_batch", plain, epoch(LARGE, RANDOM), 1.0, 0.5
        ),
        Comparison(
            f"time per batch, {many} rows over 1e5, batches 127 to 254 of each epoch",
            "s_per_batch",
            _settled(largest),
            _settled(SMALL),
            2.0,
            1.3,
        ),
        Comparison(f"the same, {many} rows over 1e5, whole epochs", "s_per_batch", epoch(largest), epoch(SMALL)),
        *_of_ranks(largest),
        Comparison(
            "construction, 1e7 rows, over factorising the columns and one 16-bit sort",
            "s",
            Job("construction", LARGE),
            sorting,
            3.0,
            1.5,
        ),
        Comparison(
            f"memory kept, {many} rows", "bytes_per_anchor", Job("memory", largest), None, 8.0, 4.5, "bytes an anchor"
        ),
    ]
    for name, what in (("first_ms", "first batch"), ("batch_ms", "`batch(k)`"), ("load_ms", "`load_state_dict`")):
        lines.append(Comparison(f"{what}, {many} rows", name, Job("latency", largest), None, 5.0, 0.5, "ms"))
    if released is not None:
        what = "time per batch, 1e7 rows, times faster than VisCy's released sampler"
        lines.insert(
            0, Comparison(what, "s_per_batch", epoch(LARGE), epoch(LARGE, RELEASED), 1000, 4000, at_least=True)
        )
    return lines


def _settled(n_rows: int) -> Job:
    """Return the job of equally many batches of an epoch, whatever the rows, without the first and small blocks.

    An epoch of 1e5 rows is so short that its start, spread over its batches, would hide what a larger table adds.
    """
    return Job("epoch", n_rows, n_batches=255, n_untimed=127)


def _of_ranks(n_rows: int) -> list[Comparison]:
    """Compare ranks by equally many own batches, and by their own whole epochs.

    The number is one less than a power of two: blocks grow by doubling, so none is built ahead and left unused.
    """
    own = n_rows // BATCH_SIZE // 1024
    n_batches = 2 ** ((own + 1).bit_length() - 1) - 1
    one, many = (Job("epoch", n_rows, num_replicas=n, n_batches=n_batches) for n in (1, 1024))
    what = f"time per own batch, rank 0 of 1024 over rank 0 of 1, {_rows(n_rows)} rows, first {n_batches} of each epoch"
    whole = f"the same, whole epochs ({own + 1} own batches over {n_rows // BATCH_SIZE})"
    return [
        Comparison(what, "s_per_batch", many, one, 1.2, 1.05),
        Comparison(whole, "s_per_batch", Job("epoch", n_rows, num_replicas=1024), epoch(n_rows)),
    ]


def _rows(n_rows: int) -> str:
    return f"{n_rows:.0e}".replace("e+0", "e")
