"""Fixtures of viscy-train's tests: two tiny experiments on disk, a project of them, and child processes."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import settings
from iohub.ngff import open_ome_zarr
from numpy.typing import NDArray
from torch.distributed import TCPStore

from viscy_train.anchors.table import AnchorTable
from viscy_train.config.schema import CropSettings, PositiveConfig
from viscy_train.experiments.experiments_file import Experiment
from viscy_train.plates.plate import write_plate
from viscy_train.run.batch_record import batch_fields, record_of_rank
from viscy_train.run.directory import RunDirectory
from viscy_train.run.step_csv import format_line
from viscy_train.sample_projects import simulation
from viscy_train.tracks.tracks import write_tracks

# Each run tries the same examples, others only on request (`make test-random`). A busy machine takes any time for an
# example; only processes that hang have deadlines.
settings.register_profile("project", deadline=None, derandomize="RANDOM_EXAMPLES" not in os.environ)
settings.load_profile("project")

WELLS = {"A/1": "uninfected", "B/1": "infected"}


def make_experiment(folder: Path, name: str, seed: int) -> None:
    """Write a plate with two positions of three cells in well A/1 and of two in B/1, and their tracks."""
    rng = np.random.default_rng(seed)
    images = {}
    look = simulation.Microscope(gain=1.0 + seed, background=100.0, blur=0.8)
    for well, n_cells in (("A/1", 3), ("B/1", 2)):
        for position in range(2):
            cells = simulation.simulate_cells(rng, n_cells, infected=well == "B/1")
            images[f"{well}/{position}"] = simulation.take_images(rng, cells, look, 3.0)
            write_tracks(folder / "tracks" / name / well / f"{position}.csv", simulation.tracks_of(cells))
    write_plate(folder / "plates" / f"{name}.zarr", simulation.CHANNELS, images)


def make_experiments(folder: Path) -> list[Experiment]:
    """Return the two experiments in a directory."""
    return [
        Experiment(
            name=name,
            plate=folder / "plates" / f"{name}.zarr",
            tracks=folder / "tracks" / name,
            channels=list(simulation.CHANNELS),
            conditions=WELLS,
            minutes_per_frame=30,
            hour_of_infection=-3,
        )
        for name in ("monday", "tuesday")
    ]


CONFIG: dict[str, Any] = {
    "seed_everything": 5,
    "output": "run",
    "trainer": {"max_epochs": 2, "accelerator": "cpu", "devices": 1, "log_every_n_steps": 1},
    "checkpoint": {"every_n_steps": 3},
    "model": {
        "encoder": {"name": "tiny", "width": 4, "features": 8, "projection": 4},
        "loss": {"temperature": 0.2},
        "optimizer": {"learning_rate": 0.002},
    },
    "data": {
        "experiments": "experiments.yaml",
        "anchors": "anchors.parquet",
        "crop": 16,
        "positive": {"min_frames": 1, "max_frames": 3},
        "sampler": {"batch_size": 16, "leaky": 0.125, "temporal_enrichment": True},
        "split": {"by": "position", "fraction": 0.5},
        "num_workers": 0,
    },
}


def changed(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with some values changed, by dotted key; None removes a key."""
    config = copy.deepcopy(config)
    for key, value in changes.items():
        *sections, name = key.split(".")
        mapping = config
        for section in sections:
            mapping = mapping.setdefault(section, {})
        if value is None:
            mapping.pop(name, None)
        else:
            mapping[name] = value
    return config


@pytest.fixture(autouse=True)
def sigterm_as_before() -> Generator[None]:
    """Restore the handler of SIGTERM, which Lightning keeps after an error, and which forked processes inherit."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two experiments, which tests must not change."""
    folder = tmp_path_factory.mktemp("data")
    make_experiment(folder, "monday", 1)
    make_experiment(folder, "tuesday", 2)
    return folder


@pytest.fixture(scope="session")
def table(data_folder: Path) -> AnchorTable:
    """The anchor table of the two experiments."""
    from viscy_train.anchors.build import build_anchor_table

    return build_anchor_table(
        make_experiments(data_folder), PositiveConfig(min_frames=1, max_frames=3), CropSettings(crop=16)
    )


@pytest.fixture(scope="session")
def make_project(data_folder: Path, table: AnchorTable) -> Callable[..., Path]:
    """A function that writes the files of a project into a directory; see `write_project`."""
    return partial(write_project, data_folder=data_folder, table=table)


@pytest.fixture
def project(make_project: Callable[..., Path], tmp_path: Path) -> Path:
    """The configuration file of a project in a new directory."""
    return make_project(tmp_path)


def write_project(folder: Path, *, data_folder: Path, table: AnchorTable, **changes: Any) -> Path:
    """Write `experiments.yaml`, `anchors.parquet` and `config.yaml` of the two experiments; return the last."""
    experiments = [
        {
            "name": one.name,
            "plate": str(one.plate),
            "tracks": str(one.tracks),
            "channels": one.channels,
            "conditions": one.conditions,
            "minutes_per_frame": one.minutes_per_frame,
            "hour_of_infection": one.hour_of_infection,
        }
        for one in make_experiments(data_folder)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiments.yaml").write_text(yaml.safe_dump({"experiments": experiments}, sort_keys=False))
    table.write(folder / "anchors.parquet")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(changed(CONFIG, changes), sort_keys=False))
    return path


def make_table(
    folder: Path,
    *,
    names: tuple[str, ...] = ("monday", "tuesday"),
    channels: tuple[str, ...] = ("Phase3D", "Virus"),
    shape: tuple[int, ...] = (6, 3, 3, 40, 48),
    dtype: str = "uint16",
    version: Literal["0.4", "0.5"] = "0.5",
    chunks: tuple[int, ...] = (1, 1, 1, 16, 16),
    shards_ratio: tuple[int, ...] | None = None,
    **changes: object,
) -> tuple[AnchorTable, dict[tuple[str, str], NDArray]]:
    """Write plates of noise, and return a table of four cells a position and the images by experiment and position.

    Plates have the channels Phase3D, Virus and Nuclei; the cells of a position are on its borders and within.
    """
    rng = np.random.default_rng(0)
    images, frames = {}, []
    for name in names:
        path = folder / f"{name}.zarr"
        with open_ome_zarr(
            path, layout="hcs", mode="w-", channel_names=["Phase3D", "Virus", "Nuclei"], version=version
        ) as plate:
            for position in ("A/1/0", "B/1/0"):
                image = (rng.random(shape) * 200).astype(dtype)
                images[name, position] = image
                created = plate.create_position(*position.split("/"))
                created.create_image("0", image, chunks=chunks, shards_ratio=shards_ratio)
                track, t = (values.ravel() for values in np.mgrid[:4, : shape[0]])
                y, x = (rng.uniform(0, side - 1, len(t)) for side in shape[3:])
                y[track == 0], x[track == 0] = 0.0, shape[4] - 1.0
                cells = pd.DataFrame({"track_id": track, "t": t, "y": y, "x": x})
                frames.append(cells.assign(experiment=name, well=position[:3], position=position))
    cells = pd.concat(frames, ignore_index=True)
    cells["condition"] = cells["well"].map(WELLS)
    cells["parent_track_id"], cells["has_positive"] = -1, True
    cells["lineage_id"] = cells.groupby(["experiment", "position", "track_id"], sort=False).ngroup()
    cells["hours_post_infection"] = cells["t"] * 0.5
    categories = ["experiment", "condition", "well", "position"]
    experiments = [
        Experiment(
            name=name,
            plate=folder / f"{name}.zarr",
            tracks=folder,
            channels=list(channels),
            conditions=WELLS,
            minutes_per_frame=30,
        )
        for name in names
    ]
    intensity = {name: [[10.0 * i + j, 2.0 + i + j] for j in range(len(channels))] for i, name in enumerate(names)}
    table = AnchorTable(
        observations=cells.astype(dict.fromkeys(categories, "category")),
        experiments=experiments,
        positive=PositiveConfig(min_frames=1, max_frames=3),
        crops=CropSettings(crop=8),
        intensity=intensity,
        excluded=[],
    )
    return replace(table, **changes), images


@pytest.fixture
def table_of(tmp_path: Path):
    """A function that makes a table of plates of noise, and the images; see `make_table`."""
    return partial(make_table, tmp_path)


@pytest.fixture(scope="session")
def noise(tmp_path_factory: pytest.TempPathFactory) -> tuple[AnchorTable, dict[tuple[str, str], NDArray]]:
    """A table of plates of noise, and the images, which tests must not change."""
    return make_table(tmp_path_factory.mktemp("noise"))


def make_anchors(strata: dict[tuple[str, str], int], n_times: int = 10) -> pd.DataFrame:
    """Return a table with the given number of anchors of each (experiment, condition).

    Each track is a lineage of its own and has one anchor at each of `n_times` hours.
    """
    parts = [
        pd.DataFrame(
            {
                "experiment": experiment,
                "condition": condition,
                "hours_post_infection": np.arange(n) % n_times * 1.0,
                "t": np.arange(n) % n_times,
                "track_id": np.arange(n) // n_times,
                "position": "A/1/0",
            }
        )
        for (experiment, condition), n in strata.items()
    ]
    anchors = pd.concat(parts, ignore_index=True)
    track = anchors.groupby(["experiment", "condition", "track_id"]).ngroup()
    return anchors.assign(lineage_id=track).astype({"experiment": "category", "condition": "category"})


@pytest.fixture(scope="session")
def anchors_of() -> Callable[..., pd.DataFrame]:
    """Make a table with the given number of anchors of each (experiment, condition)."""
    return make_anchors


@pytest.fixture(scope="session")
def dry_run_of() -> Callable[..., Any]:
    """Make a dry run of a small table, or of given anchors, with batches of 20 and other options of the sampler."""
    from viscy_train.composition.dry_run import dry_run
    from viscy_train.config.schema import SamplerConfig

    small = {("a", "mock"): 400, ("a", "virus"): 14, ("b", "mock"): 200}

    def make_dry_run(anchors=None, *, loss=None, world_size=1, epochs=1, max_batches=2000, **options):
        anchors = make_anchors(small) if anchors is None else anchors
        config = SamplerConfig(**{"batch_size": 20} | options)
        sizes = {"world_size": world_size, "epochs": epochs, "max_batches": max_batches}
        return dry_run(anchors, config, seed=3, loss=loss, **sizes)

    return make_dry_run


# Only a hang takes this long, also on a machine with a load of 16.
DEADLINE = 1800.0
# Loading Lightning takes many seconds of CPU time. The processes below are forked from a server that has loaded it.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["viscy_train.cli.commands", "viscy_train.training.fit", "viscy_train.report.write", "anndata", "tensorboard"]
)
CHILD = """
import os, sys
os.environ.update({environment!r})
os.chdir({directory!r})
for number, path in enumerate({outputs!r}, start=1):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
sys.stdout, sys.stderr = (open(number, "w", buffering=1) for number in (1, 2))
import torch
from viscy_train.cli import main
torch.set_num_threads(1)
{before}
sys.exit(main({arguments!r}))
"""


def run_command_line(
    command: Sequence[str | Path],
    *,
    exit_code: int = 0,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = DEADLINE,
) -> subprocess.CompletedProcess[str]:
    """Run a command, and return its output; fail with its output unless it ends with an exit code.

    `env` is added to the environment of this process.
    """
    started = subprocess.Popen(
        command,
        cwd=cwd,
        env=os.environ | dict(env or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        stdout, stderr = started.communicate(timeout=timeout)
        ending = f"ended with exit code {started.returncode} instead of {exit_code}"
    except subprocess.TimeoutExpired:
        kill_session(started)
        stdout, stderr = started.communicate()
        ending = f"did not end within {timeout:.0f} seconds"
    except BaseException:
        kill_session(started)
        raise
    if ending.startswith("did") or started.returncode != exit_code:
        raise AssertionError(explain([str(word) for word in command], ending, stdout, stderr))
    return subprocess.CompletedProcess(command, started.returncode, stdout, stderr)


def kill_session(process: subprocess.Popen) -> None:
    """Kill a process that leads a session, and all processes that it has started in it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def explain(command: list[str], ending: str, stdout: str, stderr: str) -> str:
    """Return how a command ended, with the ends of its output."""
    return f"{' '.join(command)}\n{ending}\nstandard output:\n{stdout[-3000:]}\nstandard error:\n{stderr[-6000:]}"


def wait_until_true(condition: Callable[[], bool], failure: str | Callable[[], str]) -> None:
    """Wait until a condition holds; fail with a message if it never does."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, failure if isinstance(failure, str) else failure()
        time.sleep(0.02)


class RunningCommand:
    """A command of viscy-train on one or several processes, the ranks of a process group."""

    def __init__(self, arguments: list[str], ranks: list[Any], outputs: list[Path]) -> None:
        self.arguments, self.ranks, self._outputs = arguments, ranks, outputs

    @property
    def stdout(self) -> str:
        """The standard output of all ranks so far."""
        return self._outputs[0].read_text() if self._outputs[0].exists() else ""

    @property
    def stderr(self) -> str:
        """The standard error of all ranks so far."""
        return self._outputs[1].read_text() if self._outputs[1].exists() else ""

    def wait(self, *exit_codes: int) -> None:
        """Wait until all ranks have ended; fail unless they end with these exit codes, or all with the only one."""
        deadline = time.monotonic() + DEADLINE
        for rank in self.ranks:
            rank.join(max(0.0, deadline - time.monotonic()))
        found = [rank.exitcode for rank in self.ranks]
        expected = list(exit_codes) if len(exit_codes) > 1 else list(exit_codes) * len(found)
        assert found == expected, self._explain(f"ended with exit codes {found} instead of {expected}")

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; fail if a rank ends before."""
        wait_until_true(
            lambda: condition() or not self.is_running(), lambda: self._explain("did not come so far in time")
        )
        assert condition(), self._explain("ended too early")

    def is_running(self) -> bool:
        """Return whether all ranks are running."""
        return all(rank.is_alive() for rank in self.ranks)

    def send(self, number: int, ranks: slice = slice(None)) -> None:
        """Send a signal to some ranks, by default to all."""
        for rank in self.ranks[ranks]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rank.pid, number)

    def kill(self) -> None:
        """Kill all ranks, and wait until they have ended; ranks that have ended before stay as they are."""
        self.send(signal.SIGKILL)
        for rank in self.ranks:
            rank.join()

    def _explain(self, ending: str) -> str:
        return explain(["viscy-train", *self.arguments], ending, self.stdout, self.stderr)


@pytest.fixture(scope="session")
def run_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs a command in an interpreter of its own; see `run_command_line`."""
    return run_command_line


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., None]:
    """A function that waits until a condition holds; see `wait_until_true`."""
    return wait_until_true


@pytest.fixture(scope="session")
def start_viscy_train(tmp_path_factory: pytest.TempPathFactory):
    """A context that runs a command of viscy-train in a directory, on processes that have Lightning loaded already.

    The ranks meet at a store of this process, on a port that nothing else can take. `before` is code that each rank
    runs first. Ranks that still run at the end of the context are killed.
    """

    @contextlib.contextmanager
    def start(
        arguments: Sequence[str], directory: Path, *, processes: int = 1, before: str = ""
    ) -> Generator[RunningCommand]:
        folder = tmp_path_factory.mktemp("output")
        outputs = [folder / "stdout.txt", folder / "stderr.txt"]
        environment: dict[str, str] = {}
        store = None
        if processes > 1:
            store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": str(processes)}
            environment |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
        code = partial(
            CHILD.format,
            directory=str(directory),
            outputs=[str(path) for path in outputs],
            before=before,
            arguments=list(arguments),
        )
        ranks = []
        for rank in range(processes):
            own = {"NODE_RANK": "0", "LOCAL_RANK": str(rank)} if processes > 1 else {}
            ranks.append(SERVER.Process(target=exec, args=(code(environment=environment | own),)))
        try:
            for process in ranks:
                process.start()
            yield RunningCommand(list(arguments), ranks, outputs)
        finally:
            for process in ranks:
                if process.is_alive():
                    process.kill()
                process.join()
            del store

    return start


@pytest.fixture(scope="session")
def run_viscy_train(start_viscy_train):
    """A function that runs a command of viscy-train to its end; see `start_viscy_train`."""

    def run(
        arguments: Sequence[str], directory: Path, *, exit_code: int = 0, processes: int = 1, before: str = ""
    ) -> RunningCommand:
        with start_viscy_train(arguments, directory, processes=processes, before=before) as command:
            command.wait(exit_code)
        return command

    return run


def write_batches(run_directory: RunDirectory, batches: list[Any], world_size: int) -> None:
    """Write the batch record of an epoch: batches in the order of the global sequence, each with its rows."""
    for rank in range(world_size):
        record_of_rank(run_directory.batches, rank).rewrite(
            format_line(batch_fields(number // world_size, 0, number, rank, rows).values())
            for number, rows in enumerate(batches)
            if number % world_size == rank
        )


@pytest.fixture(scope="session")
def record_batches() -> Callable[..., None]:
    """Write the batch record of an epoch of a run with a given number of processes."""
    return write_batches


@pytest.fixture(scope="session")
def benchmark_module() -> Callable[[str], Any]:
    """Return a module of the folder `benchmarks`, which is imported under a name that no other package has."""
    name, folder = "viscy_train_benchmarks", Path(__file__).parents[1] / "benchmarks"
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return lambda module: importlib.import_module(f"{name}.{module}")
