"""Export: an encoder as files for other people and other software, with a model card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from viscy_train.anchors.fingerprint import check_fingerprint
from viscy_train.config.schema import EncoderConfig
from viscy_train.console import say
from viscy_train.errors import UserError
from viscy_train.model.exported import EXPORTED, write_encoder
from viscy_train.model.onnx_file import ONNX, require_onnx, write_onnx
from viscy_train.output import in_use, require_replaceable
from viscy_train.report.model_card import MODEL_CARD, ExportedModel, write_model_card

if TYPE_CHECKING:
    from pathlib import Path

    from viscy_train.loading.data_module import PairDataModule
    from viscy_train.model.encoder import Encoder
    from viscy_train.run.checkpoint import Checkpoint
    from viscy_train.run.directory import RunDirectory

_ENCODER, _ONNX, _MODEL_CARD = "encoder.safetensors", "encoder.onnx", "README.md"
_KINDS = {_ENCODER: EXPORTED, _ONNX: ONNX, _MODEL_CARD: MODEL_CARD}


def export_encoder(
    folder: Path,
    encoder: Encoder,
    checkpoint: Checkpoint,
    data: PairDataModule,
    run_directory: RunDirectory,
    *,
    config: dict[str, Any],
    origin: dict[str, Any],
    with_onnx: bool,
) -> list[Path]:
    """Write an encoder and its model card to a folder, and replace those of an earlier export.

    Parameters
    ----------
    folder : pathlib.Path
        Folder to create or to write to.
    encoder : Encoder
        The encoder, with the weights of the checkpoint, on the CPU.
    checkpoint : Checkpoint
        The checkpoint.
    data : PairDataModule
        The data that it was trained on.
    run_directory : RunDirectory
        The directory of the run.
    config : dict
        The configuration of the run.
    origin : dict
        From `viscy_train.run.provenance.describe_origin`.
    with_onnx : bool
        Whether to write an ONNX file, too.

    Returns
    -------
    list of pathlib.Path
        The files.

    Raises
    ------
    UserError
        If the anchor table is not the one that the checkpoint was trained on, the folder has other files only, a file
        cannot be written or is something else, or the network cannot be written as ONNX. Files of an earlier export
        then stay.
    """
    check_fingerprint(checkpoint.data, data.table.fingerprint, "the checkpoint")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder with --out")
    _require_own(folder)
    if with_onnx:
        require_onnx()
    encoder = encoder.eval()
    takes = data.encoder_input
    shape = (len(takes.channels), takes.z_slices, takes.crop, takes.crop)
    with in_use(folder, "export"):
        for name, kind in _KINDS.items():
            require_replaceable(folder / name, kind)
        difference = write_onnx(folder / _ONNX, encoder, shape) if with_onnx else None
        network = EncoderConfig(**config["model"]["encoder"])
        write_encoder(folder / _ENCODER, encoder, network, takes, origin["versions"]["viscy-train"])
        subject = ExportedModel(
            n_parameters=sum(value.numel() for value in encoder.body.parameters()),
            n_features=_count_features(encoder, shape),
            shape=shape,
            config=config,
            origin=origin,
            onnx_difference=difference,
        )
        write_model_card(folder / _MODEL_CARD, subject, data, run_directory)
        if not with_onnx and (folder / _ONNX).exists():
            (folder / _ONNX).unlink()
            say(f"Deleted {folder / _ONNX}, which has the weights of an earlier export; --onnx writes it again")
    return [folder / name for name in _KINDS if (folder / name).exists()]


def _require_own(folder: Path) -> None:
    """Refuse a folder with files of which none is one of an export, for it is likely a mistake."""
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    others = sorted(name for name in names if not name.startswith("."))
    if others and not names & _KINDS.keys():
        raise UserError(
            f"the folder of an export must be new, empty or that of an earlier export, {folder} has {others[0]!r}; "
            "name another one with --out"
        )


def _count_features(encoder: Encoder, shape: tuple[int, ...]) -> int:
    with torch.inference_mode():
        return encoder(torch.zeros(1, *shape)).shape[1]
