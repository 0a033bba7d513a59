"""`index --part` and `--processes`: what tasks of an array say, and the table of the call that follows them."""

import pytest

from viscy_train.cli.entry_point import main
from viscy_train.exit_codes import EXIT_USER_ERROR


def test_parts_and_a_last_call_write_the_table(project, capsys):
    path = project.parent / "anchors.parquet"
    index = ["index", "--config", str(project)]
    assert main(index) == 0
    expected = path.read_bytes()
    path.unlink()
    capsys.readouterr()
    for number in ("2/2", "1/2"):
        assert main([*index, "--part", number]) == 0
        assert capsys.readouterr().out == (
            "Done with this part: examined 4 positions. When all parts are done, run `viscy-train index` without "
            "--part to build the table\n"
        )
        assert not path.exists()
    assert main(index) == 0
    assert "Used what parts had read of 8 of 8 positions\n" in capsys.readouterr().out
    assert path.read_bytes() == expected


@pytest.mark.parametrize("option", [["--part", "3/2"], ["--part", ""], ["--processes", "0"]])
def test_an_invalid_option_is_an_error_in_one_line(project, error_line, option):
    assert main(["index", "--config", str(project), *option]) == EXIT_USER_ERROR
    assert option[0].strip("-") in error_line()
