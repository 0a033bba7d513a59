import io

import pytest

from viscy_train.console import (
    ProgressLog,
    get_console,
    make_console,
    make_table,
    note,
    on_each_of,
    quiet_console,
    say,
    say_result,
    say_sentences,
    track,
    warn,
)


@pytest.mark.parametrize("text", ["[bold]plate[/bold] :smile: 42", "/a path/" + 200 * "x"])
def test_text_is_printed_literally_on_one_line(capsys, text):
    say(text)
    assert capsys.readouterr().out == f"{text}\n"


def test_all_modules_share_one_console():
    assert get_console() is get_console()


def test_a_table_wraps_sentences_and_names_and_keeps_its_numbers():
    text = io.StringIO()
    table = make_table(["experiment", "condition"], ["anchors", "share of table"], "reason")
    table.add_row("2024_10_09_A549_TOMM20_ZIKV_DENV_dragonfly", "ZIKV MOI 5", 12 * "word ", "1,234,567", "12.3%")
    make_console(file=text, width=70).print(table)
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 70
    assert any("1,234,567" in line and "12.3%" in line for line in lines)
    assert "".join(line[:16].strip() for line in lines[3:]) == "2024_10_09_A549_TOMM20_ZIKV_DENV_dragonfly"


@pytest.mark.parametrize("is_terminal", [False, True])
def test_progress_is_shown_on_a_terminal_only(is_terminal):
    text = io.StringIO()
    console = make_console(file=text, force_terminal=is_terminal)
    assert list(track(range(3), "reading plates", console)) == [0, 1, 2]
    assert ("reading plates" in text.getvalue()) is is_terminal


class Clock:
    """A clock that the test sets."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def log_of_loop(seconds, *, total, n, first=0):
    """Return the lines of a loop whose items take some seconds each."""
    text, clock = io.StringIO(), Clock()
    log = ProgressLog("embedding", total, done=first, console=make_console(file=text), clock=clock)
    for done in range(first + 1, n + 1):
        clock.now += seconds
        log.update(done)
    return text.getvalue().splitlines()


def test_a_log_says_how_far_a_loop_is_how_fast_and_how_long_it_will_take():
    assert log_of_loop(0.25, total=400, n=400) == [
        "embedding: 120 of 400 (30%), 4 a second, about 70 s left",
        "embedding: 240 of 400 (60%), 4 a second, about 40 s left",
        "embedding: 360 of 400 (90%), 4 a second, about 10 s left",
    ]


def test_a_log_of_slow_items_gives_the_time_of_each():
    assert log_of_loop(100, total=3, n=2)[0] == "embedding: 1 of 3 (33%), 2 min each, about 3 min left"
    assert log_of_loop(7200, total=3, n=2)[0] == "embedding: 1 of 3 (33%), 2.0 h each, about 4.0 h left"


def test_a_log_without_a_total_gives_the_rate():
    assert log_of_loop(0.5, total=None, n=61) == ["embedding: 60, 2 a second"]


def test_what_was_done_before_does_not_count_for_the_rate():
    assert log_of_loop(0.5, total=200, n=160, first=100) == ["embedding: 160 of 200 (80%), 2 a second, about 20 s left"]


def test_a_short_loop_has_no_log_and_a_long_one_no_flood():
    assert log_of_loop(0.01, total=100, n=100) == []
    assert 20 < len(log_of_loop(1.0, total=36_000, n=36_000)) < 150


def test_a_loop_is_logged_without_control_characters(monkeypatch):
    monkeypatch.setattr("viscy_train.console._LOG_INTERVAL", 0.0)
    monkeypatch.setattr("viscy_train.console._LOG_SHARE", 0.0)
    text = io.StringIO()
    assert list(track(iter(range(3)), "reading plates", make_console(file=text), total=3, detail=lambda: "1 MB")) == [
        0,
        1,
        2,
    ]
    lines = text.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "  reading plates: 1 of 3 (33%)",
        "  reading plates: 2 of 3 (67%)",
    ]
    assert all(line.isprintable() and line.endswith(", 1 MB") for line in lines)


def test_a_quiet_console_prints_results_warnings_and_notes_only(capsys):
    with quiet_console():
        say("what is done")
        say_result("the result")
        warn("a doubt")
        note("a remark")
        say_sentences(["what is done", "Warning: another doubt", "Note: another remark"])
    said = ["the result", "Warning: a doubt", "Note: a remark", "Warning: another doubt", "Note: another remark"]
    assert capsys.readouterr().out.splitlines() == said
    say("what is done")
    assert capsys.readouterr().out == "what is done\n"


def test_a_number_of_processes_is_mentioned_when_there_are_several():
    assert on_each_of(2) == " on each of 2 processes"
    assert on_each_of(1) == ""
