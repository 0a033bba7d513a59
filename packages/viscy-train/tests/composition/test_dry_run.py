import logging
import time
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from viscy_train.composition.diagnostics import diagnose
from viscy_train.config.schema import SamplerConfig
from viscy_train.errors import UserError
from viscy_train.loading.sampler import make_sampler


def test_draws_are_counted_by_condition(dry_run_of):
    dry_run = dry_run_of()
    assert dry_run.batches_per_epoch == 30
    assert dry_run.draws.total.sum() == 600
    assert (dry_run.strata["draws"] * dry_run.strata["anchors"]).sum() == pytest.approx(600)
    assert dry_run.strata["observed"].sum() == pytest.approx(1)
    virus = dry_run.strata.loc[("a", "virus")]
    assert virus["draws"] == pytest.approx(virus["observed"] * 600 / 14)
    assert virus["most"] >= virus["draws"]
    assert virus["never"] == 0
    assert dry_run.strata["never"].sum() == (dry_run.draws.total == 0).sum()
    assert all(check.matched for check in dry_run.checks)


def test_several_epochs_are_averaged(dry_run_of):
    one, three = dry_run_of(), dry_run_of(epochs=3)
    assert three.draws.total.sum() == 1800
    np.testing.assert_allclose(three.strata["draws"], one.strata["draws"], rtol=0.2)
    assert three.strata["most"].max() < 2 * one.strata["most"].max()


def test_draws_of_an_epoch_are_those_of_the_target_if_only_a_part_of_it_is_counted(anchors_of, dry_run_of):
    """Of 50 conditions, 20 batches of two conditions each draw some, and others not at all."""
    anchors = anchors_of({("a", f"{number}"): 100 for number in range(50)})
    part, epoch = (dry_run_of(anchors, batch_size=4, max_batches=n, anchors_per_condition=2) for n in (1, 2000))
    assert part.batches_of_epochs == [20]
    assert epoch.batches_of_epochs == [1250]
    np.testing.assert_allclose(part.strata["draws"], 1.0)
    np.testing.assert_allclose(part.strata["draws"], epoch.strata["draws"], rtol=0.3)
    assert part.strata["observed"].min() == 0


def test_anchors_are_not_missed_before_a_round_of_short_epochs_was_counted(anchors_of, dry_run_of):
    anchors = anchors_of({("a", "mock"): 1000})
    short = {"batch_size": 20, "epoch_batches": 5, "condition_balanced": False, "epochs": 10}
    dry_run = dry_run_of(anchors, max_batches=1, **short)
    assert dry_run.batches_of_epochs == [5, 5, 5, 5]
    assert not any("not drawn in" in sentence for sentence in diagnose(dry_run))


def test_lineages_of_a_batch_are_counted(anchors_of, dry_run_of):
    anchors = anchors_of({("a", "mock"): 100})
    dry_run = dry_run_of(anchors, batch_size=100, experiment_aware=False, condition_balanced=False)
    assert dry_run.distinct_lineages == 10
    assert dry_run.lineage_pairs == 10 * 45
    assert dry_run.duplicate_slots == 0


def test_a_dry_run_is_not_changed_after_it_is_made(dry_run_of):
    dry_run = dry_run_of(experiment_aware=False, leaky=0.1)
    assert [warning.partition(":")[0] for warning in dry_run.sampler_warnings] == ["leaky=0.1 has no effect"]
    with pytest.raises(FrozenInstanceError):
        dry_run.sampler_warnings = ()
    assert diagnose(dry_run) == diagnose(dry_run)


def test_the_sampler_logs_warnings_again_after_a_dry_run(anchors_of, dry_run_of, caplog):
    dry_run_of(experiment_aware=False, leaky=0.1)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        anchors = anchors_of({("a", "mock"): 400})
        make_sampler(anchors, SamplerConfig(batch_size=20, experiment_aware=False, leaky=0.1), 0)
    assert len(caplog.records) == 1


def test_options_that_do_not_fit_the_table_are_a_user_error(dry_run_of):
    with pytest.raises(UserError, match="sampler: batch_size"):
        dry_run_of(batch_size=10_000)


@pytest.mark.slow
def test_a_dry_run_of_a_million_anchors_takes_seconds(anchors_of, dry_run_of):
    anchors = anchors_of({(e, c): 125_000 for e in "abcd" for c in ("mock", "virus")})
    start = time.process_time()
    dry_run = dry_run_of(anchors, batch_size=256, temporal_enrichment=True, leaky=0.1)
    assert time.process_time() - start < 10
    assert dry_run.n_examined == 2000
    assert dry_run.draws.covers_an_epoch
