"""How much experiments mix in their pixels, on made-up worlds whose looks are known."""

from dataclasses import replace

import numpy as np
import pytest

from viscy_train.loading.run_data import RunData
from viscy_train.study import pixels
from viscy_train.study.pixels import mixing_of_pixels
from viscy_train.study.world_project import write_world
from viscy_train.study.worlds import WORLDS
from viscy_train.training.data_cli import make_data, make_data_parser


def data_of(config, **sampler):
    parsed = make_data_parser("test", "", {}).parse_args(["--config", str(config)])
    for name, value in sampler.items():
        parsed.data.sampler[name] = value
    return make_data(parsed, RunData)


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """Worlds whose experiments look different, and alike. Tests must not change them."""
    folder = tmp_path_factory.mktemp("worlds")
    return {name: write_world(WORLDS[name], 0, folder / name) for name in ("base", "weak look")}


def mixing(config, n_crops=400, **sampler):
    return mixing_of_pixels(data_of(config, **sampler), n_crops, 16, config.parent / "crops.npy")


def test_experiments_that_look_alike_mix_and_others_do_not(configs):
    different, alike = (mixing(configs[name]) for name in ("base", "weak look"))
    assert different.value < 0.5
    assert alike.value > 0.8
    assert different.n_crops == alike.n_crops == 400


def test_the_same_crops_are_read_again(configs):
    assert mixing(configs["base"]) == mixing(configs["base"])


def test_crops_are_of_all_experiments_alike_and_not_of_what_is_held_out(configs):
    data = data_of(configs["base"])
    names = data.labeled["experiment"].iloc[pixels._choose_rows(data, 100)]
    assert names.astype(str).value_counts().to_dict() == dict.fromkeys(WORLDS["base"].trained, 25)


def test_no_more_crops_are_read_than_there_are_or_than_is_useful(configs, monkeypatch):
    monkeypatch.setattr(pixels, "MAX_CROPS", 60)
    assert mixing(configs["base"], 10**6).n_crops == 60


def test_experiments_without_batches_do_not_count(configs):
    weights = {name: float(number == 0) for number, name in enumerate(WORLDS["base"].trained)}
    assert mixing(configs["base"], experiment_aware=True, experiment_weights=weights) is None


def test_crops_of_one_lineage_have_no_neighbors(configs):
    data = data_of(configs["base"])
    observations = data.table.observations.assign(lineage_id=np.int64(0))
    data.table = replace(data.table, observations=observations)
    assert mixing_of_pixels(data, 50, 4, configs["base"].parent / "crops.npy") is None
