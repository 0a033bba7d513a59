"""Exit codes: what the program returns to the shell, and the line that it prints to standard error with them."""

from __future__ import annotations

import sys

EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: the run can be resumed
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report Ctrl-C


# Control characters, which a path may contain, as Python writes them.
_ESCAPES = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160)) if chr(code) != "\n"}


def explain_exit(message: str, code: int) -> int:
    """Print a message to standard error and return the exit code."""
    print(f"viscy-train: {message.translate(_ESCAPES)}", file=sys.stderr)
    return code
