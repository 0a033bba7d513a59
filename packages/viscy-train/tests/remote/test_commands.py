"""All commands on plates, tracks, experiments and an anchor table at URLs: the same output as from files on disk."""

import os
import time
import zlib

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from viscy_train.anchors.table import AnchorTable
from viscy_train.cli import main
from viscy_train.exit_codes import EXIT_USER_ERROR
from viscy_train.remote.path import as_path
from viscy_train.run.directory import RunDirectory

from .servers import upload

SHORT = {"trainer.max_epochs": 1, "trainer.max_steps": 3, "data.sampler.batch_size": 16, "data.num_workers": 0}


@pytest.fixture
def remote_project(project_with, data_folder):
    """A function that writes a project whose plates and tracks are in the bucket; returns the configuration."""
    return lambda folder, **changes: project_with(folder, "s3://project", **changes)


@pytest.fixture
def project_with(make_project, data_folder):
    """A function that writes a project whose data are in a directory or bucket, without the anchor table."""

    def write(folder, root, **changes):
        config = make_project(folder, **SHORT | changes)
        path = folder / "experiments.yaml"
        path.write_text(path.read_text().replace(str(data_folder), root))
        return config

    return write


@pytest.mark.parametrize(
    "fault",
    [
        "500",
        pytest.param("cut", marks=[pytest.mark.slow, pytest.mark.weekly]),
        pytest.param("slow", marks=[pytest.mark.slow, pytest.mark.weekly]),
    ],
)
def test_index_and_inspect_of_a_bucket_say_and_write_what_those_of_a_directory_do(
    project_with, bucket, data_folder, faults, tmp_path, capsys, fault
):
    tables, outputs = [], []
    for name, root in (("here", str(data_folder)), ("there", "s3://project")):
        config = project_with(tmp_path / name, root)
        (tmp_path / name / "anchors.parquet").unlink()
        # The first request for one path in ten is disturbed.
        faults.of = lambda path, n_before: fault if n_before == 0 and zlib.crc32(path.encode()) % 10 == 0 else None
        assert main(["index", "--config", str(config)]) == 0
        assert main(["inspect", "--config", str(config)]) == 0
        tables.append(AnchorTable.read(tmp_path / name / "anchors.parquet"))
        outputs.append(capsys.readouterr().out.replace(name, "").replace(root, ""))
    here, there = tables
    pd.testing.assert_frame_equal(there.observations, here.observations)
    assert there.fingerprint == here.fingerprint
    assert (there.intensity, there.pixels, there.tracks) == (here.intensity, here.pixels, here.tracks)
    assert [str(one.plate) for one in there.experiments] == [
        f"s3://project/plates/{name}.zarr" for name in ("monday", "tuesday")
    ]
    assert faults.n_injected > 5


@pytest.mark.parametrize("options", [[["--part", "2/2"], ["--part", "1/2"], []], [["--processes", "2"]]])
def test_parts_and_processes_index_a_bucket_as_one_process_a_directory(
    project_with, bucket, data_folder, faults, tmp_path, capsys, options
):
    here, there = project_with(tmp_path / "here", str(data_folder)), project_with(tmp_path / "there", "s3://project")
    (tmp_path / "here" / "anchors.parquet").unlink()
    (tmp_path / "there" / "anchors.parquet").unlink()
    assert main(["index", "--config", str(here)]) == 0
    for added in options:
        assert main(["index", "--config", str(there), *added]) == 0
    expected, found = (AnchorTable.read(tmp_path / name / "anchors.parquet") for name in ("here", "there"))
    pd.testing.assert_frame_equal(found.observations, expected.observations)
    assert (found.fingerprint, found.intensity) == (expected.fingerprint, expected.intensity)


def test_a_bucket_that_denies_access_is_one_line_and_exit_code_2(
    remote_project, bucket, faults, tmp_path, capsys, monkeypatch
):
    config = remote_project(tmp_path)
    faults.of = lambda path, n_before: "403"
    assert main(["index", "--config", str(config)]) == EXIT_USER_ERROR
    error = capsys.readouterr().err
    assert "access denied to s3://project/plates/monday.zarr" in error
    assert "Traceback" not in error


def test_outputs_at_a_url_are_refused(remote_project, bucket, tmp_path, capsys):
    config = remote_project(tmp_path, **{"data.anchors": "s3://project/anchors.parquet"})
    assert main(["index", "--config", str(config)]) == EXIT_USER_ERROR
    assert "data.anchors must be a local path, because only reading is possible at a URL" in capsys.readouterr().err
    config = remote_project(tmp_path, output="s3://project/run")
    assert main(["fit", "--config", str(config)]) == EXIT_USER_ERROR
    assert "output must be a local path, because only reading is possible at a URL" in capsys.readouterr().err


def same_environment():
    """Return code that gives a process the present address of the bucket; it may have been forked before."""
    names = [name for name in os.environ if name.startswith(("AWS_", "VISCY_TRAIN_"))]
    return f"import os; os.environ.update({ {name: os.environ[name] for name in names}!r})"


def results(run):
    """Return the weights that were trained, and the file of embeddings of a run."""
    checkpoint = torch.load(run.path / "checkpoints" / "last.ckpt", weights_only=True, map_location="cpu")
    return checkpoint["state_dict"], run.embeddings


@pytest.mark.slow
def test_fit_and_predict_from_a_bucket_are_bit_for_bit_those_from_a_directory(
    project_with, store_address, bucket, data_folder, faults, tmp_path, run_viscy_train
):
    runs = []
    for name, root in (("here", str(data_folder)), ("there", "s3://project")):
        config = project_with(tmp_path / name, root)
        if root.startswith("s3"):
            upload(tmp_path / name, store_address, "configured")
            for file in ("anchors.parquet", "experiments.yaml"):
                (tmp_path / name / file).unlink()
            content = yaml.safe_load(config.read_text())
            content["data"] |= {
                "experiments": "s3://configured/experiments.yaml",
                "anchors": "s3://configured/anchors.parquet",
            }
            config.write_text(yaml.safe_dump(content))
            faults.of = lambda path, n_before: "500" if n_before == 1 and len(path) % 7 == 0 else None
        for command in ("fit", "predict"):
            run_viscy_train([command, "--config", str(config)], tmp_path / name, before=same_environment())
        runs.append(RunDirectory(tmp_path / name / "run"))
    assert faults.n_injected > 0
    (weights, embeddings), (weights_there, embeddings_there) = map(results, runs)
    assert weights.keys() == weights_there.keys()
    for name, value in weights.items():
        assert torch.equal(value, weights_there[name]), name
    with h5py.File(embeddings) as here, h5py.File(embeddings_there) as there:
        assert here["X"].shape[1] == 8
        np.testing.assert_array_equal(there["X"][...], here["X"][...])
    assert AnchorTable.read(as_path("s3://configured/anchors.parquet")).experiments[0].plate == as_path(
        data_folder / "plates/monday.zarr"
    )


@pytest.mark.slow
def test_a_bucket_that_fails_while_training_is_one_line_and_exit_code_2(
    remote_project, bucket, faults, tmp_path, run_viscy_train
):
    config = remote_project(tmp_path)
    # Metadata can be read, and the crops that are compared before, but then all chunks fail.
    faults.of = lambda path, n_before: "500" if "/c/" in path and sum(faults.seen.values()) > 400 else None
    started = time.monotonic()
    failed = run_viscy_train(
        ["fit", "--config", str(config)], tmp_path, exit_code=EXIT_USER_ERROR, before=same_environment()
    )
    errors = [line for line in failed.stderr.splitlines() if line.startswith("viscy-train: error")]
    assert len(errors) == 1, failed.stderr
    assert "500" in failed.stderr, failed.stderr
    assert "s3://project/plates/" in failed.stderr, failed.stderr
    assert "Traceback" not in failed.stderr
    assert time.monotonic() - started < 600
