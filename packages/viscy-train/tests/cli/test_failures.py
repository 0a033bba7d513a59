"""Errors of the machine are one line; other errors keep their traceback."""

import errno
import threading

import pytest

from viscy_train.cli import entry_point, main
from viscy_train.cli.failures import explain_failure, quiet_threads

GLOO = (
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:42930. This ..."
)
NCCL = "NCCL error in: x.cpp\nncclRemoteError: A call failed possibly due to a network error or a remote process exited"
FAILURES = [
    (OSError(errno.ENOSPC, "No space left on device", "run/a"), "the disk is full", 2),
    (RuntimeError("unable to write to file: File too large"), "the disk is full", 2),
    (OSError(errno.EIO, "Input/output error", "/data/config.yaml"), "cannot read or write /data/config.yaml: Input", 2),
    (PermissionError(errno.EACCES, "Permission denied", b"/data/run"), "/data/run: Permission denied", 2),
    (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed."), "a data worker has ended", 1),
    (RuntimeError("DataLoader worker (pid(s) 12, 13) exited unexpectedly"), "a data worker has ended", 1),
    (RuntimeError(GLOO), "another process of this run has ended", 1),
    (RuntimeError(GLOO.replace("closed", "reset")), "another process of this run has ended", 1),
    (RuntimeError(NCCL), "another process of this run has ended", 1),
]


@pytest.mark.parametrize(("error", "message", "code"), FAILURES)
def test_an_error_of_the_machine_is_one_line(monkeypatch, capsys, error, message, code):
    def fail(words):
        raise error

    monkeypatch.setattr(entry_point, "_run", fail)
    assert main(["fit"]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("viscy-train: error: ")
    assert message in line


def test_a_message_does_not_steer_the_terminal(capsys, tmp_path):
    assert main(["index", "--config", str(tmp_path / "\x1b]0;title\x07.yaml")]) == 2
    assert r"\x1b]0;title\x07.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), OSError("unknown"), ValueError("closed by peer")])
def test_another_error_keeps_its_traceback(monkeypatch, error):
    def fail(words):
        raise error

    monkeypatch.setattr(entry_point, "_run", fail)
    with pytest.raises(type(error)):
        main(["fit"])


@pytest.mark.parametrize(
    ("error", "is_reported"), [(OSError(errno.ENOSPC, "full"), False), (ValueError("a bug"), True)]
)
def test_a_thread_does_not_report_what_the_command_reports(monkeypatch, error, is_reported):
    reported = []
    monkeypatch.setattr(threading, "excepthook", reported.append)

    def fail():
        raise error

    with quiet_threads():
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert len(reported) == is_reported
    assert threading.excepthook == reported.append
    assert explain_failure(ValueError("a bug")) is None
