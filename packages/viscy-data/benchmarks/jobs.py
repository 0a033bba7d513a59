"""A job: one measurement to take, and the files that it needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .samplers import FLEXIBLE


@dataclass(frozen=True)
class Job:
    """A measurement to take.

    Attributes
    ----------
    kind
        Name of the measuring function, one of those in `measure`.
    n_rows
        Number of anchors in the table.
    sampler
        Name of the sampler, `FlexibleBatchSampler` by default.
    num_replicas
        Number of ranks, of which rank 0 is measured.
    n_batches
        If not 0, only this many batches at the start of each epoch are drawn.
    n_untimed
        How many of them are drawn before the clock starts.
    budget_s
        If not 0, CPU seconds after which an epoch is cut off and its cost extrapolated.
    option
        Name of the option that is measured, if the job measures one.
    """

    kind: str
    n_rows: int
    sampler: str = FLEXIBLE
    num_replicas: int = 1
    n_batches: int = 0
    n_untimed: int = 0
    budget_s: float = 0.0
    option: str = ""


@dataclass(frozen=True)
class Files:
    """The files that measurements read and write.

    Attributes
    ----------
    directory
        Directory that holds the index of each table during the run.
    released
        The sampler.py of a released VisCy version, if one was given.
    """

    directory: Path
    released: Path | None = None

    def index(self, n_rows: int) -> Path:
        """Return the path at which the index of a table is saved."""
        return self.directory / f"index-of-{n_rows}"
