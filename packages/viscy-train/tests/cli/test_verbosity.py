"""How much a command says: by default what a user needs, with `-q` less, and with `-v` what is done and why."""

import logging
import re

import pytest

from viscy_train.cli.entry_point import main
from viscy_train.console import is_quiet
from viscy_train.exit_codes import EXIT_USER_ERROR


@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_a_quiet_index_prints_its_result_and_warnings_only(capsys, project, flag):
    assert main(["index", "--config", str(project), flag]) == 0
    said = capsys.readouterr()
    assert said.out == f"Done. Wrote {project.parent / 'anchors.parquet'}\n"
    assert said.err == ""
    assert not is_quiet()


def test_a_quiet_inspect_prints_the_composition(capsys, project):
    assert main(["-q", "inspect", "--config", str(project)]) == 0
    text = capsys.readouterr().out
    assert "Composition of a batch" in text
    assert "A positive is another frame" not in text


@pytest.mark.parametrize("words", [["-v", "index"], ["index", "--verbose"]])
def test_a_verbose_command_says_what_it_does_and_why_with_the_time(capsys, project, words):
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    assert main([*words, "--config", str(project)]) == 0
    said = capsys.readouterr()
    assert f"Done. Wrote {project.parent / 'anchors.parquet'}\n" in said.out
    lines = said.err.splitlines()
    assert all(re.match(r" +\d+\.\d\d s  [\w.]+: ", line) for line in lines)
    text = "\n".join(lines)
    assert "without Lightning, because index needs no model" in text
    assert f"writing 960 observations to {project.parent / 'anchors.parquet'}" in re.sub(r"\d+ obs", "960 obs", text)
    assert "on a processor" in lines[-1]
    assert (root.level, list(root.handlers)) == before


def test_what_libraries_log_is_shown_on_request_only(capsys, monkeypatch, project):
    def log(*_):
        logging.getLogger("iohub.ngff").warning("a plate of another version")
        return 0

    monkeypatch.setattr("viscy_train.cli.commands.index", log)
    for flags, is_shown in (([], False), (["-q"], False), (["-v"], True)):
        assert main(["index", "--config", str(project), *flags]) == 0
        assert ("a plate of another version" in capsys.readouterr().err) is is_shown


def test_a_command_is_not_verbose_and_quiet(error_line):
    assert main(["index", "-v", "-q"]) == EXIT_USER_ERROR
    assert "a command is either --verbose or --quiet, got both" in error_line()
