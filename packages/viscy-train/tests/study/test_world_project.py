"""A world is written as a project that the product reads without knowing that its cells are made up."""

import numpy as np
import pytest
import yaml

from viscy_train.config.schema import AugmentationConfig, PositiveConfig, SamplerConfig, SplitConfig
from viscy_train.loading.array_source import ArraySource
from viscy_train.loading.crops import CropReader
from viscy_train.loading.run_data import RunData
from viscy_train.study.study_project import CROPS
from viscy_train.study.world_cells import features_of, make_cells
from viscy_train.study.world_images import SIDE
from viscy_train.study.world_project import write_world
from viscy_train.study.worlds import WORLDS, World


def read(config):
    """Return the data of a project, as the commands read its configuration."""
    data = yaml.safe_load(config.read_text())["data"]
    sections = {
        "positive": PositiveConfig,
        "sampler": SamplerConfig,
        "split": SplitConfig,
        "augmentation": AugmentationConfig,
    }
    options = {name: sections[name](**value) if name in sections else value for name, value in data.items()}
    files = {name: config.parent / options.pop(name) for name in ("experiments", "anchors")}
    return RunData(**files, **options)


@pytest.mark.parametrize("name", WORLDS)
def test_the_product_reads_a_world_and_trains_on_its_experiments_only(name, tmp_path):
    world = WORLDS[name]
    data = read(write_world(world, 0, tmp_path))
    observations = data.table.observations
    assert len(observations) == len(make_cells(world, 0))
    assert observations["has_positive"].all()
    assert list(observations["experiment"].iloc[data.train_rows].unique()) == world.trained
    assert list(observations["experiment"].iloc[data.validation_rows].unique()) == world.held_out
    assert len(data.make_sampler().batch(0)) == data.options.batch_size


def test_a_feature_is_a_channel_of_equal_pixels(tmp_path):
    world = WORLDS["base"]
    table = read(write_world(world, 1, tmp_path)).table
    rows = np.arange(0, len(table.observations), 7)
    crops = CropReader(table, source=ArraySource(table, tmp_path / CROPS)).read(rows)
    features = features_of(world, make_cells(world, 1), 1)[rows]
    assert np.array_equal(crops, np.broadcast_to(features[..., None, None, None], crops.shape))


def test_crops_are_normalized_by_their_experiment(tmp_path):
    world = World(n_tracks=40, n_held_out_tracks=40, rare_share=0.5)
    data = read(write_world(world, 1, tmp_path, as_crops=True))
    assert data.channels == ["Phase3D", "Virus"]
    experiment = data.table.observations["experiment"].cat.codes.to_numpy()
    crops = CropReader(data.table, source=ArraySource(data.table, tmp_path / CROPS)).read(np.arange(len(experiment)))
    assert crops.shape == (len(experiment), 2, 1, SIDE, SIDE)
    for number in range(6):
        own = crops[experiment == number].astype(np.float64)
        np.testing.assert_allclose(own.mean(axis=(0, 2, 3, 4)), 0, atol=1e-3)
        np.testing.assert_allclose(own.std(axis=(0, 2, 3, 4)), 1, atol=1e-3)


def test_the_same_world_and_seed_give_the_same_bytes(tmp_path):
    world, files = WORLDS["base"], (CROPS, "anchors.parquet", "config.yaml", "experiments.yaml")
    written = []
    for seed in (5, 5, 6):
        config = write_world(world, seed, tmp_path)
        written.append([(config.parent / name).read_bytes() for name in files])
    assert written[0] == written[1]
    assert written[0][0] != written[2][0]
    assert written[0][1] != written[2][1]
