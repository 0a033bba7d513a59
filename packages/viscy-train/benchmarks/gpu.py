"""GPU benchmark: the share of data wait of convnext_tiny in bf16, fed by our loader. See ``make bench-gpu``."""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import yaml

from viscy_train.cli.entry_point import main as run_command
from viscy_train.training.headroom import Headroom, measure_headroom
from viscy_train.training.lightning_cli import TrainingCLI

from .large_project import POSITIONS_PER_EXPERIMENT, Size, write_large_project


def write_project(folder: Path, *, encoder: str, precision: str, accelerator: str, batch_size: int) -> Path:
    """Write a project with an anchor table, and return its configuration."""
    path = write_large_project(folder / "project", Size(POSITIONS_PER_EXPERIMENT))
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["trainer"] = {"accelerator": accelerator, "devices": 1, "precision": precision}
    config["model"]["encoder"] = {"name": encoder}
    config["data"]["num_workers"] = 4
    config["data"]["sampler"]["batch_size"] = batch_size
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    if run_command(["index", "--config", str(path)]):
        raise SystemExit("the anchor table could not be built")
    return path


def measure(config: Path, n_batches: int) -> Headroom:
    """Return the seconds of batches of a project, with normal loading and from memory."""
    return measure_headroom(TrainingCLI("fit", ["--config", str(config)], ""), n_batches)


def describe(headroom: Headroom, device: str) -> str:
    """Return the share of a batch's time that is data wait: what batches in memory do not take."""
    return f"Data wait of convnext_tiny in bf16 on {device}: {max(0.0, 1 - 1 / headroom.gain):.1%} of a batch"


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; without a GPU, only say so."""
    parser = argparse.ArgumentParser(prog="gpu", description=__doc__)
    parser.add_argument("--batches", type=int, default=50, help="number of batches of each measurement")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("There is no GPU, so its data wait cannot be measured")
        return
    with TemporaryDirectory() as folder:
        config = write_project(
            Path(folder), encoder="convnext_tiny", precision="bf16-mixed", accelerator="gpu", batch_size=256
        )
        print(describe(measure(config, options.batches), torch.cuda.get_device_name()))


if __name__ == "__main__":
    main()
