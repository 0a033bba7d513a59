"""Checkpoint: a file that a command starts from, checked for damage and for a matching model."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from viscy_train.config.suggestions import did_you_mean
from viscy_train.errors import UserError
from viscy_train.run.training_state import check_training_state
from viscy_train.wording import count

if TYPE_CHECKING:
    from torch import Tensor, nn

    from viscy_train.run.directory import RunDirectory

BEST = "best-{}.ckpt"
"""Name of a checkpoint that is kept because its score is among the best."""
DATA = "PairDataModule"
"""Key under which Lightning stores the state of the data module."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    content : dict
        The content of the file. Tensors are on the CPU and are read when they are used.
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
            If the file is missing, damaged, or not a checkpoint of this package.
        """
        if not path.is_file():
            raise UserError(f"checkpoint not found: {path}{did_you_mean(str(path), ('best', 'last'))}")
        try:
            content = read_torch_file(path)
        except ValueError as error:
            raise UserError(f"{path} is not a checkpoint, or is damaged; name another with --checkpoint") from error
        if not is_content(content):
            raise UserError(f"{path} is not a checkpoint of viscy-train; name another with --checkpoint")
        return cls(path, content)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights of the model by name."""
        return self.content["state_dict"]

    @property
    def data(self) -> dict[str, Any]:
        """The state of the data module."""
        return self.content[DATA]

    @property
    def step(self) -> int:
        """For how many steps the encoder was trained."""
        return int(self.content.get("global_step", 0))

    @property
    def epoch(self) -> int:
        """For how many complete epochs the encoder was trained."""
        return int(self.data.get("epoch", 0))

    @property
    def score(self) -> tuple[str, float] | None:
        """Name and value of the metric for which it was kept as one of the best; None if it was kept as the last."""
        callbacks = self.content.get("callbacks")
        for state in callbacks.values() if isinstance(callbacks, Mapping) else ():
            scores = state.get("best_k_models") if isinstance(state, Mapping) else None
            for path, value in scores.items() if isinstance(scores, Mapping) else ():
                if Path(path).name == self.path.name:
                    return str(state.get("monitor")), float(value)
        return None

    def describe(self) -> str:
        """Return which checkpoint it is: path, epochs, step and, if it is one of the best, its score."""
        score = "" if self.score is None else f", {self.score[0]} {self.score[1]:.4f}"
        return f"Checkpoint: {self.path} ({count(self.epoch, 'epoch')}, step {self.step:,}{score})"

    def require_resumable(self, model: nn.Module) -> None:
        """Refuse a checkpoint that lacks a part that a run resumes from, or has one of another form.

        Raises
        ------
        UserError
            If such a part is missing or malformed; the message names it.
        """
        try:
            check_training_state(self.content, self.data, [tuple(weights.shape) for weights in model.parameters()])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            what = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(
                f"{self.path} is damaged, or of another version, and cannot be resumed from ({what}); name another "
                "with --checkpoint"
            ) from error

    def require_model(self, model: nn.Module) -> None:
        """Refuse a model that does not match the weights.

        Raises
        ------
        UserError
            If weights are missing or have another shape; the message names one of them.
        """
        if not isinstance(self.weights, Mapping) or not all(map(torch.is_tensor, self.weights.values())):
            raise UserError(f"{self.path} is damaged: its weights are malformed; name another with --checkpoint")
        for name, value in self.weights.items():
            if not torch.isfinite(value).all():
                raise UserError(f"{self.path} has weights that are not finite: {name}; name another with --checkpoint")
        shapes = {name: tuple(value.shape) for name, value in self.weights.items()}
        expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        for name in expected | shapes:
            if shapes.get(name) != expected.get(name):
                raise UserError(
                    f"{self.path} belongs to another model: {name} has shape {shapes.get(name)} in the checkpoint and "
                    f"{expected.get(name)} in the configured model; restore {_settings_of(name)}, or name another "
                    "checkpoint"
                )


def _settings_of(name: str) -> str:
    """Return the settings that decide which shape a weight of a model has."""
    if name.startswith("loss."):
        return "model.loss.learn_temperature"
    return "model.encoder, data.z_slices and the number of channels"


def read_torch_file(path: Path) -> Any:
    """Read a file of `torch.save` without running any code that it contains.

    Parameters
    ----------
    path : pathlib.Path
        The file. Tensors are on the CPU and are read when they are used.

    Raises
    ------
    ValueError
        If the file is damaged, is something else, or contains code.
    """
    try:
        is_archive = zipfile.is_zipfile(path)
        if is_archive:
            with zipfile.ZipFile(path) as parts:
                if (damaged := parts.testzip()) is not None:  # torch does not check
                    raise ValueError(damaged)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except Exception as error:  # the type depends on what is wrong with the file
        raise ValueError(" ".join(str(error).split())) from error


def is_content(content: Any) -> bool:
    """Return whether the content of a file is that of a checkpoint of this package."""
    return isinstance(content, dict) and {"state_dict", "loops", DATA} <= content.keys()


def checkpoint_to_resume(run_directory: RunDirectory, ckpt_path: str | None, model: nn.Module) -> Checkpoint | None:
    """Return the checkpoint from which to resume.

    Parameters
    ----------
    run_directory : RunDirectory
        The run.
    ckpt_path : str, optional
        A path, ``last`` for the run's own last checkpoint, which may not exist yet, or ``best``.
    model : torch.nn.Module
        The configured model.

    Returns
    -------
    Checkpoint, optional
        None to start from the beginning.

    Raises
    ------
    UserError
        If the file is missing, damaged, not a checkpoint of this package, or belongs to another model.
    """
    checkpoint = None if ckpt_path is None else _find(run_directory, ckpt_path)
    if checkpoint is not None:
        checkpoint.require_model(model)
        checkpoint.require_resumable(model)
    return checkpoint


def checkpoint_to_evaluate(run_directory: RunDirectory, ckpt_path: str, model: nn.Module) -> Checkpoint:
    """Return the checkpoint to evaluate; unlike `checkpoint_to_resume`, require that it exists, but only its weights.

    Raises
    ------
    UserError
        If it does not exist, is damaged, not a checkpoint of this package, or belongs to another model.
    """
    checkpoint = _find(run_directory, ckpt_path)
    if checkpoint is None:
        raise UserError(
            f"checkpoint not found: {run_directory.last_checkpoint}; train first, or name one with --checkpoint"
        )
    checkpoint.require_model(model)
    return checkpoint


def _find(run_directory: RunDirectory, ckpt_path: str) -> Checkpoint | None:
    if ckpt_path == "best":
        return _find_best(run_directory)
    if ckpt_path != "last":
        return Checkpoint.read(Path(ckpt_path))
    return Checkpoint.read(run_directory.last_checkpoint) if run_directory.last_checkpoint.exists() else None


def _find_best(run_directory: RunDirectory) -> Checkpoint:
    """Return the checkpoint with the lowest score of those that were kept as the best."""
    kept = [Checkpoint.read(path) for path in sorted(run_directory.checkpoints.glob(BEST.format("*")))]
    scores = [(one.score[1], number) for number, one in enumerate(kept) if one.score is not None]
    if not scores:
        raise UserError(
            f"no best checkpoint in {run_directory.checkpoints}: one is kept at each validation, which needs anchors "
            "for validation (data.split) and checkpoint.keep_best above 0; use --checkpoint last"
        )
    return kept[min(scores)[1]]
