"""The script for a shell completes commands, options, keys and choices."""

import subprocess

import pytest

from viscy_train.cli.completion import completion_script
from viscy_train.cli.entry_point import main
from viscy_train.exit_codes import EXIT_USER_ERROR

# Calls the function as bash does, and prints what it offers.
OFFER = """
source "$1"
function_name=$(complete -p viscy-train | sed 's/.*-F \\([^ ]*\\).*/\\1/')
while IFS= read -r words; do
  IFS='|' read -r -a COMP_WORDS <<< "$words"
  COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
  COMPREPLY=()
  $function_name
  echo "${COMPREPLY[*]}"
done
"""


def test_bash_completes_commands_options_keys_and_choices(capsys, tmp_path):
    assert main(["--print_shtab", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    offers = {
        "viscy-train|in": "init index inspect",
        "viscy-train|--ver": "--version",
        "viscy-train|index|--pi": "--pixels",
        "viscy-train|index|--pixels|a": "all",
        "viscy-train|study|--size|l": "laptop",
        "viscy-train|fit|--data.sampler.batch": "--data.sampler.batch_size",
        "viscy-train|fit|--config|x.yaml|--data.z|ma": "maximum",
        "viscy-train|fit|--data.sampler.leak": "--data.sampler.leaky",
        "viscy-train|predict|--verb": "--verbose",
        "viscy-train|init|scri": "script",
    }
    command = ["bash", "-c", OFFER, "bash", str(tmp_path / "script")]
    done = subprocess.run(command, input="\n".join(offers) + "\n", text=True, capture_output=True, cwd=tmp_path)
    assert dict(zip(offers, done.stdout.splitlines(), strict=True)) == offers


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script_of_all_commands(shell):
    script = completion_script(shell)
    for word in ("viscy-train", "inspect", "data.sampler.batch_size", "laptop"):
        assert word in script


@pytest.mark.parametrize(("options", "got"), [(["bahs"], "bahs; did you mean bash?"), ([], "nothing")])
def test_another_shell_is_refused(error_line, options, got):
    assert main(["--print_shtab", *options]) == EXIT_USER_ERROR
    assert error_line() == f"viscy-train: error: --print_shtab must be bash, zsh or fish, got {got}"
