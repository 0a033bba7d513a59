"""A job: one thing to measure, and the files that measuring it needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .samplers import FLEXIBLE


@dataclass(frozen=True)
class Job:
    """What is measured.

    Attributes
    ----------
    kind
        The name of a function that measures, as `measure` lists them.
    n_rows
        Anchors of the table.
    sampler
        Name of the sampler, where it is not `FlexibleBatchSampler`.
    num_replicas
        Ranks; it is rank 0 that is measured.
    n_batches
        Only the first batches of each epoch, if not 0.
    n_untimed
        Those of them that are drawn before the clock starts.
    budget_s
        CPU seconds after which an epoch is left and its cost extrapolated, if not 0.
    """

    kind: str
    n_rows: int
    sampler: str = FLEXIBLE
    num_replicas: int = 1
    n_batches: int = 0
    n_untimed: int = 0
    budget_s: float = 0.0


@dataclass(frozen=True)
class Files:
    """What measurements read and write.

    Attributes
    ----------
    folder
        Where the index of each table is kept for the run.
    released
        VisCy's released sampler, if it was given.
    """

    folder: Path
    released: Path | None = None

    def index(self, n_rows: int) -> Path:
        """Return where the index of a table is, or will be, saved."""
        return self.folder / f"index-of-{n_rows}"
