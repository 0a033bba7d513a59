from dataclasses import asdict, replace
from inspect import signature

import pytest

from viscy_data import FlexibleBatchSampler
from viscy_train.config import Config, SamplerConfig, TrainingConfig, dump_config, load_config
from viscy_train.demo import EXPERIMENTS, demo_config
from viscy_train.errors import UserError


def test_a_configuration_survives_the_disk(tmp_path, config):
    path = tmp_path / "c.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(path) == config


def test_weights_and_ratios_survive_the_disk(tmp_path, config):
    sampler = SamplerConfig(experiment_weights={"monday": 1.0, "tuesday": 0.5}, condition_ratio={"infected": 2.0})
    path = tmp_path / "c.yaml"
    path.write_text(dump_config(replace(config, sampler=sampler)), encoding="utf-8")
    assert load_config(path).sampler == sampler


def test_relative_paths_start_at_the_file(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "config.yaml").write_text(demo_config(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    config = load_config(tmp_path / "there" / "config.yaml")
    assert config.output == tmp_path / "there" / "run"
    assert config.experiments[0].plate == tmp_path / "there" / "plates" / "monday.zarr"
    assert config.experiments[0].tracks == tmp_path / "there" / "tracks" / "monday"


def test_the_demo_names_its_experiments_and_turns_every_axis_on(tmp_path):
    (tmp_path / "config.yaml").write_text(demo_config(), encoding="utf-8")
    config = load_config(tmp_path / "config.yaml")
    assert [experiment.name for experiment in config.experiments] == [experiment.name for experiment in EXPERIMENTS]
    sampler = config.sampler
    assert sampler.experiment_aware
    assert sampler.condition_balanced
    assert sampler.temporal_enrichment
    assert sampler.leaky > 0
    assert (config.training.epochs, config.training.processes) == (2, 2)


def test_sampler_options_have_the_samplers_names_and_defaults():
    parameters = signature(FlexibleBatchSampler).parameters
    for name, default in asdict(SamplerConfig()).items():
        assert parameters[name].default == default, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiments": []}, "experiments must hold at least one"),
        ({"channels": []}, "channels must name at least one"),
        ({"crop": 4}, "crop must be at least 8 pixels, got 4"),
        ({"seed": -1}, r"seed must be in \[0, 2\*\*32\), got -1"),
    ],
)
def test_values_out_of_range_are_refused(config, change, message):
    with pytest.raises(UserError, match=message):
        replace(config, **change)


def test_experiments_of_one_name_are_refused(config):
    with pytest.raises(UserError, match="different names"):
        Config(experiments=config.experiments[:1] * 2, channels=["a"], output=config.output)


def test_training_without_an_epoch_is_refused():
    with pytest.raises(UserError, match=r"training\.epochs must be at least 1, got 0"):
        TrainingConfig(epochs=0)
