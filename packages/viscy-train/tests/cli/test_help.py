"""The help of each command fits on a screen, and says all that its parser knows of the command's own options."""

import re
from importlib.metadata import version

import pytest

from viscy_train.cli.entry_point import main
from viscy_train.cli.options import make_parser
from viscy_train.cli.registry import COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_help_of_a_command_fits_on_a_screen(capsys, command, flag):
    assert main([command, flag]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(f"usage: viscy-train {command}")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=str)
def test_the_help_of_a_command_lists_its_options_and_an_example_of_them(capsys, command):
    main([command.name, "--help"])
    text, example = re.split(r"\nExample:\n", capsys.readouterr().out)
    for name in command.options:
        assert f"\n  --{name}" in text
    own = {name for name in re.findall(r"--([\w.-]+)", example.splitlines()[0]) if "." not in name}
    assert own <= {*command.options, "config"}


@pytest.mark.parametrize("command", [name for name, command in COMMANDS.items() if not command.takes_config])
def test_the_example_of_a_command_without_a_configuration_is_valid(command):
    make_parser(command, "").parse_args(COMMANDS[command].example.split())


def test_the_help_is_shown_wherever_its_option_is(capsys, tmp_path):
    assert main(["index", "--config", str(tmp_path / "missing.yaml"), "--help"]) == 0
    assert "usage: viscy-train index" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["inspect", "demo"])
def test_the_complete_help_is_that_of_the_parser(capsys, command):
    with pytest.raises(SystemExit) as error:
        main([command, "--help-all"])
    assert error.value.code == 0
    text = capsys.readouterr().out
    assert ("--data.sampler.batch_size" if command == "inspect" else "--out") in text


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_versions_are_those_of_what_is_installed(capsys, flag):
    assert main([flag]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"viscy-train {version('viscy-train')}"
    assert {"viscy-data", "torch", "lightning", "python"} <= {line.split()[0] for line in lines}
