"""What the page says that `index` says about mistakes is what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from viscy_train.cli.entry_point import main
from viscy_train.exit_codes import EXIT_USER_ERROR

from .conftest import write_files
from .maker import write_movies
from .page import PAGE, examples, words

WELLS = {"A/1": 1, "B/1": 1}


def change(path: Path, edit: Callable[[Any], object]) -> None:
    """Change a YAML file by a function of its content."""
    content = yaml.safe_load(path.read_text())
    edit(content)
    path.write_text(yaml.safe_dump(content))


def see_all_channels(folder: Path) -> None:
    change(folder / "config.yaml", lambda config: config["data"].pop("channels"))


def ask_for_less_than_a_frame(folder: Path) -> None:
    change(folder / "config.yaml", lambda config: config["data"].update(positive={"min_hours": 0.1, "max_hours": 0.4}))


def forget_the_size_of_a_pixel(folder: Path) -> None:
    for name in ("coarse", "fine"):
        write_movies(folder, name, ["Phase3D"], WELLS, micrometers=1.0)
    change(folder / "experiments.yaml", lambda content: content["experiments"][1].pop("micrometers_per_pixel"))


def count_frames_from_1(folder: Path) -> None:
    for name in ("slow", "fast"):
        write_movies(folder, name, ["Phase3D", "GFP"], WELLS)
    for path in (folder / "tracks" / "slow").glob("*/*/*.csv"):
        pd.read_csv(path).assign(t=lambda table: table["t"] + 1).to_csv(path, index=False)


MISTAKES = {
    see_all_channels: "channels",
    ask_for_less_than_a_frame: "intervals",
    forget_the_size_of_a_pixel: "pixel-sizes",
    count_frames_from_1: "intervals",
}


@pytest.mark.parametrize(("make", "project"), MISTAKES.items(), ids=[make.__name__ for make in MISTAKES])
def test_the_page_shows_what_index_says(tmp_path: Path, monkeypatch, capfd, make, project: str):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path, project)
    make(tmp_path)
    assert main(["index", "--config", "config.yaml"]) == EXIT_USER_ERROR
    said = capfd.readouterr().err.replace(f"{tmp_path}/", "")
    page = words(PAGE.read_text(encoding="utf-8"))
    # The page does not say which line of the file it is.
    where = r"^\s*(viscy-train: error: )?((experiments|config)\.yaml, line \d+: )?"
    sentences = [line for one in said.splitlines() if (line := re.sub(where, "", one).strip())]
    assert any(words(sentence) in page for sentence in sentences), said


def test_every_example_of_the_page_is_yaml_that_a_project_uses():
    for name, blocks in examples().items():
        for block in blocks:
            if block.language == "yaml":
                assert re.match(r"# (experiments\.yaml|config\.yaml|collection\.yml)\n", block.text), name
                assert isinstance(yaml.safe_load(block.text), dict), name
