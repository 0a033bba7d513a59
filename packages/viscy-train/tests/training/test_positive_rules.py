"""Projects with other positives than some frames along the lineage are indexed and trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from viscy_train.cli import main
from viscy_train.config.schema import PositiveConfig, SamplerConfig, SplitConfig
from viscy_train.exit_codes import EXIT_USER_ERROR
from viscy_train.loading.batches import Batch
from viscy_train.loading.data_module import PairDataModule
from viscy_train.plates.plate import write_plate
from viscy_train.tracks.tracks import write_tracks

INTERVALS = {"slow": 30, "fast": 20}
WELLS = {"A/1": "mock", "A/2": "mock", "B/1": "virus", "B/2": "virus"}
N_FRAMES = 8
CONFIG: dict[str, Any] = {
    "seed_everything": 5,
    "output": "run",
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "devices": 1},
    "checkpoint": {"keep_best": 0},
    "model": {"encoder": {"name": "tiny", "width": 2, "features": 4, "projection": 4}},
    "data": {"experiments": "experiments.yaml", "anchors": "anchors.parquet", "crop": 16, "num_workers": 0},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two experiments with other intervals, each with four wells of two positions of two cells."""
    folder = tmp_path_factory.mktemp("intervals")
    rng = np.random.default_rng(0)
    for name in INTERVALS:
        images = {}
        for position in (f"{well}/{number}" for well in WELLS for number in range(2)):
            images[position] = rng.normal(100, 10, (N_FRAMES, 2, 1, 32, 32)).astype(np.float32)
            track, t = (values.ravel() for values in np.mgrid[:2, :N_FRAMES])
            y, x = rng.uniform(4, 28, (2, len(t)))
            cells = pd.DataFrame({"track_id": track, "t": t, "y": y, "x": x, "parent_track_id": -1})
            cells = cells.assign(id=np.arange(len(t)), parent_id=-1)
            write_tracks(folder / "tracks" / name / f"{position}.csv", cells)
        write_plate(folder / f"{name}.zarr", ["Phase3D", "GFP"], images)
    return folder


def write_project(folder, path, positive, conditions=WELLS, names=INTERVALS, loss="lineage", split=None, **data):
    """Write the files of a project into a new directory, and return its configuration."""
    path.mkdir()
    experiments = [
        {
            "name": name,
            "plate": str(folder / f"{name}.zarr"),
            "tracks": str(folder / "tracks" / name),
            "channels": ["Phase3D"],
            "conditions": conditions,
            "minutes_per_frame": INTERVALS[name],
        }
        for name in names
    ]
    (path / "experiments.yaml").write_text(yaml.safe_dump({"experiments": experiments}))
    split = split or {"by": "position", "fraction": 0.5}
    data = CONFIG["data"] | {"positive": positive, "sampler": {"batch_size": 16}, "split": split} | data
    config = CONFIG | {"data": data, "model": CONFIG["model"] | {"loss": {"positives": loss}}}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    return path / "config.yaml"


def make_data(config):
    """Return the data module of a project, ready to load batches of training pairs."""
    data = yaml.safe_load(config.read_text())["data"]
    sections = {"positive": PositiveConfig, "sampler": SamplerConfig, "split": SplitConfig}
    options = {name: kind(**data[name]) for name, kind in sections.items()} | {"channels": data.get("channels", "all")}
    folder = config.parent
    module = PairDataModule(
        folder / "experiments.yaml", folder / "anchors.parquet", crop=16, num_workers=0, seed=5, **options
    )
    module.setup("fit")
    return module


def draw_pairs(config):
    """Return the observations of many anchors for training, and those of their positives."""
    data = make_data(config)
    observations = data.table.observations.astype(dict.fromkeys(("experiment", "condition", "well", "position"), str))
    pairs = [
        (rows, data._pairs.choose_positives(Batch(rows, 0, number)))
        for number in range(40)
        for rows in [data.train_rows[data.sampler.batch(number % data.n_batches, 0)]]
    ]
    rows, positives = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return data, observations.iloc[rows].reset_index(drop=True), observations.iloc[positives].reset_index(drop=True)


@pytest.mark.weekly
@pytest.mark.slow
def test_positives_in_hours_are_trained_on_with_two_intervals(folder, run_viscy_train, tmp_path, capsys):
    config = write_project(folder, tmp_path / "p", {"max_hours": 1.5, "decay": 1.0})
    assert main(["index", "--config", str(config)]) == 0
    stdout = capsys.readouterr().out
    assert "1 to 3 frames (0.5 to 1.5 h) away in slow" in stdout
    assert "1 to 4 frames (0.333 to 1.33 h) away in fast" in stdout
    _, anchors, positives = draw_pairs(config)
    apart = (positives["hours_post_infection"] - anchors["hours_post_infection"]).abs()
    by_experiment = {name: set(np.round(values, 2)) for name, values in apart.groupby(anchors["experiment"])}
    assert by_experiment == {"slow": {0.5, 1.0, 1.5}, "fast": {0.33, 0.67, 1.0, 1.33}}
    assert (positives["lineage_id"] == anchors["lineage_id"]).all()
    assert "0.333 to 1.33 h" in run_viscy_train(["fit", "--config", str(config)], config.parent).stdout
    recorded = tmp_path / "p/run/config.yaml"
    assert main(["replay", "--step", "1", "--config", str(recorded)]) == 0


@pytest.mark.weekly
@pytest.mark.slow
def test_positives_in_other_wells_are_trained_on(folder, run_viscy_train, tmp_path, capsys):
    rule = {"match": "condition", "differ": ["well"], "max_hours": 1.0}
    config = write_project(folder, tmp_path / "p", rule, loss="pair")
    assert main(["index", "--config", str(config)]) == 0
    sentence = "A positive is another observation with the same condition and another well up to 1 hour away."
    pixels = "Of a stack, the middle slice is read (data.z). Intensities are normalized by the mean"
    assert f"{sentence}\n{pixels} and standard deviation of each channel" in capsys.readouterr().out
    _, anchors, positives = draw_pairs(config)
    assert (positives["condition"] == anchors["condition"]).all()
    wells = [part["experiment"] + part["well"] for part in (anchors, positives)]
    assert (wells[0] != wells[1]).all()
    assert (anchors["experiment"] != positives["experiment"]).any()
    assert (positives["hours_post_infection"] - anchors["hours_post_infection"]).abs().max() <= 1.0 + 1e-6
    assert main(["inspect", "--config", str(config), "--out", str(tmp_path / "page.html")]) == 0
    assert f"{sentence}\n{pixels}" in capsys.readouterr().out
    assert sentence in run_viscy_train(["fit", "--config", str(config)], config.parent).stdout
    assert "recognize a cell with the same condition and another well" in (tmp_path / "p/run/report.html").read_text()
    assert main(["replay", "--step", "1", "--config", str(config)]) == 0


def test_no_anchor_for_training_has_a_positive_that_is_kept_for_validation(folder, tmp_path):
    config = write_project(folder, tmp_path / "p", {"match": "condition", "differ": "well"})
    assert main(["index", "--config", str(config)]) == 0
    data, anchors, positives = draw_pairs(config)
    names = [part["experiment"] + part["position"] for part in (anchors, positives)]
    observations = data.table.observations
    kept = set(observations["experiment"].astype(str) + observations["position"].astype(str).iloc[data.validation_rows])
    assert kept
    assert not kept & set(names[0])
    assert not kept & set(names[1])


def test_anchors_whose_positives_the_split_takes_away_are_left_out(folder, tmp_path):
    """Each condition has two wells of two positions, so that a split can take all positions of one of them."""
    positive, split = {"match": "condition", "differ": "well"}, {"by": "experiment", "experiments": ["slow"]}
    config = write_project(folder, tmp_path / "p", positive | {"differ": "experiment"}, split=split)
    assert main(["index", "--config", str(config)]) == 0
    with pytest.raises(
        ValueError, match=r"data\.split must leave anchors with a positive for training, got none of 128"
    ):
        make_data(config)
    conditions = {"A/1": "mock", "A/2/0": "mock", "A/2/1": "virus", "B/1": "virus"}
    config = write_project(
        folder, tmp_path / "q", positive, conditions, ["slow"], split={"by": "position", "fraction": 0.4}
    )
    assert main(["index", "--config", str(config)]) == 0
    data = make_data(config)
    has_positive = data.positives.has_positive()
    assert has_positive[data.train_rows].all()
    assert has_positive[data.validation_rows].all()
    n_kept = len(data.train_rows) + len(data.validation_rows)
    notes = data.split_warnings(1)
    assert n_kept < len(data.table.anchors)
    assert any(
        "are left out, because data.split has put all their positives into the other part" in one for one in notes
    )


def test_conditions_that_the_split_leaves_no_anchors_are_named(folder, tmp_path, capsys):
    """Of two positions of a condition, one is kept for validation, so that neither has a partner of its part."""
    conditions = {"A/1": "mock", "A/2": "mock", "B/1/0": "virus", "B/2/0": "virus"}
    config = write_project(folder, tmp_path / "p", {"match": "condition", "differ": "well"}, conditions, ["slow"])
    assert main(["index", "--config", str(config)]) == 0
    note = "nothing is trained on condition 'virus': data.split and data.positive leave no anchors of it for training"
    data = make_data(config)
    assert note in data.split_warnings(1)
    assert not set(data.labeled["condition"].iloc[data.train_rows]) & {"virus"}
    assert main(["inspect", "--config", str(config), "--out", str(tmp_path / "inspect.html")]) == 0
    assert f"Note: {note}" in " ".join(capsys.readouterr().out.split())
    config = write_project(folder, tmp_path / "q", {}, conditions, split={"by": "experiment", "experiments": ["slow"]})
    assert main(["index", "--config", str(config)]) == 0
    assert make_data(config).split_warnings(1) == []


def test_data_without_tracks_have_the_same_frame_as_their_positive(folder, tmp_path, capsys):
    tracks = tmp_path / "tracks"
    for path in (folder / "tracks" / "slow").rglob("*.csv"):
        cells = pd.read_csv(path)
        write_tracks(
            tracks / path.relative_to(folder / "tracks" / "slow"), cells.assign(track_id=np.arange(len(cells)))
        )
    augmentation = dict.fromkeys(("rotation", "scale", "translation", "gain", "offset", "noise", "blur"), 0.0)
    config = write_project(
        folder,
        tmp_path / "p",
        {"min_frames": 0},
        names=["slow"],
        augmentation=augmentation | {"flip": False},
    )
    experiments = yaml.safe_load((tmp_path / "p/experiments.yaml").read_text())
    experiments["experiments"][0]["tracks"] = str(tracks)
    (tmp_path / "p/experiments.yaml").write_text(yaml.safe_dump(experiments))
    assert main(["index", "--config", str(config), "--data.positive.min_frames", "1"]) == EXIT_USER_ERROR
    message = (
        "observations without another frame of their lineage 1 to 4 frames away); its tracks have one frame each, "
    )
    assert f"{message}so set `data.positive.min_frames` to 0, " in capsys.readouterr().err
    assert main(["index", "--config", str(config)]) == 0
    assert "Note: a positive may be the anchor itself with the same pixels" in capsys.readouterr().out
    _, anchors, positives = draw_pairs(config)
    pd.testing.assert_frame_equal(anchors, positives)


def test_positives_of_another_channel_of_the_same_frame_are_chosen(folder, tmp_path):
    rule = {"min_frames": 0, "max_frames": 0, "channel": "other"}
    config = write_project(folder, tmp_path / "p", rule, names=["slow"], channels="one")
    path = tmp_path / "p/experiments.yaml"
    experiments = yaml.safe_load(path.read_text())
    experiments["experiments"][0]["channels"] = ["Phase3D", "GFP"]
    path.write_text(yaml.safe_dump(experiments))
    assert main(["index", "--config", str(config)]) == 0
    _, anchors, positives = draw_pairs(config)
    assert (anchors["channel"].astype(str) != positives["channel"].astype(str)).all()
    for column in ("lineage_id", "t"):
        assert (anchors[column] == positives[column]).all()


def test_a_condition_without_partners_is_embedded_but_not_trained_on(folder, tmp_path, capsys):
    conditions = {"A/1": "mock", "A/2": "mock", "B/1": "virus"}
    rule = {"match": "condition", "differ": "well"}
    config = write_project(folder, tmp_path / "p", rule, conditions, ["slow"], "pair", {"by": "none"})
    assert main(["index", "--config", str(config)]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert (
        "Warning: experiment 'slow': condition 'virus' has no anchors (32 observations without another observation "
        "with the same condition and another well); nothing is trained on it, but `predict` embeds it"
    ) in output
    data, anchors, _ = draw_pairs(config)
    assert set(anchors["condition"]) == {"mock"}
    assert set(data.table.observations["condition"]) == {"mock", "virus"}
    assert main(["inspect", "--config", str(config), "--out", str(tmp_path / "inspect.html")]) == 0


ERRORS = [
    (
        {"max_hours": 0.4},
        {},
        "experiment 'slow': data.positive must permit a whole number of frames, got up to 0.4 hours",
    ),
    ({"max_hours": 2, "max_frames": 2}, {}, "data.positive must be in frames or in hours, not in both"),
    ({"match": "dose"}, {}, "data.positive.match must name columns of the anchor table ("),
    ({"channel": "other"}, {}, "data.positive.channel must be same, because data.channels is not one"),
    (
        {"match": "condition", "differ": "well"},
        {"conditions": {"A/1": "mock", "B/1": "virus"}, "names": ["slow"]},
        "condition 'virus' has no anchors (32 observations without another observation with the same condition and "
        "another well); widen `data.positive`, or remove B/1 from `conditions`",
    ),
]


@pytest.mark.parametrize(("positive", "options", "message"), ERRORS)
def test_a_setting_that_cannot_be_met_is_a_one_line_error(folder, tmp_path, capsys, positive, options, message):
    config = write_project(folder, tmp_path / "p", positive, **options)
    assert main(["index", "--config", str(config)]) == EXIT_USER_ERROR
    assert message in capsys.readouterr().err


def test_a_loss_that_contradicts_the_positives_is_refused(folder, tmp_path, capsys):
    rule = {"match": "t", "differ": "well"}
    config = write_project(folder, tmp_path / "p", rule, loss="condition")
    assert main(["index", "--config", str(config)]) == 0
    capsys.readouterr()
    for command in ("inspect", "fit"):
        assert main([command, "--config", str(config)]) == EXIT_USER_ERROR
        assert "model.loss.positives condition contradicts data.positive" in capsys.readouterr().err
    assert not (tmp_path / "p/run").exists()
