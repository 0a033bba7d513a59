"""Exported encoder: the weights of an encoder in a safetensors file, with all that is needed to build it again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from viscy_train.atomic import atomic_write
from viscy_train.config.schema import EncoderConfig
from viscy_train.errors import UserError, require_regular_file
from viscy_train.model.encoder import Encoder
from viscy_train.model.encoder_input import EncoderInput
from viscy_train.output import OutputKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_FORMAT, _VERSION = "viscy-train encoder", "2"
_CHECKSUM = "sha256"
# The checksum of this version is one of the weights only.
_FIRST_VERSION = "1"
# Earlier versions know no others.
_FIRST_INPUTS = ("channels", "z_slices", "crop")


@dataclass(frozen=True, kw_only=True)
class ExportedEncoder:
    """The content of a file of an exported encoder.

    Parameters
    ----------
    weights : dict of str to torch.Tensor
        The weights by name, on the CPU.
    config : EncoderConfig
        The network.
    takes : EncoderInput
        What the network takes.
    """

    weights: dict[str, Tensor]
    config: EncoderConfig
    takes: EncoderInput


def _is_exported(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == _FORMAT
    except (SafetensorError, OSError):
        return False


EXPORTED = OutputKind("an encoder of viscy-train", _is_exported)


def write_encoder(path: Path, encoder: Encoder, config: EncoderConfig, takes: EncoderInput, version: str) -> None:
    """Write an encoder to a safetensors file, in one atomic step.

    Parameters
    ----------
    path : pathlib.Path
        File to write, ``.safetensors``.
    encoder : Encoder
        The encoder.
    config : EncoderConfig
        The network.
    takes : EncoderInput
        What it takes.
    version : str
        Version of this package.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    inputs = asdict(takes)
    first_inputs = {name: inputs.pop(name) for name in _FIRST_INPUTS}
    weights = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    metadata = {
        "format": _FORMAT,
        "version": _VERSION,
        "viscy_train": version,
        "encoder": json.dumps(asdict(config)),
        "input": json.dumps(first_inputs),
        "crops": json.dumps(inputs),
    }
    metadata[_CHECKSUM] = _checksum(weights, metadata)
    with atomic_write(path) as unfinished:
        save_file(weights, unfinished, metadata)


def read_encoder(path: Path) -> ExportedEncoder | None:
    """Read the file of an exported encoder.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    ExportedEncoder, optional
        None for a safetensors file of other software.

    Raises
    ------
    UserError
        If the file is missing, damaged (in any byte), or of a newer version.
    """
    metadata, weights = read_safetensors(path)
    if metadata.get("format") != _FORMAT:
        if "viscy_train" in metadata or _FORMAT in metadata.values():
            raise UserError(f"{path} is damaged: it does not name its format; export the encoder again")
        return None
    version = metadata.get("version")
    if version not in (_FIRST_VERSION, _VERSION):
        raise UserError(
            f"{path} must have version {_FIRST_VERSION} or {_VERSION} of the format of encoders, got {version}; update "
            "viscy-train"
        )
    try:
        config = EncoderConfig(**json.loads(metadata["encoder"]))
        takes = EncoderInput(**json.loads(metadata["input"]), **json.loads(metadata.get("crops", "{}")))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged: its metadata are malformed; export the encoder again") from error
    checked = {} if version == _FIRST_VERSION else {key: metadata[key] for key in metadata if key != _CHECKSUM}
    if metadata.get(_CHECKSUM) != _checksum(weights, checked):
        raise UserError(f"{path} is damaged: its content differs from its checksum; export the encoder again")
    return ExportedEncoder(weights=weights, config=config, takes=takes)


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read the metadata and the tensors of a safetensors file, which contains nothing else.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    require_regular_file(path, "the file of weights")
    if not path.is_file():
        raise UserError(f"file of weights not found: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} is not a safetensors file, or is damaged ({error})") from error


def load_encoder(path: Path | str) -> Encoder:
    """Return an exported encoder, in evaluation mode on the CPU.

    Parameters
    ----------
    path : path
        The file ``encoder.safetensors`` that ``viscy-train export`` wrote.

    Returns
    -------
    Encoder
        A `torch.nn.Module` that maps crops, float32, shape (n, n_channels, z_slices, side, side), to embeddings.

    Raises
    ------
    UserError
        If the file is missing, damaged, or not an exported encoder.
    """
    exported = read_encoder(Path(path))
    if exported is None:
        raise UserError(f"{path} is not an encoder of viscy-train; write one with `viscy-train export`")
    takes = exported.takes
    options: dict[str, Any] = asdict(exported.config) | {"pretrained": False}
    encoder = Encoder(len(takes.channels), takes.z_slices, takes.crop, EncoderConfig(**options))
    try:
        encoder.load_state_dict(exported.weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be loaded with the installed timm: {reason}") from error
    return encoder.eval()


def _checksum(weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return a hash of the metadata and of names, types, shapes and values of the weights."""
    digest = sha256()
    if metadata:
        digest.update(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(weights):
        value = weights[name].contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
