"""What the plates contradict is reported with the line of `experiments.yaml` that states it."""

import pytest
import yaml

from viscy_train.cli.entry_point import main
from viscy_train.exit_codes import EXIT_USER_ERROR


@pytest.mark.parametrize(
    ("before", "after", "key", "message"),
    [
        ("A/1: uninfected", "Z/9: uninfected", "Z/9", "has no well 'Z/9'; it has A/1, B/1"),
        ("A/1: uninfected", "A/1/7: uninfected", "A/1/7", "well A/1 of plate"),
        ("Virus", "Vrus", "channels", "has no channel 'Vrus'; it has Phase3D, Virus"),
        ("monday.zarr", "mondy.zarr", "plate", "plate not found"),
        ("tracks/monday", "tracks/mondy", "tracks", "tracks not found"),
    ],
)
def test_a_problem_of_a_plate_has_the_line_of_what_states_it(error_line, project, before, after, key, message):
    path = project.parent / "experiments.yaml"
    experiments = yaml.safe_load(path.read_text())["experiments"]
    text = yaml.safe_dump({"experiments": experiments[::-1]}, sort_keys=False)
    *others, last = text.split("- name: ")
    path.write_text("- name: ".join([*others, last.replace(before, after, 1)]))
    assert main(["index", "--config", str(project)]) == EXIT_USER_ERROR
    lines = path.read_text().splitlines()
    number = max(number for number, line in enumerate(lines, start=1) if line.strip().startswith(f"{key}:"))
    line = error_line()
    assert line.startswith(f"viscy-train: error: {path}, line {number}: experiment 'monday': ")
    assert message in line
