"""A fault report: for each plan whether the run resumed as if nothing had happened, and what went wrong if not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal

import pandas as pd

from viscy_sampling_testkit.faults.plan import FaultPlan

FaultOutcome = Literal["passed", "failed", "missed"]

CHECKS = MappingProxyType(
    {
        "same batches": "every batch of the undisturbed run is trained on exactly once, in order, with the same rows",
        "same losses": "losses equal those of the undisturbed run on the same number of ranks",
        "clean exit": "an attempt that did not finish ends with a nonzero exit code and one line that says why",
        "no hang": "an attempt makes progress or ends",
        "nothing left": "processes that an attempt has started end with it",
        "resumes": "the next attempt resumes and finishes",
        "cut checkpoint refused": "a truncated checkpoint is refused, or an older one is used",
    }
)
"""What each check demands."""


@dataclass(frozen=True, kw_only=True)
class FaultVerdict:
    """The outcome of one plan.

    Parameters
    ----------
    plan : FaultPlan
        The plan.
    outcome : {"passed", "failed", "missed"}
        A fault is missed if there was nothing to disturb, such as no worker, or the error was never met.
    problems : mapping of str to tuple of str
        For each check that failed, what was wrong.
    attempts : tuple of str
        What each attempt did.
    output : str
        For a failed plan, the last output of the attempts.
    seconds : float
        Duration.
    """

    plan: FaultPlan
    outcome: FaultOutcome
    problems: Mapping[str, tuple[str, ...]]
    attempts: tuple[str, ...]
    output: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return the plan, its outcome, what was wrong, what the attempts did, and their output."""
        problems = [f"{check}: {message}" for check, messages in self.problems.items() for message in messages]
        output = [f"  {line}" for line in self.output.splitlines()]
        return "\n    ".join([f"{self.plan}: {self.outcome}", *problems, *self.attempts, *output])

    def dumps(self) -> str:
        """Return the verdict as one line of JSON."""
        return json.dumps(asdict(self) | {"problems": dict(self.problems)})

    @staticmethod
    def loads(line: str) -> FaultVerdict:
        """Read what `dumps` wrote."""
        values = json.loads(line)
        problems = {check: tuple(messages) for check, messages in values.pop("problems").items()}
        plan, attempts = FaultPlan(**values.pop("plan")), tuple(values.pop("attempts"))
        return FaultVerdict(plan=plan, problems=problems, attempts=attempts, **values)


@dataclass(frozen=True)
class FaultReport:
    """The verdicts on all plans, as text (`str`) and as a table (`to_frame`)."""

    verdicts: tuple[FaultVerdict, ...]

    def of(self, outcome: FaultOutcome) -> list[FaultVerdict]:
        """Return the verdicts with an outcome."""
        return [verdict for verdict in self.verdicts if verdict.outcome == outcome]

    @property
    def passed(self) -> list[FaultVerdict]:
        """Verdicts on runs that resumed as if nothing had happened."""
        return self.of("passed")

    @property
    def failed(self) -> list[FaultVerdict]:
        """Verdicts on runs that did not."""
        return self.of("failed")

    @property
    def missed(self) -> list[FaultVerdict]:
        """Verdicts on runs in which the fault did not happen."""
        return self.of("missed")

    def raise_if_failed(self) -> None:
        """Raise an AssertionError with the report as its message if a plan failed."""
        if self.failed:
            raise AssertionError(str(self))

    def to_frame(self) -> pd.DataFrame:
        """Return one row per plan: its fields, the outcome, the checks that failed, the attempts and the seconds."""
        rows: list[dict[str, Any]] = [
            {**asdict(verdict.plan), "outcome": verdict.outcome, "problems": list(verdict.problems),
             "attempts": list(verdict.attempts), "seconds": verdict.seconds}
            for verdict in self.verdicts
        ]  # fmt: skip
        return pd.DataFrame(rows).set_index("number") if rows else pd.DataFrame()

    def __str__(self) -> str:
        """Return a summary line, a line for each fault and each check, and the failures in full."""
        seconds = sum(verdict.seconds for verdict in self.verdicts)
        counts = {name: len(self.of(name)) for name in ("passed", "failed", "missed")}
        listed = ", ".join(f"{n} {name}" for name, n in counts.items())
        summary = f"{len(self.verdicts)} faults: {listed} ({seconds:.1f} s)"
        outcomes = Counter((verdict.plan.fault, verdict.outcome) for verdict in self.verdicts)
        faults = dict.fromkeys(fault for fault, _ in sorted(outcomes))
        width = max(map(len, [*faults, *CHECKS]), default=0)
        broken = Counter(check for verdict in self.verdicts for check in verdict.problems)
        return "\n".join(
            [
                summary,
                *(f"  {fault:<{width}}  {_counts(outcomes, fault)}" for fault in faults),
                *(f"  {check:<{width}}  broken in {n} runs: {CHECKS[check]}" for check, n in broken.items()),
                *(f"\n{verdict}" for verdict in [*self.failed, *self.missed]),
            ]
        )


def _counts(outcomes: Counter[tuple[str, FaultOutcome]], fault: str) -> str:
    names: tuple[FaultOutcome, ...] = ("passed", "failed", "missed")
    return ", ".join(f"{outcomes[fault, name]} {name}" for name in names if outcomes[fault, name])
