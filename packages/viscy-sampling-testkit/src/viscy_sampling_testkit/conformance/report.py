"""A report: for each law whether a sampler keeps it, with the smallest example where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

Outcome = Literal["kept", "broken", "untested", "not claimed"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one law.

    Parameters
    ----------
    law : str
        Its name.
    statement : str
        What it says.
    outcome : {"kept", "broken", "untested", "not claimed"}
        Untested is what was claimed and could not be put to a test, for the reason in `message`.
    tried : int
        Number of examples that were looked at.
    seconds : float
        How long that took.
    example : mapping
        Of a broken law, what it was found with: ranks, seed, batches, and so on.
    message : str
        The assertion's message, or the reason why nothing could be tested.
    note : str
        Of a statistical law that is kept: what would have been found.
    """

    law: str
    statement: str
    outcome: Outcome
    tried: int = 0
    seconds: float = 0.0
    example: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""
    note: str = ""

    def __str__(self) -> str:
        """Return the law, its example, and the message below."""
        where = ", ".join(f"{name} {value}" for name, value in self.example.items())
        lines = [f"{self.law}: {self.outcome}" + (f" ({where})" if where else ""), *self.message.splitlines()]
        return "\n    ".join(lines)


@dataclass(frozen=True)
class Report:
    """The verdicts on all laws, as text (`str`) and as a table (`to_frame`)."""

    verdicts: tuple[Verdict, ...]
    setting: str
    seconds: float

    def of(self, outcome: Outcome) -> list[str]:
        """Return the names of the laws that had an outcome."""
        return [verdict.law for verdict in self.verdicts if verdict.outcome == outcome]

    @property
    def kept(self) -> list[str]:
        """The laws that are kept."""
        return self.of("kept")

    @property
    def broken(self) -> list[str]:
        """The laws that are broken."""
        return self.of("broken")

    def __getitem__(self, law: str) -> Verdict:
        """Return the verdict on a law."""
        for verdict in self.verdicts:
            if verdict.law == law:
                return verdict
        raise KeyError(law)

    def raise_if_broken(self) -> None:
        """Raise an AssertionError with the whole report if a law is broken."""
        if self.broken:
            raise AssertionError(str(self))

    def to_frame(self) -> pd.DataFrame:
        """Return one row a law: its statement, outcome, number of examples, seconds, example, message and note."""
        rows = [{**vars(verdict), "example": dict(verdict.example)} for verdict in self.verdicts]
        return pd.DataFrame(rows).set_index("law")

    def __str__(self) -> str:
        """Return a line for the whole, a line for each law, and the failures in full."""
        counted = [
            f"{len(self.of(outcome))} {outcome}"
            for outcome in ("kept", "broken", "untested", "not claimed")
            if outcome in ("kept", "broken") or self.of(outcome)
        ]
        width = max(len(verdict.law) for verdict in self.verdicts)
        claimed = [verdict for verdict in self.verdicts if verdict.outcome != "not claimed"]
        lines = [f"  {v.law:<{width}}  {v.outcome:<8}  {v.note or v.statement}".rstrip() for v in claimed]
        unclaimed = self.of("not claimed")
        return "\n".join(
            [
                f"{', '.join(counted)} ({self.setting}, {self.seconds:.1f} s)",
                *lines,
                *([f"  not claimed: {', '.join(unclaimed)}"] if unclaimed else []),
                *(f"\n{verdict}" for verdict in claimed if verdict.outcome in ("broken", "untested")),
            ]
        )
