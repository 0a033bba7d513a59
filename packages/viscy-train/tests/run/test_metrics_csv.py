import pandas as pd
import pytest
import torch

from viscy_train.run.metrics_csv import DATA_WAIT, LEARNING_RATE, LOSS, MetricsCsv, read_log, share_names, steps_of

# As the version before the metrics were renamed wrote it.
EARLIER = """\
step,loss,learning rate,epoch,batch/experiment/b c,batch/experiment/b_c,batch/experiment/b_c (2),batch/own experiment,\
batch/hours mean,batch/hours spread,batch/distinct lineages,time/waiting for data,val/loss,val/found again,mine too
0,2.5,0.1,0,0.5,0.25,0.25,0.5,7,2,16,0.125,,,1
0,,,,,,,,,,,,3.5,0.75,
"""
NAMES = (
    *("step", LOSS, LEARNING_RATE, "epoch"),
    *("batch/experiment/b_c", "batch/experiment/b_c_2", "batch/experiment/b_c_3"),
    *("batch/own_experiment", "batch/hours_mean", "batch/hours_std", "batch/distinct_lineages"),
    *(DATA_WAIT, "val/loss", "val/recall_at_1", "mine too"),
)


def test_a_new_metric_becomes_a_column(tmp_path):
    path = tmp_path / "log" / "metrics.csv"
    log = MetricsCsv(path)
    for step in range(5):
        log.log_metrics({LOSS: torch.tensor(step / 2), "epoch": 0}, step)
    log.log_metrics({"val/loss": 1.5, "a, b": 0.25}, 4)
    log.finalize("success")
    metrics = pd.read_csv(path)
    assert metrics.columns.tolist() == ["step", LOSS, "epoch", "val/loss", "a, b"]
    assert metrics[LOSS].dropna().tolist() == [0, 0.5, 1, 1.5, 2]


def test_a_resumed_run_appends_at_its_step(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(f"step,{LOSS}\n0,0\n1,0.5\n2,1\n3,1.5\n4,0.1")
    log = MetricsCsv(path)
    log.cut(3)
    log.log_metrics({LOSS: 9, "new": 7}, 3)
    log.finalize("success")
    metrics = read_log(path)
    assert metrics["step"].tolist() == [0, 1, 2, 3]
    assert metrics[LOSS].tolist() == [0, 0.5, 1, 9]
    assert metrics["new"].tolist()[-1] == 7


def test_metrics_of_an_earlier_version_are_read_under_their_present_names(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(EARLIER)
    log = read_log(path)
    assert log.columns.tolist() == list(NAMES)
    assert steps_of(log)[LOSS].tolist() == [2.5]
    assert path.read_text() == EARLIER


def test_a_resumed_run_of_an_earlier_version_has_one_column_for_each_metric(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(EARLIER)
    log = MetricsCsv(path)
    log.cut(1)
    log.log_metrics(dict.fromkeys(NAMES[1:], 1.0), 1)
    log.finalize("success")
    metrics = pd.read_csv(path)
    assert metrics.columns.tolist() == list(NAMES)
    assert metrics[LOSS].tolist()[::2] == [2.5, 1.0]


def test_a_missing_log_has_no_steps(tmp_path):
    log = read_log(tmp_path / "metrics.csv")
    assert steps_of(log).empty
    assert log.columns.tolist() == ["step", LOSS]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["virus 1", " mock "], ["p/virus_1", "p/mock"]),
        (["$a$", "b/c", "b_c", "[red]d"], ["p/_a_", "p/b_c", "p/b_c_2", "p/_red_d"]),
        (["a b", "a_b_2", "a_b"], ["p/a_b", "p/a_b_2", "p/a_b_3"]),
    ],
)
def test_names_of_shares_differ_and_contain_no_space_or_slash(labels, names):
    assert share_names("p/", labels) == names
