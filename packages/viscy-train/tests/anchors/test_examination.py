"""Examinations: the same table and messages, whoever read the pixels, and saved ones that are used only if they fit."""

import multiprocessing
import os
import shutil
import signal
import time
from contextlib import contextmanager
from dataclasses import replace
from threading import Thread

import numpy as np
import pandas as pd
import pytest
import zarr

from viscy_train.anchors import examiner as examiner_module
from viscy_train.anchors.build import build_anchor_table
from viscy_train.anchors.examination import examine_position
from viscy_train.anchors.examiner import examine_part
from viscy_train.anchors.positions import IndexSettings
from viscy_train.config.schema import CropSettings, NormalizationConfig, PositiveConfig
from viscy_train.errors import ProjectError, UserError
from viscy_train.experiments.experiments_file import Experiment
from viscy_train.plates.plate import write_plate
from viscy_train.process_pool import process_pool
from viscy_train.tracks.tracks import write_tracks

# Only a hang takes this long.
DEADLINE = 600.0
POSITIONS = ("A/1/0", "A/1/1", "B/1/0")
N_POSITIONS = 2 * len(POSITIONS)
POSITIVE = PositiveConfig(min_frames=1, max_frames=2)
MOMENTS = CropSettings(crop=16)
PERCENTILES = CropSettings(
    crop=16, z="sharpest", normalization=NormalizationConfig(by="position", method="percentiles")
)
BY_FRAME = CropSettings(crop=16, z="maximum", normalization=NormalizationConfig(by="frame"))
CASES = {
    "moments": (MOMENTS, {}),
    "percentiles": (PERCENTILES, {"pixels": "all", "channels_mode": "one"}),
    "by frame": (BY_FRAME, {"channels_mode": "one"}),
}


def write_experiment(folder, name, seed):
    """Write a plate of noise with a missing chunk and a constant frame, and tracks of two cells a position."""
    rng = np.random.default_rng(seed)
    images = {position: rng.normal(500 + 90 * i, 40, (5, 2, 3, 40, 48)) for i, position in enumerate(POSITIONS)}
    images["A/1/0"][1] = 0
    images["B/1/0"][2, 1] = 7
    write_plate(folder / f"{name}.zarr", ["Phase3D", "Virus"], {key: one.astype("f4") for key, one in images.items()})
    for position in POSITIONS:
        track, t = (one.ravel() for one in np.mgrid[1:3, :5])
        cells = pd.DataFrame({"track_id": track, "t": t, "y": 9.0 * track, "x": 12.0 * track})
        write_tracks(folder / name / f"{position}.csv", cells.assign(id=range(10), parent_track_id=-1, parent_id=-1))
    return Experiment(
        name=name,
        plate=folder / f"{name}.zarr",
        tracks=folder / name,
        channels=["Virus", "Phase3D"],
        conditions={"A/1": "mock", "B/1": "infected"},
        minutes_per_frame=30,
    )


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    """Two experiments, which tests must not change."""
    folder = tmp_path_factory.mktemp("plates")
    return [write_experiment(folder, name, seed) for seed, name in enumerate(("monday", "friday"))]


@pytest.fixture
def damaged(experiments, tmp_path):
    """Copies of the experiments with invalid pixels, tracks outside, and a position without tracks."""
    folder = tmp_path / "plates"
    shutil.copytree(experiments[0].plate.parent, folder)
    copies = [replace(one, plate=folder / one.plate.name, tracks=folder / one.name) for one in experiments]
    (copies[0].tracks / "A/1/0.csv").unlink()
    set_pixels(copies[0], "A/1/1", np.nan)
    move_tracks(copies[0], "B/1/0", by=100)
    set_pixels(copies[1], "B/1/0", np.nan)
    return copies


def set_pixels(experiment, position, value):
    """Set most pixels of the last frames of a position."""
    zarr.open_array(experiment.plate / position / "0", mode="r+")[3:, :, :, 8:] = value


def move_tracks(experiment, position, by):
    path = experiment.tracks / f"{position}.csv"
    tracks = pd.read_csv(path)
    tracks.assign(x=tracks["x"] + by).to_csv(path, index=False)


def build(folder, capsys, experiments, crops=MOMENTS, **options):
    """Build a table, and return the content of its file and what was printed, or the problems."""
    capsys.readouterr()
    folder.mkdir(exist_ok=True)
    try:
        build_anchor_table(experiments, POSITIVE, crops, **options).write(folder / "anchors.parquet")
    except ProjectError as error:
        return error.problems, capsys.readouterr().out
    return (folder / "anchors.parquet").read_bytes(), capsys.readouterr().out


def settings_of(case):
    crops, options = CASES[case]
    return IndexSettings(crops=crops, **options)


@pytest.fixture
def examined(monkeypatch):
    """The positions that are examined in this process, in order."""
    names = []
    monkeypatch.setattr(
        examiner_module,
        "examine_position",
        lambda task, reader: names.append(task.position) or examine_position(task, reader),
    )
    return names


@pytest.fixture(scope="module")
def pool():
    """Two processes that examine positions for all tests that need some."""
    with process_pool(2, "index", start=examiner_module._start_process) as pool:
        yield pool


@pytest.fixture
def two_processes(pool, monkeypatch):
    """Let `processes=2` stand for the processes of the pool."""

    @contextmanager
    def same_pool(processes, *_, **options):
        assert processes == 2
        yield pool

    monkeypatch.setattr(examiner_module, "process_pool", same_pool)
    return {"processes": 2}


@pytest.mark.parametrize("case", CASES)
def test_parts_in_any_order_and_a_last_call_give_the_same_table(experiments, tmp_path, capsys, examined, case):
    crops, options = CASES[case]
    expected, said = build(tmp_path / "alone", capsys, experiments, crops, **options)
    del examined[:]
    saved = tmp_path / "parts" / ".anchors.parquet.arrays"
    counts = [examine_part(experiments, settings_of(case), (number, 4), saved) for number in (3, 1, 4, 2)]
    assert [one.n_examined for one in counts] == [1, 2, 1, 2]
    assert sorted(examined) == sorted(POSITIONS * 2)
    del examined[:]
    table, said_of_parts = build(tmp_path / "parts", capsys, experiments, crops, **options, saved=saved)
    assert table == expected
    assert examined == []
    reused = "Used what parts had read of 6 of 6 positions\n"
    assert said_of_parts.count(reused) == 1
    assert said_of_parts.replace(reused, "") == said
    assert not saved.exists()  # once the table is written


def test_a_last_call_reads_what_no_part_has_read(experiments, tmp_path, capsys, examined):
    saved = tmp_path / ".anchors.parquet.arrays"
    examine_part(experiments, settings_of("moments"), (2, 2), saved)
    del examined[:]
    table, said = build(tmp_path, capsys, experiments, saved=saved)
    assert examined == ["A/1/0", "B/1/0", "A/1/1"]
    assert "Used what parts had read of 3 of 6 positions\n" in said
    assert table == build(tmp_path / "alone", capsys, experiments)[0]


def test_a_part_that_is_repeated_reads_what_is_missing(experiments, tmp_path, examined):
    settings = settings_of("moments")
    examine_part(experiments, settings, (1, 2), tmp_path)
    next(tmp_path.glob("examination-*")).unlink()
    del examined[:]
    again = examine_part(experiments, settings, (1, 2), tmp_path)
    assert len(examined) == 1
    assert again.describe().startswith("Done with this part: examined 1 position (2 were examined before). When all")


def overwrite(path):
    """Change a byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


STALE = {
    "pixels": (lambda one, _: set_pixels(one, "A/1/1", 600.0), {}, 1),
    "tracks": (lambda one, _: move_tracks(one, "A/1/1", by=1), {}, 1),
    "damaged file": (lambda _, saved: overwrite(min(saved.glob("examination-*"))), {}, 1),
    "cut file": (lambda _, saved: os.truncate(min(saved.glob("examination-*")), 100), {}, 1),
    "empty file": (lambda _, saved: os.truncate(min(saved.glob("examination-*")), 0), {}, 1),
    "crop": (lambda *_: None, {"crops": CropSettings(crop=18)}, N_POSITIONS),
    "normalization": (lambda *_: None, {"crops": BY_FRAME}, N_POSITIONS),
    "frames": (lambda *_: None, {"pixels": "all"}, N_POSITIONS),
    "channels": (lambda *_: None, {"channels_mode": "one"}, N_POSITIONS),
    "nothing": (lambda *_: None, {}, 0),
}


@pytest.mark.parametrize("change", STALE)
def test_what_does_not_fit_any_more_is_read_again(experiments, tmp_path, capsys, examined, change):
    apply, options, n = STALE[change]
    shutil.copytree(experiments[0].plate.parent, tmp_path / "plates")
    copies = [
        replace(one, plate=tmp_path / "plates" / one.plate.name, tracks=tmp_path / "plates" / one.name)
        for one in experiments
    ]
    saved = tmp_path / "saved"
    examine_part(copies, settings_of("moments"), (1, 1), saved)
    apply(copies[0], saved)
    del examined[:]
    table, _ = build(tmp_path / "table", capsys, copies, saved=saved, **options)
    assert len(examined) == n
    assert table == build(tmp_path / "alone", capsys, copies, **options)[0]


def test_a_part_reports_its_problems_and_saves_the_others(damaged, tmp_path):
    settings, saved = settings_of("moments"), tmp_path / "saved"
    with pytest.raises(ProjectError) as error:
        examine_part(damaged, settings, (2, 2), saved)
    invalid, lost = "position B/1/0, frame 3 has pixels that are NaN", "position A/1/1, frame 3 has pixels that are NaN"
    lines = error.value.problems
    assert len(lines) == 2
    assert lost in lines[0]
    assert invalid in lines[1]
    assert len(list(saved.glob("examination-*"))) == 1


def test_two_calls_of_a_part_at_once_do_no_harm(experiments, tmp_path, capsys):
    expected, _ = build(tmp_path / "alone", capsys, experiments)
    saved = tmp_path / "saved"
    calls = [Thread(target=examine_part, args=(experiments, settings_of("moments"), (1, 1), saved)) for _ in range(2)]
    for call in calls:
        call.start()
    for call in calls:
        call.join(DEADLINE)
    assert len(list(saved.iterdir())) == N_POSITIONS
    assert build(tmp_path / "parts", capsys, experiments, saved=saved)[0] == expected


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_several_processes_give_the_same_table_and_messages(
    experiments, tmp_path, capsys, two_processes, examined, case
):
    crops, options = CASES[case]
    expected = build(tmp_path / "one", capsys, experiments, crops, **options)
    del examined[:]
    assert build(tmp_path / "two", capsys, experiments, crops, **options, **two_processes) == expected
    saved = tmp_path / "saved"
    examine_part(experiments, settings_of(case), (1, 1), saved, **two_processes)
    assert build(tmp_path / "parts", capsys, experiments, crops, **options, saved=saved)[0] == expected[0]
    assert examined == []


@pytest.mark.slow
def test_several_processes_report_the_same_problems_in_the_same_order(damaged, tmp_path, capsys, two_processes):
    expected = build(tmp_path / "one", capsys, damaged)
    assert len(expected[0]) == 4
    assert build(tmp_path / "two", capsys, damaged, **two_processes) == expected


@pytest.mark.slow
def test_processes_do_not_import_torch(experiments, tmp_path, capsys, pool, two_processes):
    build(tmp_path, capsys, experiments, **two_processes)
    imported = pool.submit(eval, "list(__import__('sys').modules)").result()
    assert "viscy_train.anchors.examination" in imported
    assert not {"torch", "lightning"} & set(imported)


@pytest.mark.slow
def test_a_process_that_is_killed_is_an_error_in_one_line(experiments, wait_until):
    others = set(multiprocessing.active_children())

    def kill_one():
        wait_until(lambda: set(multiprocessing.active_children()) - others, "no process was started")
        (child, *_) = set(multiprocessing.active_children()) - others
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)

    killer = Thread(target=kill_one)
    killer.start()
    with pytest.raises(UserError, match=r"a process of `viscy-train index` ended unexpectedly, .* fewer --processes$"):
        build_anchor_table(experiments, POSITIVE, MOMENTS, processes=2)
    killer.join()
    assert set(multiprocessing.active_children()) <= others


@pytest.mark.slow
def test_an_interrupt_ends_processes_that_are_busy(wait_until):
    others = set(multiprocessing.active_children())

    def be_interrupted():
        with process_pool(1, "index", start=list) as pool:
            busy = pool.submit(time.sleep, DEADLINE)
            wait_until(busy.running, "the process was not started")
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        be_interrupted()
    assert set(multiprocessing.active_children()) <= others
    assert time.monotonic() - start < DEADLINE
