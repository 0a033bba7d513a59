"""Export: an encoder as files for other people and other software, with a model card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from viscy_train.anchors.fingerprint import check_fingerprint
from viscy_train.config.schema import EncoderConfig
from viscy_train.errors import UserError
from viscy_train.model.exported import EXPORTED, EncoderInput, write_encoder
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
        If the anchor table is not the one that the checkpoint was trained on, a file cannot be written or is something
        else, or the network cannot be written as ONNX. Files of an earlier export then stay.
    """
    check_fingerprint(checkpoint.data, data.table.fingerprint, "the checkpoint")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder with --out")
    if with_onnx:
        require_onnx()
    encoder = encoder.eval()
    crops = data.table.crops
    takes = EncoderInput(channels=data.channels, z_slices=crops.z_slices, crop=crops.crop)
    shape = (len(takes.channels), takes.z_slices, takes.crop, takes.crop)
    with in_use(folder, "export"):
        for name, kind in _KINDS.items():
            require_replaceable(folder / name, kind)
        difference = write_onnx(folder / _ONNX, encoder, shape) if with_onnx else None
        if not with_onnx:
            (folder / _ONNX).unlink(missing_ok=True)  # of other weights
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
    return [folder / name for name in _KINDS if (folder / name).exists()]


def _count_features(encoder: Encoder, shape: tuple[int, ...]) -> int:
    with torch.inference_mode():
        return encoder(torch.zeros(1, *shape)).shape[1]
