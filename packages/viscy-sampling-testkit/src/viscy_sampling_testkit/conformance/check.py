"""Conformance: one call that checks a batch sampler against every law that it claims."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from viscy_sampling_testkit.conformance.laws import LAWS, Law
from viscy_sampling_testkit.conformance.promises import Promises
from viscy_sampling_testkit.conformance.report import Report, Verdict
from viscy_sampling_testkit.conformance.trial import FAST, FULL, Factory, LawFailedError, Setting, Trial

_SETTINGS = {"fast": FAST, "full": FULL}


def check_batch_sampler(
    make_sampler: Factory,
    promises: Promises,
    *,
    setting: str | Setting = "fast",
    options: Sequence[Mapping[str, Any]] = ({},),
    false_alarm: float = 1e-6,
) -> Report:
    """Check a batch sampler against every law that it claims, and report which laws it satisfies.

    Small examples are checked first: few options, then few ranks. The check of a law ends at its first failure, which
    is reduced to the fewest leading batches that still fail. An exception that the sampler raises is a failure of the
    law that was being checked.

    Parameters
    ----------
    make_sampler : callable
        Called as ``make_sampler(rank, num_replicas, **options)``; returns a new sampler, an iterable of batches. If the
        sampler claims to be seeded, the options include ``seed``.
    promises : Promises
        What the sampler claims.
    setting : {"fast", "full"} or Setting, default "fast"
        How thoroughly it is checked. ``"fast"`` takes seconds; ``"full"`` tries more seeds, ranks and batches, and
        stops after every batch.
    options : sequence of mapping, default ({},)
        Options to pass to the factory; the sampler must satisfy its claims with each of them.
    false_alarm : float, default 1e-6
        Largest probability that a law that the sampler satisfies fails, for each of the options.

    Returns
    -------
    Report
        The verdicts on all `LAWS`.

    Raises
    ------
    ValueError
        If the setting is unknown, or there are no options.

    Examples
    --------
    >>> import pandas as pd
    >>> def make_sampler(rank, num_replicas):
    ...     return [[0, 1], [2, 3], [4]][rank::num_replicas]
    >>> promises = Promises(
    ...     table=pd.DataFrame(index=range(5)), batch_size=2, last_batch="short", distinct=True, equal_steps=True
    ... )
    >>> report = check_batch_sampler(make_sampler, promises)
    >>> report.passed, report.failed
    (['batch sizes', 'distinct'], ['equal steps'])
    """
    trials = make_trials(make_sampler, promises, setting=setting, options=options, false_alarm=false_alarm)
    start = time.perf_counter()
    verdicts = tuple(check_law(law.name, trials) for law in LAWS)
    return Report(verdicts, trials[0].setting.name, time.perf_counter() - start)


def make_trials(
    make_sampler: Factory,
    promises: Promises,
    *,
    setting: str | Setting = "fast",
    options: Sequence[Mapping[str, Any]] = ({},),
    false_alarm: float = 1e-6,
) -> list[Trial]:
    """Make a trial for each choice of options, fewest options first; for the parameters see `check_batch_sampler`."""
    if isinstance(setting, str):
        if setting not in _SETTINGS:
            raise ValueError(f"setting must be one of {', '.join(_SETTINGS)}, or a Setting, got {setting!r}")
        setting = _SETTINGS[setting]
    if not options:
        raise ValueError("options must hold at least one mapping, got none; give ({},) for a sampler without options")
    return [Trial(make_sampler, promises, setting, chosen, false_alarm) for chosen in sorted(options, key=len)]


def check_law(name: str, trials: Sequence[Trial]) -> Verdict:
    """Check a sampler against one law, in one trial after another until it fails.

    Parameters
    ----------
    name : str
        Name of one of the `LAWS`.
    trials : sequence of Trial
        The trials that `make_trials` returned. Laws that are checked with the same trials share the batches drawn.

    Returns
    -------
    Verdict
        The outcome of the check.
    """
    law = next(law for law in LAWS if law.name == name)
    verdict = Verdict(law=law.name, statement=law.statement, outcome="not claimed")
    if not law.claimed(trials[0].promises):
        return verdict
    start, tried = time.perf_counter(), 0
    for trial in trials:
        verdict = _verdict(law, trial)
        tried += verdict.tried
        if verdict.outcome != "passed":
            break
    return replace(verdict, tried=tried, seconds=time.perf_counter() - start)


def _verdict(law: Law, trial: Trial) -> Verdict:
    trial.tried, trial.note = 0, ""
    passed = Verdict(law=law.name, statement=law.statement, outcome="passed")
    try:
        law.check(trial)
    except LawFailedError as failure:
        return replace(passed, outcome="failed", tried=trial.tried, example=failure.example, message=str(failure))
    except AssertionError as error:
        return replace(passed, outcome="failed", tried=trial.tried, example=trial.options, message=str(error))
    except ValueError as error:
        return replace(passed, outcome="not testable", tried=trial.tried, message=str(error))
    return replace(passed, tried=trial.tried, note=trial.note)
