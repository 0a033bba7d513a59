"""A report: for each law whether a sampler satisfies it, with the smallest example of each failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import pandas as pd

Outcome = Literal["passed", "failed", "not testable", "not claimed"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of checking one law.

    Parameters
    ----------
    law : str
        Name of the law.
    statement : str
        What the law says.
    outcome : {"passed", "failed", "not testable", "not claimed"}
        A law is not testable if it is claimed but cannot be checked, for the reason in `message`.
    tried : int
        Number of examples that were checked.
    seconds : float
        Duration of the check.
    example : mapping
        For a failed law, the example that breaks it: ranks, seed, batches, and so on.
    message : str
        Message of the failed assertion, or the reason why the law is not testable.
    note : str
        For a statistical law that passed, the deviation that the check would have detected.
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
        """Return the law, its outcome and its example in one line, followed by the message."""
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
        """Return the names of the laws with an outcome."""
        return [verdict.law for verdict in self.verdicts if verdict.outcome == outcome]

    @property
    def passed(self) -> list[str]:
        """Names of the laws that the sampler satisfies."""
        return self.of("passed")

    @property
    def failed(self) -> list[str]:
        """Names of the laws that the sampler breaks."""
        return self.of("failed")

    def __getitem__(self, law: str) -> Verdict:
        """Return the verdict on a law."""
        for verdict in self.verdicts:
            if verdict.law == law:
                return verdict
        raise KeyError(law)

    def raise_if_failed(self) -> None:
        """Raise an AssertionError with the report as its message if a law failed."""
        if self.failed:
            raise AssertionError(str(self))

    # Former names, kept so that existing code works.
    kept, broken, raise_if_broken = passed, failed, raise_if_failed

    def to_frame(self) -> pd.DataFrame:
        """Return one row per law: its statement, outcome, number of examples, seconds, example, message and note."""
        rows = [{**vars(verdict), "example": dict(verdict.example)} for verdict in self.verdicts]
        return pd.DataFrame(rows).set_index("law")

    def __str__(self) -> str:
        """Return a summary line, a line for each law, and the failures in full."""
        counts = [
            f"{len(self.of(outcome))} {outcome}"
            for outcome in get_args(Outcome)
            if outcome in ("passed", "failed") or self.of(outcome)
        ]
        claimed = [verdict for verdict in self.verdicts if verdict.outcome != "not claimed"]
        law_width = max(len(verdict.law) for verdict in self.verdicts)
        outcome_width = max((len(verdict.outcome) for verdict in claimed), default=0)
        lines = [
            f"  {v.law:<{law_width}}  {v.outcome:<{outcome_width}}  {v.note or v.statement}".rstrip() for v in claimed
        ]
        unclaimed = self.of("not claimed")
        return "\n".join(
            [
                f"{', '.join(counts)} ({self.setting}, {self.seconds:.1f} s)",
                *lines,
                *([f"  not claimed: {', '.join(unclaimed)}"] if unclaimed else []),
                *(f"\n{verdict}" for verdict in claimed if verdict.outcome in ("failed", "not testable")),
            ]
        )
