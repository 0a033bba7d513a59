"""The result of a run: what was asked for and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .comparisons import Comparison, Round, epoch
from .samplers import Contender
from .slopes import Slope


@dataclass(frozen=True)
class Result:
    """What a run measured.

    Attributes
    ----------
    target
        The command.
    lines, slopes
        Of the tables of promised numbers and of slopes.
    contenders
        The samplers, by name.
    sizes
        Rows of the tables that samplers are compared with.
    rounds
        What was measured.
    skipped
        Why a sampler was left out, by name.
    notes
        What else is worth knowing.
    """

    target: str
    lines: Sequence[Comparison]
    slopes: Sequence[Slope]
    contenders: dict[str, Contender]
    sizes: Sequence[int]
    rounds: Sequence[Round]
    skipped: dict[str, str]
    notes: Sequence[str] = ()

    def us_per_batch(self, name: str, n_rows: int) -> list[float]:
        """Return microseconds per batch of a sampler in each round that measured it."""
        job = epoch(n_rows, name)
        return [1e6 * measured[job]["s_per_batch"] for measured in self.rounds if job in measured]
