import re

import pytest

from viscy_train.composition.diagnostics import diagnose
from viscy_train.config.schema import LossConfig


@pytest.mark.parametrize(
    ("pattern", "options"),
    [
        (r"condition 'virus' of 'a' has only 14 anchors for \d+ draws per epoch: each is drawn about \d+ times", {}),
        (r"experiment 'b' has only condition 'mock': its batches contain no 'virus'$", {}),
        (r"its batches contain no 'virus' except through the leak", {"leaky": 0.2}),
        (r"\d+ anchors of 'a' \(\d+\.\d%\) are not drawn in one epoch", {"experiment_weights": {"a": 1, "b": 9}}),
        (r"200 anchors of 'b' are excluded: the weight of the experiment", {"experiment_weights": {"a": 1, "b": 0}}),
        (
            r"most batches \(90%\) cannot reach the target of 50% for condition 'virus'",
            {"experiment_weights": {"a": 1, "b": 9}},
        ),
        (
            r"the temporal window of ±9 h covers all times of 'b': temporal enrichment has no effect there",
            {"temporal_enrichment": True, "temporal_window_hours": 9.0},
        ),
        (r"covers \d\d% of the anchors of 'b' on average", {"temporal_enrichment": True, "temporal_window_hours": 7.0}),
        (
            r"on average \d+ pairs of anchors of a batch of 20 \(\d+\.\d%\) belong to the same lineage, which the loss",
            {"loss": LossConfig(positives="pair")},
        ),
        (r"on average \d+\.\d slots of a batch of 60 repeat an anchor of the same batch", {"batch_size": 60}),
        (r"leaky=0.1 has no effect: experiment_aware=False", {"experiment_aware": False, "leaky": 0.1}),
        (r"30 batches do not divide evenly among 4 processes: 2 extra batches will complete", {"world_size": 4}),
        (r"an epoch has only 8 steps of 4 x 20 anchors", {"world_size": 4}),
        (r"only the first 20 of 30 batches of an epoch were drawn", {"max_batches": 1}),
    ],
)
def test_a_problem_is_reported_in_a_sentence(dry_run_of, pattern, options):
    sentences = diagnose(dry_run_of(**options))
    assert any(re.search(pattern, sentence) for sentence in sentences), sentences


def test_a_loss_that_knows_lineages_may_have_several_anchors_of_one(dry_run_of):
    assert not any("same lineage" in sentence for sentence in diagnose(dry_run_of()))


def test_a_balanced_table_has_no_problems(anchors_of, dry_run_of):
    anchors = anchors_of(dict.fromkeys([(e, c) for e in "ab" for c in ("mock", "virus")], 4000), n_times=2)
    assert [sentence for sentence in diagnose(dry_run_of(anchors)) if "not drawn" not in sentence] == []


def test_a_kind_of_problem_is_reported_five_times_at_most(anchors_of, dry_run_of):
    anchors = anchors_of({(f"{number}", "mock"): 100 for number in range(8)} | {("9", "virus"): 100})
    sentences = [one for one in diagnose(dry_run_of(anchors)) if "has only condition" in one or "more of" in one]
    assert len(sentences) == 6
    assert sentences[-1] == "... and 4 more of this kind"
