"""An ending: how an attempt ended, and what is wrong with that."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from viscy_sampling_testkit.faults.command import TrainingCommand
from viscy_sampling_testkit.faults.plan import FaultPlan


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How an attempt ended.

    Parameters
    ----------
    num_replicas : int
        Number of ranks.
    fault : str
        What disturbed it; empty if nothing did.
    happened : bool
        Whether the fault happened.
    exit_codes : tuple of int or None
        For each process that was started; None if it had to be killed at the end.
    survivors : tuple of int
        Which of them were not killed by the fault.
    messages : tuple of str
        Standard error of each of them.
    left : tuple of str
        Processes that still ran afterwards.
    hung : bool
        Whether there was neither progress nor an end.
    n_missing : int
        Number of batches of the undisturbed run on which the run has not trained so far.
    steps : tuple of int
        Number of completed steps before and after the attempt.
    output : str
        The last output.
    """

    num_replicas: int
    fault: str
    happened: bool
    exit_codes: tuple[int | None, ...]
    survivors: tuple[int, ...]
    messages: tuple[str, ...]
    left: tuple[str, ...]
    hung: bool
    n_missing: int
    steps: tuple[int, int]
    output: str

    @property
    def claims_success(self) -> bool:
        """Whether all processes ended with exit code 0."""
        return all(code == 0 for code in self.exit_codes)

    def __str__(self) -> str:
        """Return the attempt in one line."""
        fault = f"{self.fault or 'undisturbed'}{'' if self.happened else ' (did not happen)'}"
        ranks = f"{self.num_replicas} rank{'s' if self.num_replicas > 1 else ''}"
        codes = ", ".join(map(str, self.exit_codes))
        return f"attempt on {ranks}, {fault}: steps {self.steps[0]} to {self.steps[1]}, exit codes {codes}"


def problems_of(ending: Ending, command: TrainingCommand, plan: FaultPlan, *, is_last: bool) -> dict[str, list[str]]:
    """Return what is wrong with how an attempt ended, by check.

    Parameters
    ----------
    ending : Ending
        The end of the attempt.
    command : TrainingCommand
        Says which messages are allowed.
    plan : FaultPlan
        What disturbed the run.
    is_last : bool
        Whether this is the attempt that resumes and must finish.

    Returns
    -------
    dict of str to list of str
        Messages by the name of the check, see `viscy_sampling_testkit.faults.report.CHECKS`.
    """
    problems: dict[str, list[str]] = {}
    if ending.hung:
        problems["no hang"] = [f"neither progress nor an end: {ending}"]
    if ending.left:
        problems["nothing left"] = [f"still running after the end: {', '.join(ending.left)}"]
    if ending.hung:
        return problems
    if ending.n_missing and all(ending.exit_codes[i] == 0 for i in ending.survivors) and ending.survivors:
        problems["clean exit"] = [f"exit code 0 although {ending.n_missing} batches are missing: {ending}"]
        return problems
    if ending.claims_success:
        return problems
    if is_last:
        problems["resumes"] = [f"the attempt that resumes did not finish: {ending}"]
    elif ending.fault.startswith("pause"):
        problems["clean exit"] = [f"a process that was only stopped for a while ended the run: {ending}"]
    else:
        allows_long = plan.fault in command.long_messages
        problems["clean exit"] = _problems_of_exit(ending, command.ignored_output, allows_long=allows_long)
    return {check: messages for check, messages in problems.items() if messages}


def _problems_of_exit(ending: Ending, ignored: str, *, allows_long: bool) -> list[str]:
    """Return what is wrong with the exit codes and messages of the processes that were not killed."""
    failed = [i for i in ending.survivors if ending.exit_codes[i] != 0]
    crashed = [-code for i in failed if (code := ending.exit_codes[i]) is not None and code < 0]
    problems = [f"processes ended by signals {crashed}: {ending}"] if crashed else []
    lines = [message_lines(ending.messages[i], ignored) for i in failed]
    if failed and not any(lines):
        problems.append("no process says why it ended")
    long = [len(found) for found in lines if len(found) > 1]
    if long and not allows_long:
        problems.append(f"{long[0]} lines instead of one: {_shorten(max(lines, key=len))}")
    return problems


def message_lines(text: str, ignored: str) -> list[str]:
    """Return the different lines of a message, without empty ones and what is ignored."""
    counted = re.sub(ignored, "", text, flags=re.MULTILINE) if ignored else text
    return [line for line in dict.fromkeys(line.strip() for line in counted.splitlines()) if line]


def _shorten(lines: Sequence[str]) -> str:
    return " | ".join([*lines[:1], "...", *lines[-1:]])[:400]
