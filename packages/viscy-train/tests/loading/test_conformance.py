"""The testkit's conformance suite over the sampler of a run, as its configuration describes it."""

import pytest

from viscy_sampling_testkit import make_anchors
from viscy_sampling_testkit.conformance.check import check_batch_sampler
from viscy_sampling_testkit.conformance.promises import Promises
from viscy_train.config.schema import SamplerConfig
from viscy_train.loading.sampler import make_sampler

ANCHORS = make_anchors(1200, experiments={"monday": 2, "tuesday": 1}, n_timepoints=24, seed=3)


@pytest.mark.slow
def test_the_sampler_of_a_run_conforms_to_its_configuration():
    options = SamplerConfig(
        batch_size=16, leaky=0.25, experiment_weights="uniform", temporal_enrichment=True, temporal_global_fraction=0.5
    )
    promises = Promises(
        table=ANCHORS,
        batch_size=16,
        seeded=True,
        epochs="set_epoch",
        python_ints=True,
        last_batch="full",
        length=True,
        distinct=True,
        exchangeable=True,
        group_by="experiment",
        leaky=0.25,
        group_shares={"monday": 0.5, "tuesday": 0.5},
        condition_by="condition",
        condition_shares={"uninfected": 0.5, "infected": 0.5},
        time_by="hours_post_infection",
        window_hours=options.temporal_window_hours,
        window_fraction=6 / 16,
        row_inclusion=True,
        deterministic=True,
        resume=True,
        random_access=True,
    )

    def make(rank, num_replicas, seed):
        return make_sampler(ANCHORS, options, seed, rank, num_replicas)

    check_batch_sampler(make, promises).raise_if_failed()
