"""Nuclei of a real sequence are written as a project of six experiments, which the study reads like any other."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from viscy_train.sample_projects.hela import find_nuclei, link_nuclei
from viscy_train.study.arms import ARMS
from viscy_train.study.cases import Case
from viscy_train.study.hela_nuclei import hela_is_installed
from viscy_train.study.hela_world import write_hela_world, write_sequence
from viscy_train.study.opened_case import OpenedCase

FILES = ("crops.npy", "anchors.parquet", "config.yaml", "experiments.yaml")
HEIGHT, WIDTH, N_FRAMES = 240, 280, 5
needs_extra = pytest.mark.skipif(not hela_is_installed(), reason="needs the extra hela")


def make_sequence():
    """Return images, shape (n_frames, height, width), and tracks of nuclei of which one in each position divides."""
    y, x = np.indices((HEIGHT, WIDTH))
    labels = np.zeros((N_FRAMES, HEIGHT, WIDTH), dtype=np.uint16)
    centers = [(top + 20, left + 15) for top in range(0, HEIGHT, 80) for left in range(0, WIDTH, 70)]
    for number, (row, column) in enumerate(centers):
        for t in range(N_FRAMES):
            divided = t >= 2
            nuclei = [(row + 40, column + 30), (row - 6 * divided, column), *[(row + 8, column)] * divided]
            for label, center in enumerate(nuclei, 3 * number + 1):
                labels[t][(y - center[0]) ** 2 + (x - center[1]) ** 2 <= 20] = label
    noise = np.random.default_rng(0).integers(0, 50, labels.shape)
    return (33000 + 500 * (labels > 0) + noise).astype(np.uint16), link_nuclei(find_nuclei(labels))


@pytest.fixture(scope="module")
def sequence():
    return make_sequence()


@pytest.fixture(scope="module")
def config(sequence, tmp_path_factory):
    """A project that was written with seed 0. Tests must not change it."""
    return write_sequence(*sequence, 0, tmp_path_factory.mktemp("hela"))


def open_case(config: Path) -> OpenedCase:
    return OpenedCase(Case(world="HeLa", fold="held out", config=config, crops=config.parent / "crops.npy"))


def test_a_study_reads_the_project_and_measures_the_phase(config):
    opened = open_case(config)
    observations = opened.observations
    assert (opened.table.observations["condition"] == "HeLa").all()
    assert (
        observations["condition"].astype(str).tolist()
        == opened.table.observations["phase"].iloc[opened.rows].astype(str).tolist()
    )
    dividing = observations[observations["condition"] == "dividing"]
    # Of each division, the last frame of the mother and the first of the two daughters; all have a positive.
    assert dividing.groupby(["experiment", "position"], observed=True).size().tolist() == [3] * 12
    assert set(dividing["t"]) == {1, 2}
    assert opened.crops.shape == (len(observations), 1, 1, 32, 32)


def test_batches_can_balance_the_phase(config):
    opened = open_case(config)
    for arm in (arm for arm in ARMS if arm.name in ("plain", "condition", "all")):
        data, settings = opened.data(arm, 0)
        batch = data.make_sampler().batch(0)
        assert len(batch) == settings.data.sampler.batch_size
        phases = data.labeled["condition"].iloc[data.train_rows[batch]]
        if settings.data.sampler.condition_balanced:
            assert (phases == "dividing").sum() == len(batch) // 2


def test_two_experiments_are_held_out_and_share_no_lineage_with_the_others(config):
    opened = open_case(config)
    observations = opened.table.observations
    held_out = observations["experiment"][opened.is_held_out].unique()
    assert list(held_out) == yaml.safe_load(config.read_text())["data"]["split"]["experiments"]
    assert len(held_out) == 2
    assert observations["experiment"].nunique() == 6
    places = observations.groupby("lineage_id")[["experiment", "position"]].nunique()
    assert (places == 1).all(axis=None)


def test_a_crop_is_around_its_nucleus(config):
    opened = open_case(config)
    rows = opened.observations
    # The second nucleus of each position is far from its borders.
    inside = (rows["y"].between(16, 64) & rows["x"].between(16, 54)).to_numpy()
    crops = opened.crops.numpy()[inside, 0, 0]
    assert inside.sum() >= 12
    assert (crops[:, 14:19, 14:19].mean(axis=(1, 2)) > crops[:, :4].mean(axis=(1, 2)) + 0.5).all()


def test_the_same_seed_gives_the_same_files_and_another_one_other_looks(sequence, tmp_path):
    written = []
    for seed in (0, 0, 1, 2, 3):
        config = write_sequence(*sequence, seed, tmp_path)
        written.append({name: (config.parent / name).read_bytes() for name in FILES})
    assert written[0] == written[1]
    assert len({files["crops.npy"] for files in written}) == 4
    assert len({files["config.yaml"] for files in written}) > 1


@needs_extra
@pytest.mark.slow
def test_the_real_nuclei_are_found_once_for_all_seeds(tmp_path):
    first = write_hela_world(0, tmp_path / "0")
    changed = (tmp_path / "hela-nuclei.npz").stat().st_mtime_ns
    write_hela_world(1, tmp_path / "1")
    assert (tmp_path / "hela-nuclei.npz").stat().st_mtime_ns == changed
    observations = pd.read_parquet(first.parent / "anchors.parquet")
    share = (observations["phase"] == "dividing").mean()
    assert 3000 < len(observations) < 3200
    assert 0.04 < share < 0.07
