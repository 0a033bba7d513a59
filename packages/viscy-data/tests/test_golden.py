"""The sequences are bit-stable: these digests hold on every platform, in every release of Python, NumPy and pandas.

A digest changes only on purpose, with a line in the CHANGELOG. The table is made by integer arithmetic alone, so it
does not depend on any library's random numbers.
"""

import hashlib
import itertools
import json

import numpy as np
import pandas as pd
import pytest

from viscy_data import FlexibleBatchSampler


def make_table():
    row = np.arange(3000, dtype=np.int64)
    scattered = row * 7919 % 3001
    return pd.DataFrame(
        {
            "experiment": np.array(["alpha", "beta", "gamma"])[np.minimum(scattered % 10 // 4, 2)],
            "condition": np.array(["mock", "infected", "treated"])[np.minimum(scattered // 7 % 20 // 9, 2)],
            "hours_post_infection": scattered // 11 % 97 * 0.5,
            "site": scattered % 4,
            "lineage": scattered // 3 % 300,
        }
    )


ALL = {"leaky": 0.1, "temporal_enrichment": True, "experiment_weights": "uniform"}
CASES = {
    "defaults": ({}, "5d284cadf4fdafd5"),
    "plain shuffle": ({"experiment_aware": False, "condition_balanced": False}, "7e0f38228a3756f6"),
    "leak": ({"leaky": 0.05, "experiment_weights": "sqrt"}, "0f29584c618f8db1"),
    "ratio": ({"condition_ratio": {"mock": 1, "infected": 2, "treated": 0.5}}, "4c294fbb3a93f965"),
    "weights": ({"experiment_weights": {"alpha": 1, "beta": 3, "gamma": 0}}, "ccf8609475336b1d"),
    "enriched": ({"temporal_enrichment": True, "temporal_global_fraction": 0.0}, "515c35df9e2719fa"),
    "all axes": (ALL, "72aa6039e438e374"),
    "all axes, another seed": ({**ALL, "seed": 2**70 + 1}, "03844c795770f732"),
    "all axes, few slots of a pool": ({**ALL, "batch_size": 12, "temporal_window_hours": 12.0}, "08befd3ac6244503"),
    "all axes, short last batch": ({**ALL, "drop_last": False, "batch_size": 70}, "a693484ff83fa970"),
    "several anchors a condition": ({"batch_size": 20, "anchors_per_condition": 8, "leaky": 0.1}, "eed6eb4da3682a22"),
    "several anchors a condition, short last batch": (
        {**ALL, "anchors_per_condition": 30, "condition_ratio": {"mock": 9, "...": 1}, "drop_last": False},
        "bced97e4aafd83f4",
    ),
    "short epochs": ({**ALL, "epoch_batches": 7}, "3098b6d9b8853daf"),
    "distinct values": ({"distinct_by": "lineage", "leaky": 0.1}, "5203c72daad1fafd"),
    "distinct values, few of them": ({"distinct_by": ["site", "experiment"]}, "bf6f68b12fb20798"),
    "distinct values, short epochs": (
        {"distinct_by": "lineage", "epoch_batches": 7, "batch_size": 20},
        "a8e382a2a97af133",
    ),
    "distinct values, all axes": ({**ALL, "distinct_by": ["lineage", "site"], "batch_size": 48}, "bca6213ebefc4017"),
    "locality": ({"locality": 4, "place_by": "site"}, "a27c2b8422dee077"),
    "locality, all axes": ({**ALL, "locality": 8, "batch_size": 48, "distinct_by": "lineage"}, "30589f52579a4a76"),
    "several columns": ({"experiment_by": ["experiment", "site"], "condition_by": "condition"}, "61dec5231b849d10"),
}


def digest_of(sampler):
    epochs = [list(itertools.islice(iter(sampler), 40)) for _ in range(2)]
    beyond = sampler.batch(1000, epoch=5)
    return hashlib.sha256(json.dumps([epochs, beyond]).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", CASES)
def test_the_sequence_is_the_recorded_one(name):
    options, digest = CASES[name]
    assert digest_of(FlexibleBatchSampler(make_table(), **{"batch_size": 64, **options})) == digest


def to_categorical(table):
    levels = ["unused", *sorted(table["condition"].unique(), reverse=True)]
    return table.assign(
        experiment=table["experiment"].astype("category"), condition=pd.Categorical(table["condition"], levels)
    )


FRAMES = {
    "categorical, levels in another order and one unused": to_categorical,
    "object strings": lambda table: table.astype({"experiment": object, "condition": object}),
    "nullable times": lambda table: table.astype({"hours_post_infection": "Float64"}),
    "narrow times": lambda table: table.astype({"hours_post_infection": "float32"}),
    "another index": lambda table: table.set_index(pd.Index(np.arange(3000)[::-1] * 2)),
    "more columns": lambda table: table.assign(track_id=0, experiment_2="x")[["track_id", *table.columns[::-1]]],
}


@pytest.mark.parametrize("name", FRAMES)
def test_the_sequence_depends_only_on_the_content_of_the_table(name):
    options, digest = CASES["all axes"]
    assert digest_of(FlexibleBatchSampler(FRAMES[name](make_table()), **{"batch_size": 64, **options})) == digest
