"""The benchmark of overhead trains the same in each way, and states what `fit` adds."""

import pytest


@pytest.fixture(scope="module")
def overhead(benchmark_module):
    """The module `benchmarks.overhead`."""
    return benchmark_module("overhead")


def test_what_a_way_adds_is_its_difference_to_the_bare_loop_of_its_round(overhead):
    rounds = [
        {overhead.BARE: overhead.Cost(51.0, 5.0), overhead.FIT: overhead.Cost(52.0, 6.5)},
        {overhead.BARE: overhead.Cost(60.0, 6.0), overhead.FIT: overhead.Cost(63.0, 8.0)},
        {overhead.BARE: overhead.Cost(70.0, 7.0), overhead.FIT: overhead.Cost(72.0, 8.0)},
    ]
    _, _, bare, fit = overhead._format_ways(rounds).splitlines()
    assert bare == "| a bare loop | 60 (51 to 70) |  |  | 6 (5 to 7) |  |  |"
    shares = "2 (1 to 3) | 4.0% (2.0% to 6.0%) | 8 (6.5 to 8) | 1.5 (1 to 2) | 3.0% (2.0% to 4.0%)"
    assert fit == f"| viscy-train fit | 63 (52 to 72) | {shares} |"


@pytest.mark.slow
@pytest.mark.weekly
def test_each_way_trains_the_same_steps(overhead, tmp_path, monkeypatch):
    monkeypatch.setattr(overhead, "STEP_MS", 0.0)
    monkeypatch.setattr(overhead, "_in_new_process", lambda function, *arguments: function(*arguments))
    config = overhead.write_project(tmp_path, 20)
    losses = {}
    for way in (overhead.BARE, overhead.LIGHTNING, overhead.FIT):
        losses[way] = []
        monkeypatch.setattr(overhead.FixedStep, "training_step", _recorded(overhead.FixedStep, losses[way]))
        assert overhead.measure(way, config, 4).wall > 0
        monkeypatch.undo()
        monkeypatch.setattr(overhead, "STEP_MS", 0.0)
    assert len(set(map(tuple, losses.values()))) == 1
    assert {"BatchRecorder", "CompositionLogger", "LossLogger"} <= set(overhead.profile(config, 4))


def _recorded(module, losses):
    original = module.training_step

    def training_step(self, batch):
        loss = original(self, batch)
        losses.append(round(loss.item(), 5))
        return loss

    return training_step
