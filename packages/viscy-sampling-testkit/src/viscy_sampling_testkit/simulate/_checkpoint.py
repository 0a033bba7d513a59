"""A checkpoint: the state of rank 0 as bytes, and the epoch and step at which the training loop took it."""

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
    """What survives an attempt: the state, the epoch to resume, the index of the attempt and its steps so far."""

    state: bytes
    epoch: int
    attempt: int
    n_steps: int


def dumps(state: Any, state_format: StateFormat) -> bytes:
    """Return a state as bytes."""
    return pickle.dumps(state) if state_format == "pickle" else json.dumps(state).encode()


def loads(state: bytes, state_format: StateFormat) -> Any:
    """Read what `dumps` wrote."""
    return pickle.loads(state) if state_format == "pickle" else json.loads(state)


def atomic_write(file: Path, data: bytes) -> None:
    """Replace a file in one step: whenever the process is killed, the file is either the old one or the new one."""
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
    """Read a checkpoint that `atomic_write` wrote; None if the file does not exist."""
    return pickle.loads(file.read_bytes()) if file.exists() else None
