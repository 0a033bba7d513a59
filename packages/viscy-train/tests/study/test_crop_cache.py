"""Crops that are read once for a study are those of the plates, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from viscy_train.loading.array_source import ArraySource
from viscy_train.loading.crops import CropReader
from viscy_train.study.crop_cache import cache_crops
from viscy_train.study.plain_config import write_plain_config
from viscy_train.training.data_cli import DataCLI


def data_of(config):
    return DataCLI("study", ["--config", str(config)], "").make_data()


def assert_same_crops(data, path):
    rows = np.random.default_rng(1).permutation(len(data.table.observations))
    expected = CropReader(data.table).read(rows)
    found = CropReader(data.table, source=ArraySource(data.table, path)).read(rows)
    assert found.tobytes() == expected.tobytes()


def test_cached_crops_are_those_of_the_plates_in_their_type(project, tmp_path):
    data = data_of(project)
    path = cache_crops(data, tmp_path / "crops.npy")
    assert path is not None
    assert path == tmp_path / "crops.npy"
    assert np.load(path, mmap_mode="r").dtype == np.uint16
    assert_same_crops(data, path)
    written = path.stat().st_mtime_ns
    assert cache_crops(data, path) == path
    assert path.stat().st_mtime_ns == written


def test_resampled_crops_are_cached_in_float32(project, tmp_path):
    data = data_of(project)
    experiments = [replace(one, micrometers_per_pixel=1.0) for one in data.table.experiments]
    data.table = replace(data.table, experiments=experiments, crops=replace(data.table.crops, crop_um=12.0))
    path = cache_crops(data, tmp_path / "crops.npy")
    assert path is not None
    assert np.load(path, mmap_mode="r").dtype == np.float32
    assert_same_crops(data, path)


def test_crops_that_take_too_much_space_or_are_random_are_not_cached(project, tmp_path):
    data = data_of(project)
    assert cache_crops(data, tmp_path / "crops.npy", max_bytes=1000) is None
    data.table = replace(data.table, crops=replace(data.table.crops, z="random"))
    assert cache_crops(data, tmp_path / "crops.npy") is None
    assert not (tmp_path / "crops.npy").exists()


@pytest.mark.parametrize("changes", [[], ["--data.sampler.leaky", "0.5", "--trainer.gradient_clip_val", "1.0"]])
def test_a_plain_configuration_has_what_decides_batches_and_model(project, tmp_path, changes):
    cli = DataCLI("study", ["--config", str(project), *changes], "")
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "config.yaml"
    write_plain_config(cli.config, path)
    again = DataCLI("study", ["--config", str(path)], "")
    for section in ("data.sampler", "data.positive", "data.augmentation", "model.loss", "model.encoder"):
        assert again.config[section] == cli.config[section]
    assert again.config.trainer.gradient_clip_val == cli.config.trainer.gradient_clip_val
    assert again.config.seed_everything == cli.config.seed_everything
    assert again.make_data().table.fingerprint == cli.make_data().table.fingerprint
    assert set(yaml.safe_load(path.read_text())["trainer"]) <= {
        "accumulate_grad_batches",
        "gradient_clip_val",
        "precision",
    }
