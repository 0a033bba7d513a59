"""Checkpoints that cannot be written: the error keeps nothing that crashes the interpreter."""

import errno
import io
import os
import traceback
from pathlib import Path

import pytest
import torch

from viscy_train.training.checkpointing import AtomicCheckpointIO

VIEW = type(io.BytesIO().getbuffer().obj)


def fail(path, data):
    view = memoryview(data)  # as Path.write_bytes makes one
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path), len(view))


def local_values(error):
    """Yield what the functions that an error and its causes have passed through keep in local variables."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            yield from frame.f_locals.values()
        error = error.__context__


def test_the_error_of_a_full_disk_keeps_no_view_of_a_buffer(tmp_path, monkeypatch):
    """Python 3.12 crashes at its end when it deletes a cycle of objects with such a view."""
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(Exception, match="No space left") as error:
        AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(3)}, tmp_path / "last.ckpt")
    views = [value for value in local_values(error.value) if isinstance(value, memoryview)]
    assert views
    assert not any(isinstance(view.obj, VIEW) for view in views)
    assert list(tmp_path.iterdir()) == []
