"""Fixtures of the sample projects: a function that runs a project of the page from its files to its embeddings."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import yaml

from viscy_train.anchors.table import AnchorTable

from .page import outputs_of, words, yaml_of

# The sections of `config.yaml` that all projects share.
_CONFIG: dict[str, Any] = {
    "seed_everything": 1,
    "output": "run",
    "trainer": {"max_steps": 2, "accelerator": "cpu", "devices": 1, "logger": False},
    "model": {"encoder": {"name": "tiny", "width": 4, "features": 8, "projection": 4}},
    "data": {
        "experiments": "experiments.yaml",
        "anchors": "anchors.parquet",
        "crop": 16,
        "split": {"by": "none"},
        "num_workers": 0,
        "sampler": {"batch_size": 16},
    },
}
_RUN = """
for arguments in {commands!r}:
    print("$ viscy-train " + arguments[0], flush=True)
    if code := main(arguments):
        sys.exit(code)
print("$ viscy-train predict", flush=True)
"""


class Project(NamedTuple):
    """A project that was trained: what the commands printed, and what they wrote."""

    name: str
    folder: Path
    printed: dict[str, str]

    @property
    def table(self) -> AnchorTable:
        """The anchor table."""
        return AnchorTable.read(self.folder / "anchors.parquet")

    @property
    def embeddings(self) -> Any:
        """The embedding of every observation, an `anndata.AnnData`."""
        import anndata

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of anndata, about pandas
            return anndata.read_h5ad(self.folder / "run" / "embeddings.h5ad")

    @property
    def batches(self) -> list[pd.DataFrame]:
        """The anchors of each batch that was trained on."""
        record = pd.read_csv(self.folder / "run" / "batches" / "rank0.csv")
        observations = self.table.observations
        return [observations.iloc[[int(row) for row in rows.split()]] for rows in record["rows"].astype(str)]

    def check_page(self) -> None:
        """Check that the commands printed all output that the page shows for the project."""
        printed = words(" ".join(self.printed.values()))
        for output in outputs_of(self.name):
            assert words(output) in printed, "\n".join(self.printed.values())


def write_files(folder: Path, name: str, *, experiments: bool = True) -> Path:
    """Write the files of a project with the YAML of the page; return its configuration."""
    if experiments:
        (folder / "experiments.yaml").write_text(yaml_of(name, "experiments.yaml"), encoding="utf-8")
    config = yaml.safe_load(yaml.safe_dump(_CONFIG))
    config["data"] |= yaml.safe_load(yaml_of(name, "config.yaml")).get("data", {})
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture
def run_project(run_viscy_train: Callable[..., Any], tmp_path: Path) -> Callable[..., Project]:
    """Index, inspect, train and embed a project of the page, whose plates and tracks are in `tmp_path`."""

    def run(name: str, *, before: tuple[list[str], ...] = (), experiments: bool = True) -> Project:
        write_files(tmp_path, name, experiments=experiments)
        given = ["--config", "config.yaml"]
        commands = [*before, *([command, *given] for command in ("index", "inspect", "fit"))]
        done = run_viscy_train(["predict", *given], tmp_path, before=_RUN.format(commands=commands))
        parts = done.stdout.split("$ viscy-train ")[1:]
        printed = {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}
        return Project(name, tmp_path, printed)

    return run
