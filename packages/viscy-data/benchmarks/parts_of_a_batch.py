"""The parts of a batch: which steps its time goes to. Run with ``python -m benchmarks.parts_of_a_batch``.

Epochs are drawn alternately as they are and with every function timed, which shows what the timing itself takes. The
time of making lists is measured by making them once more.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter_ns

from viscy_data import AnchorIndex, FlexibleBatchSampler

from . import tables
from .clock import LISTING, LOOK_UP, REST, Clock, timed_package
from .epochs import drain
from .setting import OPTIONS, make_table, power_of_ten

_RANDOM = "random bits"
_DRAW = "drawing distinct rows"
_GATHER = "gather: rows to positions"
_ORDER = "random order"
_LIST = "Python list"
_PLAN = "plan: schedule, rounding, quotas, window, parts"
_BATCH = "Python per batch: iterator, generator"
_OTHER = "other"

# The step of a module, or of a function or class in it, which takes precedence. Everything else is "other".
_STEPS = {
    "_random.hash": _RANDOM,
    "_random.permutation": _DRAW,
    "_compose.segments": _DRAW,
    "_compose.draw": _DRAW,
    "_compose.leak": _DRAW,
    "_compose.block": _PLAN,
    "_compose.block.BlockComposer._rows": _DRAW,
    "_compose.block.BlockComposer._permuted_rows": _DRAW,
    "_compose.block._in_random_order": _ORDER,
    "_compose.epoch": _PLAN,
    "_compose.window": _PLAN,
    "_compose.window.avoid_window_rows": _DRAW,
    "_compose.window._row_keys": _DRAW,
    "_compose.window._contains": _DRAW,
    "_compose.parts": _PLAN,
    "_compose.parts.Parts.per_slot": _DRAW,
    "_compose.quotas": _PLAN,
    "_compose.bit_reversal": _PLAN,
    "_compose.rounding": _PLAN,
    "_compose.schedule": _PLAN,
    "index": _PLAN,
    LOOK_UP: _GATHER,
    LISTING: _LIST,
    REST: _BATCH,
}
# Modules that run a few lines for each batch: their time is what no timed function took.
_PER_BATCH = ("sampler", "_iterator")
# The function that returns the batches that are converted to lists.
_LISTED = "_compose.block._in_random_order"
_LEAST_SHARE = 0.01


@dataclass(frozen=True)
class Round:
    """An untimed epoch and a timed one: microseconds per batch; of the timed one also, by name, time and calls."""

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
    """Measure the parts and print them."""
    parser = argparse.ArgumentParser(prog="parts_of_a_batch", description=__doc__)
    parser.add_argument("--rows", type=int, default=10**7, help="rows of the table")
    parser.add_argument("--rounds", type=int, default=5, help="number of epochs of each kind")
    options = parser.parse_args(arguments)
    index = AnchorIndex.build(make_table(options.rows))
    rounds = _measure(index, options.rounds)
    title = f"wall-clock microseconds per batch, {power_of_ten(options.rows)} rows, all axes"
    tables.show(by_step(rounds), title)
    tables.show(by_function(rounds), f"by function, those with at least {_LEAST_SHARE:.0%}")


def step_of(name: str) -> str:
    """Return the step of a function: that of the longest prefix of its name that has one."""
    while name not in _STEPS:
        name, dot, _ = name.rpartition(".")
        if not dot:
            return _OTHER
    return _STEPS[name]


def by_step(rounds: list[Round]) -> tables.Table:
    """Return the table of steps, the slowest first, and the times to compare their sum with."""
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
        ["sum, timed", tables.spread(sums), ""],
        ["a batch, untimed", tables.spread(plain), ""],
        ["timed over untimed", tables.spread(ratio), ""],
    ]


def by_function(rounds: list[Round]) -> tables.Table:
    """Return the table of functions with their steps, the slowest first."""
    table = [["function, without the functions it calls", "step", "microseconds per batch", "calls per batch"]]
    for name in sorted(rounds[0].spent, key=lambda name: -_of(rounds, name)):
        if _of(rounds, name) >= _LEAST_SHARE * median(measured.plain for measured in rounds):
            calls = f"{rounds[0].calls.get(name, 0):.3g}"
            times = tables.spread(measured.spent.get(name, 0) for measured in rounds)
            table.append([name, step_of(name), times, calls])
    return table


def _of(rounds: list[Round], name: str) -> float:
    return median(measured.spent.get(name, 0.0) for measured in rounds)


def _measure(index: AnchorIndex, n_rounds: int) -> list[Round]:
    """Draw untimed and timed epochs alternately."""
    clock = Clock()
    plain = FlexibleBatchSampler(index, **OPTIONS)
    timed = FlexibleBatchSampler(replace(index, order=clock.timed_array(index.order)), **OPTIONS)
    rounds = []
    for number in range(n_rounds):
        for sampler in (plain, timed):
            sampler.set_epoch(number)
        start = perf_counter_ns()
        n_batches = drain(iter(plain))
        alone = perf_counter_ns() - start
        with timed_package(clock, _PER_BATCH, listed=_LISTED) as names:
            clock.reset()
            start = perf_counter_ns()
            drain(iter(timed))
            clock.charge_rest(perf_counter_ns() - start)
        if _LISTED not in names:
            raise LookupError(f"_LISTED must name a function of the package, got {_LISTED}; correct it in {__name__}")
        spent, calls = (
            {name: value / unit for name, value in counter.items()}
            for counter, unit in ((clock.spent, 1e3 * n_batches), (clock.calls, n_batches))
        )
        rounds.append(Round(alone / 1e3 / n_batches, spent, calls))
    return rounds


if __name__ == "__main__":
    main()
