import numpy as np
import pandas as pd
import pytest

from viscy_train.evaluation.embeddings import EncoderEvaluation, Probe
from viscy_train.evaluation.probes import Accuracy
from viscy_train.report.summary import diagnose_run, summarize_run


def make_log(loss):
    """Return a log with validations between the steps, whose rows have no training loss."""
    steps = pd.DataFrame({"step": range(len(loss)), "train/loss": loss, "lr": 0.1})
    validations = pd.DataFrame({"step": [4, 9], "val/loss": [2.0, 1.9]})
    return pd.concat([steps, validations]).sort_values("step", ignore_index=True)


def summarize(log, probes=()):
    evaluation = EncoderEvaluation(rows=np.empty(0), embeddings=np.empty((0, 2)), recall=[], probes=list(probes))
    return summarize_run([], log, evaluation, has_held_out_queries=False)


def diagnose(log, steps_of_attempts=(0,), draws=()):
    return diagnose_run([], log, pd.DataFrame({"step": steps_of_attempts}), [], pd.Series(draws, dtype=float))


def test_a_loss_that_fell_is_not_a_problem():
    log = make_log(np.linspace(4, 2, 20))
    assert diagnose(log) == []
    assert "The training loss fell from 3.95 to 2.05; the validation loss ended at 1.90." in summarize(log)


@pytest.mark.parametrize("invalid", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_reported_with_the_step_to_replay(invalid):
    loss = np.linspace(4, 2, 20)
    loss[15:] = invalid
    (sentence,) = diagnose(make_log(loss))
    assert sentence == (
        "The loss was not finite at 5 of 20 logged steps, first at step 15; run viscy-train replay --step 15 to see "
        "the batch."
    )
    # With mixed precision, single steps may be invalid without harm.
    assert "The training loss fell from 4.00 to 2.53" in " ".join(summarize(make_log(loss)))


def make_probe(from_hours, to_hours, mean, n_fewest=3):
    accuracies = {"untrained": Accuracy(mean=0.5, error=0.1), "trained": Accuracy(mean=mean, error=0.042)}
    units = {"held_out": "position", "n_units": 6, "n_fewest": n_fewest}
    return Probe(from_hours=from_hours, to_hours=to_hours, chance=0.5, **units, **accuracies)


def test_probes_are_summarized_in_one_sentence():
    assert summarize(make_log([]), [make_probe(0, 4, 0.61), make_probe(8, 12, 0.83)])[-1] == (
        "A linear probe predicts the condition with 61% ± 4% balanced accuracy at 0.0 to 4.0 hours and 83% ± 4% "
        "balanced accuracy at 8.0 to 12.0 hours post infection (chance 50%)."
    )


def test_probes_of_few_positions_are_not_summarized():
    assert not any("probe" in sentence for sentence in summarize(make_log([]), [make_probe(0, 4, 0.22, n_fewest=2)]))


def test_attempts_and_frequent_draws_are_reported():
    log = make_log(np.linspace(4, 2, 20))
    assert diagnose(log, [0, 5, 1200]) == ["The run was resumed 2 times, at steps 5, 1,200."]
    sentences = diagnose(log, draws={("a", f"{number}"): 10.0 - number for number in range(6)})
    assert sentences[0] == "Each anchor of condition '0' of 'a' was drawn about 10 times per epoch."
    assert sentences[3] == (
        "Anchors of 3 more combinations of experiment and condition were drawn at least 5 times per epoch."
    )
