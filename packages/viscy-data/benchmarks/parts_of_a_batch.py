"""The parts of a batch: where its time goes, by steps of the composer. ``python -m benchmarks.parts_of_a_batch``.

Epochs are drawn in turn as they are and with every function behind a clock, so what the clock itself takes is seen.
What making lists takes is found by making them once more.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter_ns

from viscy_data import AnchorIndex, FlexibleBatchSampler

from . import tables
from .clock import LISTING, LOOK_UP, REST, Clock, clocked
from .epochs import drain
from .setting import OPTIONS, make_table, power_of_ten

_WORDS = "random words"
_DRAW = "drawing distinct rows"
_GATHER = "gather: rows to positions"
_ORDER = "random order"
_LIST = "Python list"
_PLAN = "plan: tickets, rounding, quotas, focus, parts"
_BATCH = "Python per batch: iterator, generator"
_OTHER = "other"

# The step of a module, or of a function or class in it, which takes precedence. What is not here is "other".
_STEPS = {
    "_mix": _WORDS,
    "_deal": _DRAW,
    "_deck": _DRAW,
    "_draw": _DRAW,
    "_leak": _DRAW,
    "_block": _PLAN,
    "_block.BlockComposer._rows": _DRAW,
    "_block.BlockComposer._dealt_rows": _DRAW,
    "_block._in_random_order": _ORDER,
    "_epoch": _PLAN,
    "_focus": _PLAN,
    "_focus.keep_clear_of_focal": _DRAW,
    "_focus._held_by_focal": _DRAW,
    "_focus._take_cards": _DRAW,
    "_parts": _PLAN,
    "_parts.Parts.of_slots": _DRAW,
    "_quotas": _PLAN,
    "_reversal": _PLAN,
    "_rounding": _PLAN,
    "_tickets": _PLAN,
    "index": _PLAN,
    LOOK_UP: _GATHER,
    LISTING: _LIST,
    REST: _BATCH,
}
# Modules that run a few lines for each batch: what they take is what no clocked function took.
_PER_BATCH = ("sampler", "_iterator")
# The function whose result is the batches that are made into lists.
_LISTED = "_block._in_random_order"
_LEAST_SHARE = 0.01


@dataclass(frozen=True)
class Round:
    """An epoch as it is and one with clocks: microseconds per batch, of the latter also by name, and calls."""

    plain: float
    spent: dict[str, float]
    calls: dict[str, float]

    def by_step(self) -> dict[str, float]:
        """Return microseconds per batch of each step."""
        steps = dict.fromkeys((*_STEPS.values(), _OTHER), 0.0)
        for name, us in self.spent.items():
            steps[step_of(name)] += us
        return steps


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the parts."""
    parser = argparse.ArgumentParser(prog="parts_of_a_batch", description=__doc__)
    parser.add_argument("--rows", type=int, default=10**7, help="rows of the table")
    parser.add_argument("--rounds", type=int, default=5, help="how many epochs of each kind are drawn")
    options = parser.parse_args(arguments)
    index = AnchorIndex.build(make_table(options.rows))
    rounds = _measured(index, options.rounds)
    what = f"microseconds on the wall per batch, {power_of_ten(options.rows)} rows, all axes"
    tables.show(by_step(rounds), what)
    tables.show(by_function(rounds), f"the same by function, from {_LEAST_SHARE:.0%} on")


def step_of(name: str) -> str:
    """Return the step of a function: that of the longest beginning of its name that has one."""
    while name not in _STEPS:
        name, dot, _ = name.rpartition(".")
        if not dot:
            return _OTHER
    return _STEPS[name]


def by_step(rounds: list[Round]) -> tables.Table:
    """Return the table of steps, those that take most first, and what their sum is to be compared with."""
    table = [["step", "median (least to greatest)", "share"]]
    steps = [measured.by_step() for measured in rounds]
    sums = [sum(step.values()) for step in steps]
    for name in sorted(steps[0], key=lambda name: -median(step[name] for step in steps)):
        share = median(step[name] / total for step, total in zip(steps, sums, strict=True))
        table.append([name, tables.spread(step[name] for step in steps), f"{share:.1%}"])
    plain = [measured.plain for measured in rounds]
    ratio = [total / alone for total, alone in zip(sums, plain, strict=True)]
    return [
        *table,
        ["sum, with clocks", tables.spread(sums), ""],
        ["a batch without clocks", tables.spread(plain), ""],
        ["sum over a batch without clocks", tables.spread(ratio), ""],
    ]


def by_function(rounds: list[Round]) -> tables.Table:
    """Return the table of functions with their steps, those that take most first."""
    table = [["function, without those it calls", "step", "microseconds per batch", "calls per batch"]]
    for name in sorted(rounds[0].spent, key=lambda name: -_of(rounds, name)):
        if _of(rounds, name) >= _LEAST_SHARE * median(measured.plain for measured in rounds):
            calls = f"{rounds[0].calls.get(name, 0):.3g}"
            times = tables.spread(measured.spent.get(name, 0) for measured in rounds)
            table.append([name, step_of(name), times, calls])
    return table


def _of(rounds: list[Round], name: str) -> float:
    return median(measured.spent.get(name, 0.0) for measured in rounds)


def _measured(index: AnchorIndex, n_rounds: int) -> list[Round]:
    """Draw epochs with and without clocks, in turn."""
    clock = Clock()
    plain = FlexibleBatchSampler(index, **OPTIONS)
    timed = FlexibleBatchSampler(replace(index, order=clock.looking_up(index.order)), **OPTIONS)
    rounds = []
    for number in range(n_rounds):
        for sampler in (plain, timed):
            sampler.set_epoch(number)
        start = perf_counter_ns()
        n_batches = drain(iter(plain))
        alone = perf_counter_ns() - start
        with clocked(clock, _PER_BATCH, listed=_LISTED) as names:
            clock.forget()
            start = perf_counter_ns()
            drain(iter(timed))
            clock.whole(perf_counter_ns() - start)
        if _LISTED not in names:
            raise LookupError(f"there must be a {_LISTED}, whose result is listed; name another in {__name__}")
        spent, calls = (
            {name: value / unit for name, value in counter.items()}
            for counter, unit in ((clock.spent, 1e3 * n_batches), (clock.calls, n_batches))
        )
        rounds.append(Round(alone / 1e3 / n_batches, spent, calls))
    return rounds


if __name__ == "__main__":
    main()
