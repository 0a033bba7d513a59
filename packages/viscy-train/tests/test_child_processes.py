"""The fixtures that run commands in child processes."""

import sys

import pytest


def test_a_failed_command_shows_its_output(run_command):
    code = "import sys; print('some output'); print('the reason', file=sys.stderr); sys.exit(3)"
    assert run_command([sys.executable, "-c", code], exit_code=3).stderr == "the reason\n"
    with pytest.raises(AssertionError) as failure:
        run_command([sys.executable, "-c", code])
    for words in (sys.executable, "exit code 3 instead of 0", "some output", "the reason"):
        assert words in str(failure.value)


def test_a_command_that_hangs_is_killed(run_command):
    with pytest.raises(AssertionError, match="did not end within 1 seconds"):
        run_command(["sleep", "100000"], timeout=1)


@pytest.mark.slow
def test_a_failed_command_of_viscy_train_shows_its_output(run_viscy_train, start_viscy_train, tmp_path):
    assert run_viscy_train(["--help"], tmp_path).stdout.count("\n  fit ") == 1
    with pytest.raises(AssertionError, match=r"exit codes \[2\] instead of \[0\](?s:.*)'nothing'"):
        run_viscy_train(["nothing"], tmp_path)
    with start_viscy_train(["nothing"], tmp_path) as command, pytest.raises(AssertionError, match="ended too early"):
        command.wait_until(lambda: False)
