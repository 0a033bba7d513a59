"""Rank: the start of one training process, ``python -m viscy_train.rank FOLDER``, as `viscy_train.launch` calls it."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path


def end_with_parent() -> None:
    """End this process when the one that started it is gone, however it went: then standard input is closed."""

    def wait() -> None:
        # Not sys.stdin.read(), whose lock a thread must not hold when the interpreter ends.
        os.read(sys.stdin.fileno(), 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Train as a part of the run whose folder is the first argument."""
    end_with_parent()
    # Lightning takes seconds to load, in which the parent may go too.
    from viscy_train.folder import RunFolder
    from viscy_train.training import train

    train(RunFolder(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
