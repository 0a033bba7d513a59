"""Checkpoints: which one a command begins from, and whether it fits what is configured."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from viscy_train.folder import RunFolder

DATA = "PairDataModule"
"""Name under which Lightning keeps the state of the data."""


def checkpoint_to_go_on_from(folder: RunFolder, asked: str | None, model: nn.Module) -> Path | None:
    """Return the checkpoint that is asked for.

    Parameters
    ----------
    folder : RunFolder
        Of the run.
    asked : str, optional
        A path, or ``last`` for the run's own last one, which may not be there yet.
    model : torch.nn.Module
        What it is for.

    Returns
    -------
    pathlib.Path, optional
        None to start anew.

    Raises
    ------
    UserError
        If it is not there, damaged, of another program, or of another model.
    """
    if asked is None:
        return None
    path = folder.last_checkpoint if asked == "last" else Path(asked)
    if asked == "last" and not path.exists():
        return None
    _require_fit(path, read_checkpoint(path), model)
    return path


def checkpoint_to_measure(folder: RunFolder, asked: str, model: nn.Module) -> Path:
    """Return the checkpoint that is asked for; unlike one to go on from, it must be there.

    Raises
    ------
    UserError
        If it is not, or as `checkpoint_to_go_on_from` does.
    """
    path = checkpoint_to_go_on_from(folder, asked, model)
    if path is None:
        raise UserError(f"there is no checkpoint {folder.last_checkpoint}; train first, or name one with --ckpt_path")
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, on the CPU; tensors are read when they are used.

    Raises
    ------
    UserError
        If it is not there, damaged, or of another program.
    """
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    try:
        with zipfile.ZipFile(path) as parts:
            if (spoilt := parts.testzip()) is not None:
                raise ValueError(spoilt)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # of many types, for a file that is no checkpoint or half of one
        raise UserError(f"{path} is no checkpoint, or a damaged one; name another with --ckpt_path") from error
    if not isinstance(content, dict) or not {"state_dict", "loops", DATA} <= content.keys():
        raise UserError(f"{path} is no checkpoint of viscy-train; name another with --ckpt_path")
    return content


def _require_fit(path: Path, content: dict[str, Any], model: nn.Module) -> None:
    there = {name: tuple(value.shape) for name, value in content["state_dict"].items()}
    here = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name in here | there:
        if there.get(name) != here.get(name):
            raise UserError(
                f"{path} is of another model: {name} has the shape {there.get(name)} there and {here.get(name)} here; "
                "leave model.encoder, data.z_slices and the number of channels as they were, or name another checkpoint"
            )
