"""Options have one name for one thing in all commands; earlier names still work."""

import pytest

from viscy_train.cli.aliases import replace_aliases
from viscy_train.cli.registry import COMMANDS


@pytest.mark.parametrize(
    ("command", "options", "expected"),
    [
        ("fit", [], []),
        ("fit", ["--out", "run"], ["--output", "run"]),
        ("fit", ["--out=run"], ["--output=run"]),
        ("fit", ["--output", "run"], ["--output", "run"]),
        ("index", ["--out", "a.parquet"], ["--data.anchors", "a.parquet"]),
        ("predict", ["--checkpoint", "best", "--out", "e.h5ad"], ["--ckpt_path", "best", "--out", "e.h5ad"]),
        ("predict", ["--ckpt_path", "last"], ["--ckpt_path", "last"]),
        ("fit", ["--checkpoint", "keep.yaml"], ["--checkpoint", "keep.yaml"]),
        ("fit", ["--checkpoint={keep_best: 2}"], ["--checkpoint={keep_best: 2}"]),
        ("fit", ["--checkpoint.keep_best", "2"], ["--checkpoint.keep_best", "2"]),
        ("pack", ["--out", "c.zarr"], ["--out", "c.zarr"]),
    ],
)
def test_an_alias_is_replaced_by_the_name_that_the_parser_knows(capsys, command, options, expected):
    assert replace_aliases(COMMANDS[command], options) == expected
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("command", "earlier"), [("inspect", "--page"), ("predict", "--embeddings"), ("replay", "--picture")]
)
@pytest.mark.parametrize("separator", [" ", "="])
def test_an_earlier_name_works_with_a_warning(capsys, command, earlier, separator):
    given, expected = (f"{name}{separator}file".split() for name in (earlier, "--out"))
    assert replace_aliases(COMMANDS[command], given) == expected
    assert capsys.readouterr().out == f"Warning: {earlier} is now --out; the earlier name will be removed in 0.3.0\n"


def test_every_command_that_writes_has_the_option_out():
    assert {name for name, command in COMMANDS.items() if "out" not in command.options} == {
        "validate",  # prints
        "report",  # writes into the run
        "view",
    }
