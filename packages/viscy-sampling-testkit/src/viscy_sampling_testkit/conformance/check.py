"""Conformance: a batch sampler held to every law that it claims, in one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from viscy_sampling_testkit.conformance import _batch_laws, _run_laws
from viscy_sampling_testkit.conformance.promises import Promises
from viscy_sampling_testkit.conformance.report import Report, Verdict
from viscy_sampling_testkit.conformance.trial import FAST, FULL, BrokenLawError, Factory, Setting, Trial


class Law(NamedTuple):
    """A law: what it says, whether it is claimed, and how it is checked."""

    name: str
    statement: str
    claimed: Callable[[Promises], bool]
    check: Callable[[Trial], None]


LAWS = (
    Law("positions", "positions are Python ints within the table", lambda p: p.python_ints, _batch_laws.positions),
    Law(
        "batch sizes",
        "all batches are full, but for a short last one where it is promised",
        lambda p: p.last_batch is not None,
        _batch_laws.batch_sizes,
    ),
    Law("distinct", "no anchor comes twice in a batch", lambda p: p.distinct, _batch_laws.distinct),
    Law(
        "even repeats",
        "rows of a cell come equally often in a batch, to within one",
        lambda p: p.even_repeats,
        _batch_laws.even_repeats,
    ),
    Law("one group", "a batch is of one group", lambda p: p.leaky == 0, _batch_laws.one_group),
    Law("leak", "the leak is the floor or the ceiling of its quota", lambda p: bool(p.leaky), _batch_laws.leak),
    Law("leak on average", "the leak is its quota on average", lambda p: bool(p.leaky), _batch_laws.mean_leak),
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
        "each condition has its quota on average",
        lambda p: p.condition_shares is not None,
        _batch_laws.mean_condition_shares,
    ),
    Law(
        "focal window",
        "slots lie within the window around one time",
        lambda p: p.window_hours is not None,
        _batch_laws.focal_window,
    ),
    Law(
        "exchangeable slots",
        "the place of a slot says nothing about it",
        lambda p: p.exchangeable,
        _batch_laws.exchangeable_slots,
    ),
    Law(
        "coverage",
        "an epoch deals the rows of a cell equally often, to within one",
        lambda p: p.coverage,
        _batch_laws.coverage,
    ),
    Law(
        "row inclusion",
        "every row is drawn as often as those it is alike",
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
        "the first epoch is the recorded one, bit for bit",
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
        "epochs have no more in common than by chance",
        lambda p: p.epochs is not None,
        _run_laws.unrelated_epochs,
    ),
    Law(
        "seeds unrelated",
        "seeds have no more in common than by chance",
        lambda p: p.seeded,
        _run_laws.unrelated_seeds,
    ),
    Law("equal steps", "all ranks have equally many batches", lambda p: p.equal_steps, _run_laws.equal_steps),
    Law(
        "ranks interleave",
        "ranks take turns in the batches of a single process",
        lambda p: p.ranks == "interleave",
        _run_laws.ranks_interleave,
    ),
    Law(
        "ranks disjoint",
        "no anchor comes on two ranks",
        lambda p: p.ranks == "disjoint",
        _run_laws.ranks_disjoint,
    ),
    Law(
        "ranks complete",
        "all ranks together show every anchor",
        lambda p: p.complete_ranks,
        _run_laws.ranks_complete,
    ),
    Law("rank cost", "a rank builds its own batches only", lambda p: p.rank_cost, _run_laws.rank_cost),
    Law("resume", "a stopped epoch goes on where it was left", lambda p: p.resume, _run_laws.resume),
    Law(
        "elastic resume",
        "a stopped epoch goes on with other ranks",
        lambda p: p.elastic_resume,
        _run_laws.elastic_resume,
    ),
    Law(
        "replay",
        "a batch asked for by its number is that of the sequence",
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
    """Hold a batch sampler to every law that it claims, and report which it keeps.

    Laws are tried on small examples first: few options, then few ranks. The first failure ends a law, and of the
    batches that it was found in as few of the first ones are kept as still show it. What the sampler raises is a
    failure, too, of the law that made it raise.

    Parameters
    ----------
    make_sampler : callable
        Called as ``make_sampler(rank, num_replicas, **options)``; returns a new sampler, an iterable of batches. Where
        the promises say that it is seeded, ``seed`` is among the options.
    promises : Promises
        What it claims.
    setting : {"fast", "full"} or Setting, default "fast"
        How hard it is tried: some seconds, or more seeds, ranks and batches, and a stop at every position.
    options : sequence of mapping, default ({},)
        Options with each of which every promise must hold.
    false_alarm : float, default 1e-6
        Largest probability that one law is found broken by chance, for each of the options.

    Returns
    -------
    Report
        A verdict on each of the `LAWS`.

    Raises
    ------
    ValueError
        If the setting has no such name, or there are no options.

    Examples
    --------
    >>> import pandas as pd
    >>> def make_sampler(rank, num_replicas):
    ...     return [[0, 1], [2, 3], [4]][rank::num_replicas]
    >>> promises = Promises(
    ...     table=pd.DataFrame(index=range(5)), batch_size=2, last_batch="short", distinct=True, equal_steps=True
    ... )
    >>> report = check_batch_sampler(make_sampler, promises)
    >>> report.kept, report.broken
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
    """Make a trial for each choice of options, fewest options first; the parameters are those of the check."""
    if isinstance(setting, str):
        if setting not in _SETTINGS:
            raise ValueError(f"setting must be one of {', '.join(_SETTINGS)}, or a Setting, got {setting!r}")
        setting = _SETTINGS[setting]
    if not options:
        raise ValueError("options must hold at least one mapping, got none; give ({},) for a sampler without options")
    return [Trial(make_sampler, promises, setting, chosen, false_alarm) for chosen in sorted(options, key=len)]


def check_law(name: str, trials: Sequence[Trial]) -> Verdict:
    """Hold a sampler to one law, in each trial until it is found broken.

    Parameters
    ----------
    name : str
        Name of one of the `LAWS`.
    trials : sequence of Trial
        What `make_trials` returned. Laws that are checked with the same trials share what is drawn.

    Returns
    -------
    Verdict
        What became of the law.
    """
    law = next(law for law in LAWS if law.name == name)
    verdict = Verdict(law=law.name, statement=law.statement, outcome="not claimed")
    if not law.claimed(trials[0].promises):
        return verdict
    start, tried = time.perf_counter(), 0
    for trial in trials:
        verdict = _verdict(law, trial)
        tried += verdict.tried
        if verdict.outcome != "kept":
            break
    return replace(verdict, tried=tried, seconds=time.perf_counter() - start)


def _verdict(law: Law, trial: Trial) -> Verdict:
    trial.tried, trial.note = 0, ""
    kept = Verdict(law=law.name, statement=law.statement, outcome="kept")
    try:
        law.check(trial)
    except BrokenLawError as broken:
        return replace(kept, outcome="broken", tried=trial.tried, example=broken.example, message=str(broken))
    except AssertionError as error:
        return replace(kept, outcome="broken", tried=trial.tried, example=trial.options, message=str(error))
    except ValueError as error:
        return replace(kept, outcome="untested", tried=trial.tried, message=str(error))
    return replace(kept, tried=trial.tried, note=trial.note)
