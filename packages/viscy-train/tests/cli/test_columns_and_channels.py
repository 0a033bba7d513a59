"""Projects with columns of any name, unequal channels and many conditions go through all commands."""

from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml

from viscy_train.anchors.table import AnchorTable
from viscy_train.cli import main
from viscy_train.exit_codes import EXIT_USER_ERROR
from viscy_train.plates.plate import write_plate
from viscy_train.run.directory import RunDirectory
from viscy_train.tracks.tracks import write_tracks

N_GENES = 1000
CONFIG: dict[str, Any] = {
    "seed_everything": 5,
    "output": "run",
    "trainer": {"max_steps": 3, "max_epochs": 1, "accelerator": "cpu", "devices": 1, "log_every_n_steps": 1},
    "model": {"encoder": {"name": "tiny", "width": 4, "features": 8, "projection": 4}},
    "data": {
        "experiments": "experiments.yaml",
        "anchors": "anchors.parquet",
        "crop": 16,
        "positive": {"min_frames": 1, "max_frames": 3},
        "sampler": {"batch_size": 16},
        "split": {"by": "position", "fraction": 0.5},
        "num_workers": 0,
    },
}


def write_project(folder, experiments, **data):
    """Write the two files of a project, and return the configuration file."""
    (folder / "experiments.yaml").write_text(yaml.safe_dump({"experiments": experiments}, sort_keys=False))
    config = CONFIG | {"data": CONFIG["data"] | data}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder / "config.yaml"


@pytest.fixture(scope="module")
def experiments(data_folder):
    """Two experiments with other channels, another number of them, and other metadata."""
    common = {"conditions": {"A/1": "uninfected", "B/1": "infected"}, "minutes_per_frame": 30}
    paths = [
        {"name": name, "plate": str(data_folder / f"plates/{name}.zarr"), "tracks": str(data_folder / f"tracks/{name}")}
        for name in ("monday", "tuesday")
    ]
    return [
        paths[0] | common | {"channels": {"Phase3D": "phase", "Virus": "virus"}, "metadata": {"microscope": "Mantis"}},
        paths[1] | common | {"channels": {"Virus": "virus"}, "wells": {"B/1": {"dose": 0.5}}},
    ]


@pytest.fixture(scope="module")
def trained(experiments, run_viscy_train, tmp_path_factory):
    """A project of unequal channels, trained by marker, with its report and its embeddings."""
    folder = tmp_path_factory.mktemp("channels")
    sampler = {"batch_size": 16, "experiment_by": ["experiment", "marker"], "leaky": 0.125}
    path = write_project(folder, experiments, channels="one", sampler=sampler)
    assert main(["index", "--config", str(path)]) == 0
    for command in ("fit", "predict"):
        run_viscy_train([command, "--config", str(path)], folder)
    return folder


def test_unequal_channels_are_an_error_that_names_the_option(experiments, tmp_path, capsys):
    path = write_project(tmp_path, experiments)
    assert main(["index", "--config", str(path)]) == EXIT_USER_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    assert "same number of channels, got {'monday': 2, 'tuesday': 1}; set data.channels to one" in line


@pytest.mark.slow
def test_a_batch_has_one_marker(trained):
    table = AnchorTable.read(trained / "anchors.parquet")
    batches = RunDirectory(trained / "run").read_batches(100)
    labels = table.observations["experiment"].astype(str) + " | " + table.observations["marker"].astype(str)
    assert labels.nunique() == 3
    of_batches = pd.Series(labels.to_numpy()[batches["row"]]).groupby(batches["batch"].to_numpy())
    assert len(of_batches) == 3
    assert (of_batches.agg(lambda values: values.value_counts().max()) == 14).all()


@pytest.mark.slow
def test_the_report_shows_groups_by_marker(trained):
    page = (trained / "run/report.html").read_text(encoding="utf-8")
    assert "experiment | marker" in page
    assert "monday | virus" in page
    assert "the batch's own group" in page or "the batch&#39;s own group" in page
    metrics = RunDirectory(trained / "run").metrics.read_text(encoding="utf-8")
    assert "batch/experiment/monday___phase" in metrics


@pytest.mark.slow
def test_embeddings_have_the_columns_of_the_table(trained):
    table = AnchorTable.read(trained / "anchors.parquet")
    with h5py.File(trained / "run/embeddings.h5ad") as file:
        assert file["X"].shape == (len(table.observations), 8)
        marker = file["obs/marker"]
        names = marker["categories"].asstr()[:][marker["codes"][:]]
        dose = file["obs/dose"][:]
    assert names.tolist() == table.observations["marker"].astype(str).tolist()
    assert np.isnan(dose).sum() == table.observations["dose"].isna().sum() > 0


@pytest.mark.slow
def test_inspect_names_the_columns(trained, capsys):
    assert main(["inspect", "--config", str(trained / "config.yaml"), "--out", str(trained / "inspect.html")]) == 0
    output = " ".join(capsys.readouterr().out.split())  # a heading may be wrapped
    assert "experiment | marker" in output
    assert "negatives from other groups" in output
    assert "experiment | marker" in (trained / "inspect.html").read_text(encoding="utf-8")


def test_index_lists_the_columns_with_their_missing_values(experiments, tmp_path, capsys):
    path = write_project(tmp_path, experiments, channels="one")
    assert main(["index", "--config", str(path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    observations = AnchorTable.read(tmp_path / "anchors.parquet").observations
    for column, n_values in (("channel", 2), ("marker", 2), ("microscope", 1), ("dose", 1)):
        (line,) = [words for words in lines if words[:1] == [column]]
        assert line[-2:] == [f"{n_values}", f"{observations[column].isna().sum():,}"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--data.sampler.condition_by", "dose"],
            "anchors have no value of 'dose' (monday: ",
        ),
        (["--data.sampler.experiment_by", "[experiment, makrer]"], "got 'makrer'; did you mean 'marker'?"),
        (["--data.sampler.time_by", "marker"], "data.sampler.time_by"),
        (["--data.channels", "two"], "data.channels"),
        (["--data.channels", "all"], "same number of channels"),
    ],
)
def test_a_column_that_cannot_be_used_is_one_line(trained, capsys, options, message):
    arguments = ["inspect", "--config", str(trained / "config.yaml"), *options]
    assert main(arguments) == EXIT_USER_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    """A plate whose thousand cells have a gene each, given by a table of annotations."""
    folder = tmp_path_factory.mktemp("screen")
    rng = np.random.default_rng(0)
    images, genes = {}, []
    for number in range(4):
        position, n_tracks, n_frames = f"A/1/{number}", N_GENES // 2, 2
        images[position] = rng.integers(100, 1000, (n_frames, 1, 1, 64, 64)).astype(np.uint16)
        track, t = (values.ravel() for values in np.mgrid[:n_tracks, :n_frames])
        y, x = rng.uniform(0, 63, (2, len(t)))
        cells = pd.DataFrame({"track_id": track, "t": t, "y": y, "x": x, "parent_track_id": -1})
        write_tracks(folder / f"tracks/{position}.csv", cells.assign(id=range(len(cells)), parent_id=-1))
        first = N_GENES // 2 * (number % 2)
        genes += [(position, one, f"gene{first + one}") for one in range(n_tracks)]
    write_plate(folder / "plate.zarr", ["GFP"], images)
    pd.DataFrame(genes, columns=["fov_name", "track_id", "gene"]).to_csv(folder / "genes.csv", index=False)
    return folder


@pytest.mark.slow
@pytest.mark.weekly
def test_a_thousand_conditions_are_trained_on(screen, run_viscy_train, capsys):
    experiment = {
        "name": "screen",
        "plate": "plate.zarr",
        "tracks": "tracks",
        "channels": ["GFP"],
        "conditions": {"A/1": "screen"},
        "annotations": "genes.csv",
        "minutes_per_frame": 20,
    }
    sampler = {"batch_size": 32, "condition_by": "gene", "anchors_per_condition": 4, "epoch_batches": 4}
    path = write_project(screen, [experiment], sampler=sampler, split={"by": "none"})
    assert main(["index", "--config", str(path)]) == 0
    note = "screen: annotations of genes.csv by position, track_id: gene for 4,000 of 4,000 observations"
    assert note in capsys.readouterr().out
    run_viscy_train(["fit", "--config", str(path), "--model.loss.positives", "condition"], screen)
    table = AnchorTable.read(screen / "anchors.parquet")
    assert table.observations["gene"].nunique() == N_GENES
    batches = RunDirectory(screen / "run").read_batches(100)
    genes = pd.Series(table.observations["gene"].astype(str).to_numpy()[batches["row"]])
    counts = genes.groupby(batches["batch"].to_numpy()).value_counts()
    assert (counts == 4).all()
    assert len(counts) == 3 * 8
