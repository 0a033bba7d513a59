import io

import pytest

from viscy_train.console import get_console, make_console, make_table, on_each_of, say, track


@pytest.mark.parametrize("text", ["[bold]plate[/bold] :smile: 42", "/a path/" + 200 * "x"])
def test_text_is_printed_literally_on_one_line(capsys, text):
    say(text)
    assert capsys.readouterr().out == f"{text}\n"


def test_all_modules_share_one_console():
    assert get_console() is get_console()


def test_a_table_wraps_its_headings_and_keeps_its_names():
    text = io.StringIO()
    table = make_table(["experiment"], ["share of the whole table"], "reason")
    table.add_row("a_name_of_thirty_characters_xx", 12 * "word ", "42")
    make_console(file=text, width=60).print(table)
    assert "a_name_of_thirty_characters_xx" in text.getvalue()
    assert max(map(len, text.getvalue().splitlines())) <= 60


@pytest.mark.parametrize("is_terminal", [False, True])
def test_progress_is_shown_on_a_terminal_only(is_terminal):
    text = io.StringIO()
    console = make_console(file=text, force_terminal=is_terminal)
    assert list(track(range(3), "reading plates", console)) == [0, 1, 2]
    assert ("reading plates" in text.getvalue()) is is_terminal


def test_a_number_of_processes_is_mentioned_when_there_are_several():
    assert on_each_of(2) == " on each of 2 processes"
    assert on_each_of(1) == ""
