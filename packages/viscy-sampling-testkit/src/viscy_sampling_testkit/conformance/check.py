"""Conformance: one call that checks a batch sampler against every law that it claims."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from viscy_sampling_testkit.conformance import _batch_laws, _run_laws
from viscy_sampling_testkit.conformance.promises import Promises
from viscy_sampling_testkit.conformance.report import Report, Verdict
from viscy_sampling_testkit.conformance.trial import FAST, FULL, Factory, LawFailedError, Setting, Trial


class Law(NamedTuple):
    """A law: its name, what it says, whether a sampler claims it, and how it is checked."""

    name: str
    statement: str
    claimed: Callable[[Promises], bool]
    check: Callable[[Trial], None]


LAWS = (
    Law("positions", "positions are Python ints within the table", lambda p: p.python_ints, _batch_laws.positions),
    Law(
        "batch sizes",
        "all batches are full, except a short last one if claimed",
        lambda p: p.last_batch is not None,
        _batch_laws.batch_sizes,
    ),
    Law("distinct", "no anchor is repeated within a batch", lambda p: p.distinct, _batch_laws.distinct),
    Law(
        "even repeats",
        "rows of a stratum occur equally often in a batch, to within one",
        lambda p: p.even_repeats,
        _batch_laws.even_repeats,
    ),
    Law("one group", "a batch holds one group", lambda p: p.leaky == 0, _batch_laws.one_group),
    Law("leak", "the leak is the floor or the ceiling of its quota", lambda p: bool(p.leaky), _batch_laws.leak),
    Law("leak on average", "the leak matches its quota on average", lambda p: bool(p.leaky), _batch_laws.mean_leak),
    Law(
        "group shares",
        "each group has its share of an epoch's batches, to within one",
        lambda p: p.group_shares is not None,
        _batch_laws.group_shares,
    ),
    Law(
        "condition shares",
        "each condition has the floor or the ceiling of its quota",
        lambda p: p.condition_shares is not None,
        _batch_laws.condition_shares,
    ),
    Law(
        "condition shares on average",
        "each condition matches its quota on average",
        lambda p: p.condition_shares is not None,
        _batch_laws.mean_condition_shares,
    ),
    Law(
        "temporal window",
        "enough slots are in the temporal window around one time",
        lambda p: p.window_hours is not None,
        _batch_laws.temporal_window,
    ),
    Law(
        "exchangeable slots",
        "the row of a slot does not depend on its position in the batch",
        lambda p: p.exchangeable,
        _batch_laws.exchangeable_slots,
    ),
    Law(
        "coverage",
        "an epoch draws the rows of a stratum equally often, to within one",
        lambda p: p.coverage,
        _batch_laws.coverage,
    ),
    Law(
        "row inclusion",
        "rows of a stratum are drawn equally often on average",
        lambda p: p.row_inclusion,
        _batch_laws.row_inclusion,
    ),
    Law("length", "the length is the number of batches", lambda p: p.length, _run_laws.length),
    Law(
        "determinism",
        "the same arguments give the same batches",
        lambda p: p.deterministic,
        _run_laws.deterministic,
    ),
    Law(
        "bit stability",
        "the first epoch matches the recorded one bit for bit",
        lambda p: p.digest is not None,
        _run_laws.bit_stability,
    ),
    Law(
        "epoch choice",
        "set_epoch gives the same epoch each time",
        lambda p: p.epochs == "set_epoch",
        _run_laws.epoch_choice,
    ),
    Law(
        "epochs unrelated",
        "epochs have no more in common than expected by chance",
        lambda p: p.epochs is not None,
        _run_laws.unrelated_epochs,
    ),
    Law(
        "seeds unrelated",
        "seeds have no more in common than expected by chance",
        lambda p: p.seeded,
        _run_laws.unrelated_seeds,
    ),
    Law("equal steps", "all ranks have the same number of batches", lambda p: p.equal_steps, _run_laws.equal_steps),
    Law(
        "ranks interleave",
        "ranks interleave the batches of a single process",
        lambda p: p.ranks == "interleave",
        _run_laws.ranks_interleave,
    ),
    Law(
        "ranks disjoint",
        "no anchor occurs on two ranks",
        lambda p: p.ranks == "disjoint",
        _run_laws.ranks_disjoint,
    ),
    Law(
        "ranks complete",
        "all ranks together contain every anchor",
        lambda p: p.complete_ranks,
        _run_laws.ranks_complete,
    ),
    Law("rank cost", "a rank builds its own batches only", lambda p: p.rank_cost, _run_laws.rank_cost),
    Law("resume", "a stopped epoch resumes with the next batch", lambda p: p.resume, _run_laws.resume),
    Law(
        "elastic resume",
        "a stopped epoch resumes on another number of ranks",
        lambda p: p.elastic_resume,
        _run_laws.elastic_resume,
    ),
    Law(
        "replay",
        "a batch requested by index is that of the sequence",
        lambda p: p.random_access,
        _run_laws.replay,
    ),
)
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
