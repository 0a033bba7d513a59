"""Sockets: where data workers and their training process meet, in a directory whose path is short enough."""

from __future__ import annotations

import os
import tempfile
from multiprocessing import util

from viscy_train.errors import UserError

# A path of a socket has at most 107 bytes; multiprocessing appends a directory and a name to TMPDIR.
_LONGEST = 107 - len("/pymp-12345678/listener-12345678")
_SHORT = "/tmp"


def use_short_paths() -> None:
    """Let multiprocessing create its sockets in /tmp if the path of the directory for temporary files is too long.

    Workers would otherwise fail, or wait forever, depending on how they are started. Later Python versions do the same.

    Raises
    ------
    UserError
        If nothing can be created in /tmp.
    """
    directory = tempfile.gettempdir()
    if len(os.fsencode(directory)) <= _LONGEST:
        return
    try:
        tempfile.tempdir = _SHORT
        util.get_temp_dir()  # remembers the directory that it creates, and removes it at exit
    except OSError as error:
        raise UserError(
            f"TMPDIR must be at most {_LONGEST} bytes long for data workers, got {directory}; set it to a shorter "
            "path, or data.workers to threads"
        ) from error
    finally:
        tempfile.tempdir = directory
