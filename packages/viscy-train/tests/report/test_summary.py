import numpy as np
import pandas as pd
import pytest

from viscy_train.evaluation.chance import Chance
from viscy_train.evaluation.embeddings import EncoderEvaluation, Probe
from viscy_train.evaluation.probes import Accuracy
from viscy_train.evaluation.retrieval import Recall
from viscy_train.report.summary import describe_draws, diagnose_run, summarize_run


def make_log(loss):
    """Return a log with validations between the steps, whose rows have no training loss."""
    steps = pd.DataFrame({"step": range(len(loss)), "train/loss": loss, "lr": 0.1})
    validations = pd.DataFrame({"step": [4, 9], "val/loss": [2.0, 1.9]})
    return pd.concat([steps, validations]).sort_values("step", ignore_index=True)


def summarize(log, probes=(), recall=(), **more):
    learned = {"recall": list(recall), "probes": list(probes)}
    evaluation = EncoderEvaluation(rows=np.empty(0), embeddings=np.empty((0, 2)), **learned)
    return summarize_run([], log, evaluation, has_held_out_queries=False, **more)


def diagnose(log, draws=(), recall=()):
    return diagnose_run([], log, list(recall), pd.Series(draws, dtype=float))


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
        "The loss was not finite at 5 of 20 logged steps, first at step 15; run `viscy-train replay --step 15` to see "
        "the batch."
    )
    # With mixed precision, single steps may be invalid without harm.
    assert "The training loss fell from 4.00 to 2.53" in " ".join(summarize(make_log(loss)))


def make_probe(from_hours, to_hours, mean, n_fewest=3, permuted=None):
    accuracies = {
        "untrained": Accuracy(mean=0.5, error=0.1, n_units=6),
        "trained": Accuracy(mean=mean, error=0.042, n_units=6),
    }
    units = {"held_out": "position", "n_units": 6, "n_fewest": n_fewest, "permuted": permuted}
    return Probe(from_hours=from_hours, to_hours=to_hours, chance=0.5, **units, **accuracies)


def test_a_probe_above_chance_is_summarized_with_interval_and_permuted_labels():
    permuted = Chance(low=0.36, high=0.64, p=0.005, n_arrangements=1e4)
    sentences = summarize(make_log([]), [make_probe(8, 12, 0.83, permuted=permuted)], hours="hours after the drug")
    assert sentences[-1] == (
        "A linear probe predicts the condition with 83% (72% to 94%) balanced accuracy at 8.0 to 12.0 hours after the "
        "drug, in 6 positions that it was not fitted to (with permuted labels 36% to 64%, p = 0.005)."
    )


@pytest.mark.parametrize(
    ("n_arrangements", "few"),
    [(1e4, ""), (20, "; so few positions permit only 20 labelings, and more would tell")],
)
def test_a_probe_that_chance_explains_is_not_a_finding(n_arrangements, few):
    permuted = Chance(low=0.36, high=0.64, p=0.11, n_arrangements=n_arrangements)
    assert summarize(make_log([]), [make_probe(0, 4, 0.61, permuted=permuted)])[-1] == (
        "The condition at 0.0 to 4.0 hours post infection was not shown to be in the embeddings: the 61% (50% to 72%) "
        "balanced accuracy of a linear probe, in 6 positions that it was not fitted to, is indistinguishable from "
        f"chance (with permuted labels 36% to 64%, p = 0.11{few})."
    )


def test_probes_of_few_positions_are_not_summarized():
    assert not any("probe" in sentence for sentence in summarize(make_log([]), [make_probe(0, 4, 0.22, n_fewest=2)]))


def make_recall(untrained, trained_interval):
    intervals = {"untrained_interval": (0.3, 0.7), "trained_interval": trained_interval, "n_units": 8}
    values = {"frames": 1, "hours": 0.5, "chance": 0.02, "untrained": untrained, "trained": 0.4}
    return Recall(**values, **intervals, chance_in_position=0.08, n_queries=400)


def test_recall_is_summarized_with_its_interval_and_with_chance_within_the_position():
    (sentence,) = summarize(make_log([]), recall=[make_recall(0.2, (0.3, 0.5))])[1:]
    assert "For 40% (30% to 50% over 8 positions) of the embedded cells" in sentence
    assert "20% before training, 2.0% by chance, 8.0% by chance within its position" in sentence


def test_a_lower_recall_is_a_problem_only_beyond_its_interval():
    log = make_log(np.linspace(4, 2, 20))
    assert diagnose(log, recall=[make_recall(0.45, (0.3, 0.5))]) == []
    (sentence,) = diagnose(log, recall=[make_recall(0.55, (0.3, 0.5))])
    assert "Recall@1 is lower than before training. Look at the pairs with `viscy-train replay`" in sentence


OFTEN = {("a", f"{number}"): 10.0 - number for number in range(6)}


def test_frequent_draws_are_described():
    sentences = describe_draws(pd.Series(OFTEN))
    assert sentences[0] == "Each anchor of condition '0' of 'a' was drawn about 10 times per epoch."
    assert sentences[3] == (
        "Anchors of 3 more combinations of experiment and condition were drawn at least 5 times per epoch."
    )


def test_frequent_draws_are_a_problem_only_if_the_validation_loss_rose():
    log = make_log(np.linspace(4, 2, 20))
    assert diagnose(log, OFTEN) == []
    log.loc[log["val/loss"] == 1.9, "val/loss"] = 3.0
    (sentence,) = diagnose(log, OFTEN)
    assert "Anchors of '0' of 'a' were drawn up to 10 times: `data.sampler.condition_ratio`" in sentence
    (sentence,) = diagnose(log)
    assert "the encoder may be overfitting. Stop earlier" in sentence
    assert "drawn" not in sentence
