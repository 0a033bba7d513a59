"""Parser messages: what a user reads about a value of another type."""

import pytest

from viscy_train.cli.entry_point import main
from viscy_train.config.parser_messages import reword


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", "true"])
def test_an_option_that_must_be_above_0_says_so(value, capsys):
    assert main(["inspect", f"--epochs={value}"]) == 2
    assert capsys.readouterr().err == f"viscy-train: error: --epochs must be an integer above 0, got {value}\n"


def test_a_file_that_does_not_exist_is_said_to_be_not_found():
    assert reword("Parser key \"config\": File does not exist: '/data/x.yaml'") == "file not found: /data/x.yaml"
