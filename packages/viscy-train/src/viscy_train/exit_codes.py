"""Exit codes: what the process returns, and the line that it prints with it."""

from __future__ import annotations

import sys
from typing import Any

EXIT_FAILED = 1


EXIT_USER_ERROR = 2


EXIT_STOPPED = 75


EXIT_INTERRUPTED = 130


def explain_exit(message: str, code: int) -> int:
    """Print a message to standard error and return the exit code."""
    print(f"viscy-train: {message}", file=sys.stderr)
    return code


def stopped(error: Any) -> int:
    """Tell that a run was stopped as asked, and return the exit code."""
    return explain_exit(str(error), EXIT_STOPPED)
