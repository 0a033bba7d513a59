import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from viscy_train.study import separation
from viscy_train.study.measures import MEASURES, measure

JUDGED = ["condition", "mixing", "hours_r2"]


def trained_rows(table, n_held_out=2):
    names = sorted(table["experiment"].unique())
    return ~table["experiment"].isin(names[-n_held_out:]).to_numpy()


def test_the_judged_measures_come_first_and_have_thresholds():
    thresholds = {name: one.threshold for name, one in MEASURES.items() if one.threshold is not None}
    assert thresholds == {"condition": 0.02, "mixing": 0.05, "hours_r2": 0.05}
    assert list(MEASURES)[:3] == JUDGED


def test_noise_is_measured_as_chance(make_rows, make_embeddings):
    table = make_rows(n_experiments=6, n_tracks=12)
    values, reasons = measure(make_embeddings(table), table, trained_rows(table), seed=0)
    assert list(values) == list(MEASURES)
    assert reasons == {}
    for name in ("condition", "condition_by_neighbors", "condition_within_experiment"):
        assert values[name] == pytest.approx(0.5, abs=0.1), name
    assert values["mixing"] == pytest.approx(1, abs=0.05)
    assert values["mixing_of_held_out"] == pytest.approx(1, abs=0.06)
    assert values["hours_r2"] == pytest.approx(0, abs=0.05)
    assert values["experiment_of_unseen_positions"] == pytest.approx(1 / 4, abs=0.08)
    assert values["experiment_of_unseen_experiments"] == pytest.approx(1 / 2, abs=0.1)
    assert values["recall_at_1"] < 0.1
    assert values["effective_rank"] == pytest.approx(8, abs=0.3)


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ("condition", ["condition", "condition_by_neighbors", "condition_within_experiment"]),
        ("experiment", ["experiment_of_unseen_positions", "experiment_of_unseen_experiments"]),
        ("t", ["hours_r2"]),
    ],
)
def test_a_planted_signal_is_measured(make_rows, make_embeddings, column, names):
    table = make_rows(n_tracks=2)
    values, _ = measure(make_embeddings(table, **{column: 30.0}), table, trained_rows(table), seed=0)
    assert [values[name] for name in names] == pytest.approx([1] * len(names), abs=0.03)


def test_tracks_that_look_different_are_recalled(make_rows):
    table = make_rows(n_tracks=2)
    values, _ = measure(np.eye(table["track_id"].max() + 1)[table["track_id"]], table, trained_rows(table), seed=0)
    assert values["recall_at_1"] == 1


def test_experiments_that_look_different_do_not_mix(make_rows, make_embeddings):
    table = make_rows(n_tracks=8)
    look = np.eye(8)[table["experiment"].factorize()[0]]
    values, _ = measure(make_embeddings(table) + 30 * look, table, trained_rows(table), seed=0)
    assert (values["mixing"], values["mixing_of_held_out"]) == (0, 0)


def test_a_look_that_no_trained_experiment_has_does_not_hide_the_condition_or_the_hours(make_rows, make_embeddings):
    """Both are measured within each experiment, so an offset of all its rows makes no difference."""
    table = make_rows()
    embeddings = make_embeddings(table, condition=20.0, t=20.0)
    shifted = embeddings + 50 * (table["experiment"] == "day4").to_numpy()[:, np.newaxis]
    values, _ = measure(shifted, table, trained_rows(table, 1), seed=0)
    assert values["condition"] == 1
    assert values["hours_r2"] == pytest.approx(1, abs=0.02)


def test_hours_do_not_predict_the_condition(make_rows, make_embeddings):
    """The virus is imaged two hours later than the mock, so that two of six hours are common."""
    table = make_rows(n_tracks=12)
    late = table["condition"] == "virus"
    table = table.assign(hours_post_infection=table["t"] + np.where(late, 2.0, 0.0))
    embeddings = make_embeddings(table, hours_post_infection=10.0)
    values, _ = measure(embeddings, table, trained_rows(table), seed=0)
    assert values["hours_r2"] > 0.9
    for name in ("condition", "condition_by_neighbors", "condition_within_experiment"):
        assert values[name] == pytest.approx(0.5, abs=0.17), name
    unmatched, _ = measure(embeddings, table.assign(hours_post_infection=1.0), trained_rows(table), seed=0)
    assert unmatched["condition"] > 0.85


def test_three_conditions_are_measured_by_balanced_accuracy(make_rows, make_embeddings):
    table = make_rows(n_tracks=8, conditions=("drug", "mock", "virus"))
    noise, _ = measure(make_embeddings(table), table, trained_rows(table), seed=0)
    assert noise["condition"] == pytest.approx(1 / 3, abs=0.12)
    signal = make_embeddings(table) + 30 * np.eye(8)[table["condition"].factorize()[0]]
    found, _ = measure(signal, table, trained_rows(table), seed=0)
    assert [found[name] for name in ("condition", "condition_by_neighbors")] == [1, 1]


def test_held_out_positions_test_probes_of_the_experiments_that_were_trained_on(make_rows, make_embeddings):
    table = make_rows()
    embeddings = make_embeddings(table, condition=20.0, experiment=20.0)
    values, reasons = measure(embeddings, table, (table["field"] == 0).to_numpy(), seed=0)
    assert [values[name] for name in ("condition", "experiment_of_unseen_positions")] == pytest.approx([1, 1], abs=0.03)
    assert set(reasons) == {"condition_within_experiment", "experiment_of_unseen_experiments"}
    assert "two held-out experiments" in reasons["experiment_of_unseen_experiments"]


def test_experiments_with_one_condition_each_are_pooled(make_rows, make_embeddings):
    table = make_rows()
    virus = table["experiment"].isin(["day1", "day3"])
    table = table[np.where(virus, table["condition"] == "virus", table["condition"] == "mock")]
    values, reasons = measure(make_embeddings(table, condition=20.0), table, trained_rows(table), seed=0)
    assert values["condition"] == 1
    assert "no trained experiment has two conditions" in reasons["condition_within_experiment"]


@pytest.mark.parametrize(
    ("change", "n_held_out", "name", "reason"),
    [
        (lambda t: t[(t["experiment"] != "day4") | (t["condition"] == "mock")], 1, "condition", "got 1 common"),
        (
            lambda t: t.assign(hours_post_infection=t["t"] + np.where(t["condition"] == "mock", 0.0, 10.0)),
            1,
            "condition",
            "rows that fit the probe have no hours in common",
        ),
        (
            lambda t: t.assign(
                hours_post_infection=t["t"]
                + np.where((t["condition"] == "mock") | (t["experiment"] != "day4"), 0.0, 10.0)
            ),
            1,
            "condition",
            "rows that test the probe have no hours in common",
        ),
        (lambda t: t[t["experiment"].isin(["day1", "day4"])], 1, "mixing", "mixing needs trained rows of two"),
        (lambda t: t, 1, "mixing_of_held_out", "mixing needs held-out rows of two experiments"),
        (lambda t: t[t["t"] == 0], 1, "hours_r2", "all trained rows have the same hours"),
        (
            lambda t: t[(t["experiment"] != "day4") | (t["t"] == 0)],
            1,
            "hours_r2",
            "all held-out rows of an experiment have the same hours",
        ),
        (lambda t: t[t["t"] == 0], 1, "recall_at_1", "no held-out track has two consecutive frames"),
        (lambda t: t, 1, "experiment_of_unseen_experiments", "needs two held-out experiments with two positions"),
        (lambda t: t.assign(position="only"), 2, "experiment_of_unseen_positions", "two trained experiments with two"),
        (lambda t: t.assign(condition="mock"), 1, "condition_within_experiment", "no trained experiment has two"),
    ],
)
def test_a_measure_that_is_not_defined_says_why(make_rows, make_embeddings, change, n_held_out, name, reason):
    table = change(make_rows()).reset_index(drop=True)
    values, reasons = measure(make_embeddings(table), table, trained_rows(table, n_held_out), seed=0)
    assert np.isnan(values[name])
    assert reason in reasons[name]
    assert {one for one in values if np.isnan(values[one])} == set(reasons)


def test_embeddings_that_are_not_finite_have_no_measure(make_rows, make_embeddings):
    table = make_rows()
    embeddings = make_embeddings(table)
    embeddings[3, 2] = np.nan
    values, reasons = measure(embeddings, table, trained_rows(table), seed=0)
    assert np.isnan(list(values.values())).all()
    assert set(reasons.values()) == {"the embeddings are not finite"}


def test_measures_do_not_depend_on_the_number_of_threads(make_rows, make_embeddings):
    table = make_rows(n_tracks=16)
    embeddings = make_embeddings(table, condition=0.5, experiment=0.5)
    found = []
    for threads in (1, 2, 1):
        with threadpool_limits(threads):
            found.append(measure(embeddings, table, trained_rows(table), seed=0).values)
    assert found[0] == found[1] == found[2]


def test_every_probe_is_checked_for_leaks(make_rows, make_embeddings, monkeypatch):
    """Rows that any classifier or regression is fitted to were checked against those that test it."""
    from sklearn.linear_model import LogisticRegression, Ridge

    table = make_rows()
    checked, fitted = [], []
    require = separation.require_separation

    def record(observations, fit, test):
        checked.append((len(fit), len(test)))
        require(observations, fit, test)

    monkeypatch.setattr(separation, "require_separation", record)
    for estimator in (LogisticRegression, Ridge):
        fit = estimator.fit

        def count(self, *arguments, fit=fit, **options):
            fitted.append(len(arguments[0]))
            return fit(self, *arguments, **options)

        monkeypatch.setattr(estimator, "fit", count)
    measure(make_embeddings(table), table, trained_rows(table), seed=0)
    # Condition, hours, two folds of the condition in each of two experiments, and two folds of the experiment twice.
    assert sorted(fitted) == [32] * 4 + [64] * 4 + [128] * 2
    # The neighbors need no fit.
    assert sorted(checked) == [(32, 32)] * 4 + [(64, 64)] * 4 + [(128, 128)] * 3
