"""All commands on plates that tensorstore cannot read, or whose frames were lost."""

import shutil

import numcodecs
import numpy as np
import pytest
import yaml
import zarr

from viscy_train.anchors.table import AnchorTable
from viscy_train.exit_codes import EXIT_USER_ERROR
from viscy_train.run.directory import RunDirectory

from .odd_plates import OddPlate

POSITIONS = {"A/1": ["0", "1"], "B/1": ["0", "1"]}
SHORT = {"trainer.max_epochs": 1, "data.sampler.batch_size": 16, "data.num_workers": 0}


def rewrite(path, source, **options):
    """Write the images of a plate as another writer does, and lose a frame."""
    root = zarr.open_group(source, mode="r")
    plate = OddPlate(path, zarr_format=2)
    plate.write_wells({"C/1": [], **POSITIONS})
    for well, names in POSITIONS.items():
        for name in names:
            image = np.asarray(root[f"{well}/{name}/0"])
            image[3] = 0
            options = {"chunks": (1, 1, *image.shape[2:]), "config": {"write_empty_chunks": True}} | options
            plate.write_image(f"{well}/{name}", image, channels=["Phase3D", "Virus"], dataset="s0", **options)


@pytest.mark.slow
@pytest.mark.weekly
def test_every_command_reads_what_index_has_accepted(make_project, data_folder, run_viscy_train, tmp_path):
    config = make_project(tmp_path, **SHORT)
    (tmp_path / "anchors.parquet").unlink()
    rewrite(tmp_path / "monday.zarr", data_folder / "plates" / "monday.zarr", dtype=">u2", compressors=numcodecs.GZip())
    rewrite(tmp_path / "tuesday.zarr", data_folder / "plates" / "tuesday.zarr", filters=[numcodecs.Delta("<u2")])
    path = tmp_path / "experiments.yaml"
    content = yaml.safe_load(path.read_text())
    for experiment in content["experiments"]:
        experiment["plate"] = f"{experiment['name']}.zarr"
    path.write_text(yaml.safe_dump(content))

    index = run_viscy_train(["index", "--config", str(config)], tmp_path)
    assert "pixels (blank or saturated)" in index.stdout
    assert 3 not in set(AnchorTable.read(tmp_path / "anchors.parquet").observations["t"])
    for command in (["fit"], ["predict"], ["replay", "--step", "1"]):
        run_viscy_train([*command, "--config", str(config)], tmp_path)
    assert RunDirectory(tmp_path / "run").report.exists()

    for chunk in (tmp_path / "tuesday.zarr").glob("*/*/*/s0/[0-9]*"):
        chunk.write_bytes(b"damaged")
    shutil.rmtree(tmp_path / "run")
    failed = run_viscy_train(["fit", "--config", str(config)], tmp_path, exit_code=EXIT_USER_ERROR)
    (line,) = [line for line in failed.stderr.splitlines() if "cannot use pixels" in line]
    assert line.startswith("viscy-train: error: experiment 'tuesday': cannot use pixels of position ")
    assert "Traceback" not in failed.stderr
