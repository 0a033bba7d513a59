"""All commands on experiments with different scales, with crops of one physical size."""

import copy
from typing import Any

import pytest
import yaml

from viscy_train.anchors.table import AnchorTable
from viscy_train.config.schema import NormalizationConfig
from viscy_train.exit_codes import EXIT_USER_ERROR
from viscy_train.run.directory import RunDirectory

from .same_cells import COARSE, FINE, write_experiment

CONFIG: dict[str, Any] = {
    "seed_everything": 1,
    "output": "run",
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "devices": 1, "log_every_n_steps": 1},
    "model": {"encoder": {"name": "tiny", "width": 4, "features": 8, "projection": 4}},
    "data": {
        "experiments": "experiments.yaml",
        "anchors": "anchors.parquet",
        "crop": 16,
        "z_slices": 2,
        "crop_um": 12.0,
        "depth_um": 5.0,
        "z": "random",
        "normalization": {"by": "frame", "method": "percentiles"},
        "positive": {"min_frames": 1, "max_frames": 3},
        "sampler": {"batch_size": 8},
        "split": {"by": "none", "fraction": 0.0},
        "num_workers": 0,
    },
}


@pytest.fixture
def folder(tmp_path):
    """The directory of a project of two experiments, of which one states its scale in the experiments file."""
    stated = {"metadata": False, "micrometers_per_pixel": FINE, "micrometers_per_slice": 1.0}
    experiments = [
        write_experiment(tmp_path, "fine", FINE, per_slice=1.0, n_slices=12, **stated),
        write_experiment(tmp_path, "coarse", COARSE, per_slice=2.0, n_slices=6),
    ]
    keys = ("name", "channels", "conditions", "minutes_per_frame", "micrometers_per_pixel", "micrometers_per_slice")
    content = [
        {key: getattr(one, key) for key in keys} | {"plate": f"{one.name}.zarr", "tracks": f"tracks/{one.name}"}
        for one in experiments
    ]
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump({"experiments": content}))
    return tmp_path


def write_config(folder, **data):
    config = copy.deepcopy(CONFIG)
    config["data"] |= data
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.slow
@pytest.mark.weekly
def test_every_command_reads_crops_of_one_physical_size(folder, run_viscy_train):
    write_config(folder)
    index = run_viscy_train(["index", "--config", "config.yaml"], folder)
    for name, pixel in (("fine", FINE), ("coarse", COARSE)):
        size = f"12 x 12 and a depth of 5 micrometers ({pixel} a pixel of the image)"
        assert f"Crops of 16 x 16 pixels show {size} in {name}\n" in index.stdout
    assert "so crops show different sizes" not in index.stdout
    table = AnchorTable.read(folder / "anchors.parquet")
    assert table.crops.normalization == NormalizationConfig(by="frame", method="percentiles")
    for command in (["fit"], ["predict"], ["replay", "--step", "1"]):
        run_viscy_train([*command, "--config", "config.yaml"], folder)
    assert RunDirectory(folder / "run").report.exists()


@pytest.mark.slow
@pytest.mark.weekly
def test_pixels_of_different_size_without_a_physical_size_are_a_warning(folder, run_viscy_train):
    write_config(folder, crop_um=None, depth_um=None, z="maximum", z_slices=1)
    index = run_viscy_train(["index", "--config", "config.yaml"], folder)
    warning = "Warning: a pixel has 0.25 micrometers in fine and 0.6 in coarse, so crops show different sizes"
    assert index.stdout.count("Warning: a ") == 1
    assert warning in index.stdout
    inspect = run_viscy_train(["inspect", "--config", "config.yaml"], folder)
    assert warning in inspect.stdout
    assert "Crops of 16 x 16 pixels show 4 x 4 micrometers (0.25 a pixel of the image) in fine\n" in inspect.stdout
    changed = ["--data.z", "sharpest"]
    refused = run_viscy_train(["fit", "--config", "config.yaml", *changed], folder, exit_code=EXIT_USER_ERROR)
    assert "data.z was maximum, is now sharpest; rebuild it" in refused.stderr
