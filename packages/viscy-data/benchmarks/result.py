"""The result of a run: what was compared and what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .comparisons import Comparison, Round, epoch
from .samplers import Contender
from .slopes import Slope


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes
    ----------
    target
        The make target that ran it.
    lines, slopes
        The rows of the tables of performance targets and of slopes.
    contenders
        The samplers, by name.
    sizes
        Numbers of rows of the tables on which samplers are compared.
    rounds
        The measurements of each round.
    skipped
        The reason why a sampler was left out, by its name.
    notes
        Further remarks.
    """

    target: str
    lines: Sequence[Comparison]
    slopes: Sequence[Slope]
    contenders: dict[str, Contender]
    sizes: Sequence[int]
    rounds: Sequence[Round]
    skipped: dict[str, str]
    notes: Sequence[str] = ()

    @property
    def remarks(self) -> list[str]:
        """The notes, and which samplers were skipped."""
        return [*self.notes, *(f"{name} was skipped: {reason}" for name, reason in self.skipped.items())]

    def us_per_batch(self, name: str, n_rows: int) -> list[float]:
        """Return microseconds per batch of a sampler in each round that measured it."""
        job = epoch(n_rows, name)
        return [1e6 * measured[job]["s_per_batch"] for measured in self.rounds if job in measured]
