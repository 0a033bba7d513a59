"""Checkpoints: which one a command begins from, and whether it fits what is configured."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from viscy_train.run.directory import RunDirectory

DATA = "PairDataModule"
"""Name under which Lightning keeps the state of the data."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is whole.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    content : dict
        What is in it; tensors are on the CPU, and read when they are used.
    """

    path: Path
    content: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Read a checkpoint.

        Parameters
        ----------
        path : pathlib.Path
            The file.

        Raises
        ------
        UserError
            If it is not there, damaged, or of another program.
        """
        if not path.is_file():
            raise UserError(f"there is no checkpoint {path}")
        try:
            with zipfile.ZipFile(path) as parts:
                if (spoilt := parts.testzip()) is not None:  # torch would not look
                    raise ValueError(spoilt)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # of many types, for a file that is no checkpoint or half of one
            raise UserError(f"{path} is no checkpoint, or a damaged one; name another with --ckpt_path") from error
        if not isinstance(content, dict) or not {"state_dict", "loops", DATA} <= content.keys():
            raise UserError(f"{path} is no checkpoint of viscy-train; name another with --ckpt_path")
        return cls(path, content)

    @property
    def weights(self) -> dict[str, Tensor]:
        """Those of the model, by their names."""
        return self.content["state_dict"]

    @property
    def data(self) -> dict[str, Any]:
        """State of the data."""
        return self.content[DATA]

    def require_model(self, model: nn.Module) -> None:
        """Refuse a model that it is not of.

        Raises
        ------
        UserError
            If weights are missing or of another shape; the message names one.
        """
        there = {name: tuple(value.shape) for name, value in self.weights.items()}
        here = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        for name in here | there:
            if there.get(name) != here.get(name):
                raise UserError(
                    f"{self.path} is of another model: {name} has the shape {there.get(name)} there and "
                    f"{here.get(name)} here; leave model.encoder, data.z_slices and the number of channels as they "
                    "were, or name another checkpoint"
                )


def checkpoint_to_resume(folder: RunDirectory, asked: str | None, model: nn.Module) -> Checkpoint | None:
    """Return the checkpoint that is asked for.

    Parameters
    ----------
    folder : RunDirectory
        Of the run.
    asked : str, optional
        A path, or ``last`` for the run's own last one, which may not be there yet.
    model : torch.nn.Module
        What it is for.

    Returns
    -------
    Checkpoint, optional
        None to start anew.

    Raises
    ------
    UserError
        If it is not there, damaged, of another program, or of another model.
    """
    if asked is None or (asked == "last" and not folder.last_checkpoint.exists()):
        return None
    found = Checkpoint.read(folder.last_checkpoint if asked == "last" else Path(asked))
    found.require_model(model)
    return found


def checkpoint_to_evaluate(folder: RunDirectory, asked: str, model: nn.Module) -> Checkpoint:
    """Return the checkpoint that is asked for; unlike one to go on from, it must be there.

    Raises
    ------
    UserError
        If it is not, or as `checkpoint_to_resume` does.
    """
    found = checkpoint_to_resume(folder, asked, model)
    if found is None:
        raise UserError(f"there is no checkpoint {folder.last_checkpoint}; train first, or name one with --ckpt_path")
    return found
