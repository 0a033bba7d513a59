"""Headroom is measured on the batches of a run, and leaves no trace."""

import pytest

from viscy_train.cli.entry_point import main
from viscy_train.exit_codes import EXIT_USER_ERROR
from viscy_train.training.headroom import WARM_UP, Headroom, PhasedBatches, describe_headroom


def test_batches_are_loaded_then_taken_from_memory():
    loaded = []

    def load():
        for number in range(100):
            loaded.append(number)
            yield {"batch": number}

    numbers = [batch["batch"] for batch in PhasedBatches(load(), 7)]
    n = WARM_UP + 7
    assert numbers == [*range(n), *(n - 8 + number % 8 for number in range(n))]
    assert len(numbers) == len(PhasedBatches([], 7))
    assert loaded == list(range(n))


def test_the_sentences_say_what_limits_and_what_could_be_gained():
    limited_by_data = Headroom(loaded=[0.5] * 5, in_memory=[0.1] * 5)
    times, advice = describe_headroom(limited_by_data)
    assert "takes 0.5 s (0.5 to 0.5) with normal loading and 0.1 s (0.1 to 0.1) from memory: mean of 5 batches" in times
    assert "Reading limits training; faster loading could make it 5 times as fast at most" in advice
    limited_by_network = Headroom(loaded=[0.1], in_memory=[0.1])
    assert "The network limits training" in describe_headroom(limited_by_network)[1]
    disturbed = Headroom(loaded=[0.1] * 5, in_memory=[0.2] * 5)
    assert "something else disturbed the measurement" in describe_headroom(disturbed)[1]


@pytest.mark.slow
def test_headroom_leaves_no_trace_of_a_run(make_project, tmp_path, capsys):
    config = make_project(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["fit", "--config", str(config), "--headroom", "2"]) == 0
    assert "A batch takes " in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before
    assert main(["fit", "--config", str(config), "--headroom", "100000"]) == EXIT_USER_ERROR
    assert "--headroom must be at most" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
