"""Rank: ``python -m viscy_train.cli.rank COMMAND ...``, the command line as one process of `viscy_train.cli.launch`."""

from __future__ import annotations

import os
import sys
import threading


def end_with_parent() -> None:
    """End this process when the one that started it is gone, however it went: then standard input is closed."""

    def wait() -> None:
        # Not sys.stdin.read(), whose lock a thread must not hold when the interpreter ends.
        os.read(sys.stdin.fileno(), 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    # Lightning takes seconds to load, in which the parent may go too.
    from viscy_train.cli import main

    sys.exit(main())
