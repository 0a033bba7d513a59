"""A checkpoint: the state of rank 0 as bytes, and where the training loop was when it was taken."""

from __future__ import annotations

import json
import os
import pickle
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

StateFormat = Literal["pickle", "json"]


@dataclass(frozen=True)
class Checkpoint:
    """What is left of a life: the state, the epoch to go on with, the number of the life and its steps so far."""

    state: bytes
    epoch: int
    life: int
    n_steps: int


def dumps(state: Any, state_format: StateFormat) -> bytes:
    """Return a state as bytes."""
    return pickle.dumps(state) if state_format == "pickle" else json.dumps(state).encode()


def loads(state: bytes, state_format: StateFormat) -> Any:
    """Read what `dumps` wrote."""
    return pickle.loads(state) if state_format == "pickle" else json.loads(state)


def write_whole(file: Path, data: bytes) -> None:
    """Write a file so that there is the old one or the new one whenever the process is killed."""
    new = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        with new.open("wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(new, file)
    except BaseException:
        with suppress(FileNotFoundError):
            new.unlink()
        raise


def read_checkpoint(file: Path) -> Checkpoint | None:
    """Read a checkpoint that was written with `write_whole`, or None where none was."""
    return pickle.loads(file.read_bytes()) if file.exists() else None
