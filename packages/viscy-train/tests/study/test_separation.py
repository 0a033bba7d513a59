import numpy as np
import pytest

from viscy_train.evaluation.probes import fit_linear_probe
from viscy_train.study.separation import LeakingProbeError, apply_probe


def accuracy(embeddings, labels):
    def probe(fit, test):
        return (fit_linear_probe(embeddings[fit], labels[fit]).predict(embeddings[test]) == labels[test]).mean()

    return probe


def test_a_probe_of_separate_rows_is_applied(make_rows, make_embeddings):
    table = make_rows()
    held_out = (table["experiment"] == "day4").to_numpy()
    probe = accuracy(make_embeddings(table, condition=20.0), table["condition"].to_numpy())
    assert apply_probe(probe, table, np.flatnonzero(~held_out), np.flatnonzero(held_out)) == 1


@pytest.mark.parametrize(
    ("column", "shared", "example"),
    [("t", "lineage", "got 64 of them, such as 0"), ("cell", "position", "got 16 of them, such as day1 mock/0")],
)
def test_a_leaking_probe_is_rejected(make_rows, make_embeddings, column, shared, example):
    """Tested on other frames of the same cells, or on other cells of the same positions."""
    table = make_rows()
    is_fit = (table[column] < 2).to_numpy()
    probe = accuracy(make_embeddings(table), table["condition"].to_numpy())
    with pytest.raises(LeakingProbeError, match=f"not be tested on a {shared} that it was fitted to, {example}"):
        apply_probe(probe, table, np.flatnonzero(is_fit), np.flatnonzero(~is_fit))


def test_a_leaking_probe_would_predict_what_embeddings_do_not_contain(make_rows):
    """Cells that merely differ from each other give their random labels away in their next frames."""
    table = make_rows()
    tracks = table["track_id"].to_numpy()
    rng = np.random.default_rng(0)
    embeddings, labels = rng.normal(size=(tracks.max() + 1, 80))[tracks], rng.integers(2, size=tracks.max() + 1)[tracks]
    leaking = (table["t"] < 2).to_numpy()
    assert accuracy(embeddings, labels)(leaking, ~leaking) == 1
    separate = np.isin(table["experiment"], ["day1", "day2"])
    assert apply_probe(accuracy(embeddings, labels), table, np.flatnonzero(separate), np.flatnonzero(~separate)) < 0.75


def test_positions_of_different_experiments_may_have_the_same_name(make_rows):
    table = make_rows()
    first, second = (np.flatnonzero(table["experiment"] == name) for name in ("day1", "day2"))
    assert set(table["position"][first]) == set(table["position"][second])
    assert apply_probe(lambda fit, test: len(fit) + len(test), table, first, second) == 128
