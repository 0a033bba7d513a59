"""The testkit's conformance suite over every combination of axes: the sampler keeps all that it promises."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import Setting, make_anchors
from viscy_sampling_testkit.conformance.check import check_batch_sampler
from viscy_sampling_testkit.conformance.promises import Promises

EXPERIMENTS = {"monday": 5, "tuesday": 3, "friday": 2}
# 24 slots: 18 primary and 6 leak; half of each condition's 9 (or 12) primary slots are focal
BATCH_SIZE = 24
LEAKY = 0.25
TABLE = make_anchors(
    1800, experiments=EXPERIMENTS, conditions={"mock": 7, "infected": 3}, n_timepoints=24, seed=11
).reset_index(drop=True)

# one seed and fewer batches, for laws that do not look for small deviations
BRIEF = Setting(
    name="brief", seeds=(0,), replicas=(1, 2, 3), n_epochs=2, row_times=30, most_batches=600, every_position=False
)

AXES = [
    (aware, leaky, balanced, enriched)
    for aware, leaky, balanced, enriched in itertools.product((True, False), (LEAKY, 0.0), (True, False), (True, False))
    if aware or not leaky
]

# six conditions, of which a batch has room for some; 24 lineages of each stratum, of about equal size
MANY = make_anchors(1080, experiments=EXPERIMENTS, conditions=list("pqrstu"), n_timepoints=24, seed=12)
MANY = MANY.reset_index(drop=True).assign(
    lineage=lambda table: table.groupby(["experiment", "condition"]).cumcount() % 24,
    stratum=lambda table: table.groupby(["experiment", "condition"]).ngroup(),
    place=lambda table: np.arange(len(table)) % 3,
)

# each axis is on and off in these; the other combinations are checked once a week
OFTEN = [
    (True, LEAKY, True, True),
    (True, LEAKY, False, False),
    (True, 0.0, True, False),
    (True, 0.0, False, True),
    (False, 0.0, True, True),
    (False, 0.0, False, False),
]

# claims that do not depend on the axes
WITH_ANY_AXES = dict.fromkeys(
    (
        *("large_seeds", "epochs_advance", "epoch_of_first_draw", "set_epoch_keeps_state"),
        *("plain_state", "random_epochs", "direct_access", "copies"),
    ),
    True,
)


def make_options(aware, leaky, balanced, enriched):
    return {
        "experiment_aware": aware,
        "leaky": leaky,
        "experiment_weights": "uniform" if aware else None,
        "condition_balanced": balanced,
        "temporal_enrichment": enriched,
        "temporal_window_hours": 2.0,
        "temporal_global_fraction": 0.5,
    }


def make_promises(aware, leaky, balanced, enriched, **others):
    promises: dict[str, Any] = {
        "seeded": True,
        "epochs": "set_epoch",
        "python_ints": True,
        "last_batch": "full",
        "length": True,
        "distinct": True,
        "exchangeable": True,
        "row_inclusion": True,
        "independent_rows": True,
        "deterministic": True,
        "ranks": "interleave",
        "equal_steps": True,
        "rank_cost": True,
        "resume": True,
        "elastic_resume": True,
        "random_access": True,
        "coverage": not enriched,
        "rounds": not enriched,
        "random_order": aware or enriched,
        "independent_batches": True,
        # without leak, balance and window, the rounds of a group are whole batches in the same order, which repeat
        "fresh_padding": bool(leaky or balanced or enriched),
    }
    if aware:
        promises |= {"group_by": "experiment", "leaky": leaky, "group_shares": dict.fromkeys(EXPERIMENTS, 1 / 3)}
        promises["uniform_leak"] = leaky > 0
    if balanced:
        promises |= {"condition_by": "condition", "condition_shares": {"mock": 0.5, "infected": 0.5}}
    if enriched:
        # if a condition has an odd number of slots, one slot more or less is focal
        focal = (1 - leaky) * 0.5 - 1 / BATCH_SIZE
        promises |= {"time_by": "hours_post_infection", "window_hours": 2.0, "window_fraction": focal}
        promises |= {"global_fraction": 0.5, "focal_turns": True}
    if aware and balanced and enriched:
        promises |= WITH_ANY_AXES | {
            "refuses_state": ({"drop_last": False}, {"condition_ratio": {"mock": 2, "infected": 1}})
        }
    return Promises(table=TABLE, batch_size=BATCH_SIZE, **promises | others)


def check_sampler(axes, promises, **others):
    def make_sampler(rank, num_replicas, **options):
        return FlexibleBatchSampler(
            TABLE, BATCH_SIZE, num_replicas=num_replicas, rank=rank, **make_options(*axes), **others, **options
        )

    # a brief check is enough for some axes only, because it rejects every mutant of the testkit
    report = check_batch_sampler(make_sampler, promises, setting="fast" if all(axes) else BRIEF)
    report.raise_if_failed()
    return report


@pytest.mark.slow
@pytest.mark.parametrize(
    "axes", [axes if axes in OFTEN else pytest.param(axes, marks=pytest.mark.weekly) for axes in AXES], ids=str
)
def test_every_combination_of_axes_passes_the_conformance_suite(axes):
    report = check_sampler(axes, make_promises(*axes))
    print(report)
    assert not report.failed


@pytest.mark.slow
def test_each_iteration_draws_the_next_epoch():
    axes = (True, LEAKY, True, True)
    unset = dict.fromkeys(
        (
            "epochs_advance",
            "epoch_of_first_draw",
            "set_epoch_keeps_state",
            "random_epochs",
            "rank_cost",
            "elastic_resume",
        ),
        False,
    )
    check_sampler(axes, make_promises(*axes, epochs="iter", **unset))


@pytest.mark.slow
def test_a_short_last_batch_passes_the_conformance_suite():
    axes = (True, 0.0, False, False)
    table = TABLE.iloc[:1790]

    def make_sampler(rank, num_replicas, **options):
        return FlexibleBatchSampler(
            table, BATCH_SIZE, num_replicas=num_replicas, rank=rank, drop_last=False, **make_options(*axes), **options
        )

    promises = make_promises(*axes, last_batch="short")
    promises = Promises(**vars(promises) | {"table": table})
    check_batch_sampler(make_sampler, promises, setting=BRIEF).raise_if_failed()


def check_options(batch_size, **options):
    """Check the laws of the options, and those that they could break, with a leak and six conditions."""
    leaky, enriched = 0.125, options.get("temporal_enrichment", False)
    options |= {"leaky": leaky, "experiment_weights": "uniform", "temporal_window_hours": 4.0}
    options["temporal_global_fraction"] = 0.5
    splits = options.get("split_batches", False)
    promises: dict[str, Any] = {
        **dict.fromkeys(("seeded", "python_ints", "length", "distinct", "exchangeable", "row_inclusion"), True),
        **dict.fromkeys(("equal_steps", "resume", "elastic_resume", "random_access", "random_order"), True),
        "epochs": "set_epoch",
        "last_batch": "full",
        "ranks": "split" if splits else "interleave",
        "fresh_padding": not splits,
        "coverage": not enriched,
        "rounds": not enriched,
        "group_by": "experiment",
        "group_shares": dict.fromkeys(EXPERIMENTS, 1 / 3),
        "leaky": leaky,
        "condition_by": "condition",
        **{name: options.get(name) for name in ("anchors_per_condition", "epoch_batches", "distinct_by", "place_by")},
        "refuses_state": ({"drop_last": False, "epoch_batches": None}, {"table": "other rows"}),
    }
    if not options.get("anchors_per_condition"):
        promises["condition_shares"] = dict.fromkeys("pqrstu", 1 / 6)
    if enriched:
        promises |= {"time_by": "hours_post_infection", "window_hours": 4.0, "window_fraction": 0.2}
    if "locality" in options:
        promises |= {"time_by": "hours_post_infection", "locality": options["locality"]}
        promises |= {"without_locality": {"locality": 1, "place_by": None}}

    def make_sampler(rank, num_replicas, table=None, **others):
        rows = MANY if table is None else MANY.assign(condition=np.roll(MANY["condition"], 1))
        return FlexibleBatchSampler(rows, batch_size, num_replicas=num_replicas, rank=rank, **options | others)

    report = check_batch_sampler(make_sampler, Promises(table=MANY, batch_size=batch_size, **promises), setting=BRIEF)
    report.raise_if_failed()
    return report


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"anchors_per_condition": 5, "epoch_batches": 7}, marks=pytest.mark.weekly),
        {"anchors_per_condition": 5, "temporal_enrichment": True, "distinct_by": ["stratum", "lineage"]},
        pytest.param({"distinct_by": ["stratum", "lineage"], "epoch_batches": 7}, marks=pytest.mark.weekly),
    ],
    ids=lambda options: " ".join(options),
)
def test_choice_values_and_short_epochs_pass_the_conformance_suite(options):
    report = check_options(22, **options)
    assert not report.of("not testable")


@pytest.mark.slow
@pytest.mark.parametrize("enriched", [pytest.param(False, marks=pytest.mark.weekly), True])
def test_locality_passes_the_conformance_suite(enriched):
    report = check_options(60, locality=4, place_by="place", temporal_enrichment=enriched)
    assert {"runs", "counts without locality", "inclusion in runs"} <= set(report.passed)


@pytest.mark.slow
def test_runs_of_full_places_pass_the_conformance_suite():
    table = pd.DataFrame(itertools.product("ab", "xy", range(4), range(4), range(5)))
    table = table.sample(frac=1, random_state=0).set_axis([*"gct", "fov", "n"], axis=1)

    def make_sampler(rank, num_replicas, **options):
        named = {"experiment_by": "g", "condition_by": "c", "time_by": "t", "place_by": "fov"}
        ranks = {"num_replicas": num_replicas, "rank": rank}
        return FlexibleBatchSampler(table, 24, **{"locality": 4} | named | ranks | options)

    promises = Promises(
        **{"table": table, "batch_size": 24, "seeded": True, "epochs": "set_epoch", "row_inclusion": True},
        **{"group_by": "g", "leaky": 0.0, "condition_by": "c", "time_by": "t", "place_by": "fov", "locality": 4},
        without_locality={"locality": 1, "place_by": None},
        distinct=True,
        coverage=True,
        rounds=True,
    )
    report = check_batch_sampler(make_sampler, promises, setting=BRIEF)
    report.raise_if_failed()
    assert {"runs", "places of runs", "counts without locality", "inclusion in runs"} <= set(report.passed)


@pytest.mark.slow
def test_all_options_pass_the_conformance_suite():
    report = check_options(
        24, anchors_per_condition=7, epoch_batches=9, distinct_by=["stratum", "lineage"], split_batches=True
    )
    assert {"slices", "slices alike", "distinct values", "pairs of conditions", "short epochs"} <= set(report.passed)
