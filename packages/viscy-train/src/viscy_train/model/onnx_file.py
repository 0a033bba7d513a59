"""ONNX file: an encoder for other software, compared with the encoder itself before it is written."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np
import torch

from viscy_train.atomic import atomic_write
from viscy_train.errors import UserError
from viscy_train.output import OutputKind

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from torch import Tensor, nn

_INPUT, _OUTPUT, _PRODUCER = "crops", "embeddings", "viscy-train"
# Batches of this size are compared, none of which is the size that the network is traced with.
_COMPARED = (1, 5)
# Relative to the largest embedding: float32, with the sums in another order.
_TOLERANCE = 1e-4
# A file of protobuf cannot be larger.
_MAX_BYTES = 2**31 - 1


def _is_onnx(path: Path) -> bool:
    with path.open("rb") as file:
        return _PRODUCER.encode() in file.read(64)


ONNX = OutputKind("an ONNX file of viscy-train", _is_onnx)


def require_onnx() -> None:
    """Refuse to go further if the packages of the extra ``onnx`` are missing.

    Raises
    ------
    UserError
        If they are.
    """
    for name in ("onnx", "onnxruntime", "onnxscript"):
        if find_spec(name) is None:
            raise UserError(f"--onnx needs the package {name}; install viscy-train[onnx]")


def write_onnx(path: Path, encoder: nn.Module, shape: tuple[int, ...]) -> float:
    """Write an encoder as ONNX, in one atomic step, after a comparison with the encoder.

    Parameters
    ----------
    path : pathlib.Path
        File to write, ``.onnx``.
    encoder : torch.nn.Module
        The encoder, in evaluation mode, on the CPU.
    shape : tuple of int
        Shape of a crop, (n_channels, z_slices, side, side).

    Returns
    -------
    float
        Largest difference between an embedding of ONNX Runtime and of torch, relative to the largest embedding.

    Raises
    ------
    UserError
        If torch cannot write the network as ONNX, or ONNX Runtime computes other embeddings.

    Notes
    -----
    The input is ``crops``, float32, shape (n, n_channels, z_slices, side, side) for any n; the output is
    ``embeddings``, float32, shape (n, features).
    """
    n_bytes = sum(value.numel() * value.element_size() for value in encoder.state_dict().values())
    if n_bytes > _MAX_BYTES:
        raise UserError(f"an ONNX file holds at most {_MAX_BYTES} bytes of weights, got {n_bytes}; use the safetensors")
    content = _convert(encoder, shape)
    difference = max(_compare(content, encoder, _crops(n, shape)) for n in _COMPARED)
    if not difference <= _TOLERANCE:
        raise UserError(
            f"ONNX Runtime must compute the embeddings of torch to within {_TOLERANCE:g}, relative to the largest, got "
            f"a difference of {difference:.2g}; no ONNX file is written"
        )
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(content)
    return difference


def _crops(n: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn((n, *shape), generator=torch.Generator().manual_seed(n))


def _convert(encoder: nn.Module, shape: tuple[int, ...]) -> bytes:
    import onnx

    try:
        with _quiet():
            program = torch.onnx.export(
                encoder,
                (_crops(2, shape),),
                dynamo=True,
                input_names=[_INPUT],
                output_names=[_OUTPUT],
                dynamic_shapes={_INPUT: {0: torch.export.Dim("n")}},
                verbose=False,
            )
    except Exception as error:  # many types: every network has its own errors
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"torch cannot write this network as ONNX: {' '.join(lines[0].split())}") from error
    assert program is not None
    model = program.model_proto
    model.producer_name = _PRODUCER
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _compare(content: bytes, encoder: nn.Module, crops: Tensor) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run([_OUTPUT], {_INPUT: crops.numpy()})
    with torch.inference_mode():
        expected = encoder(crops).numpy()
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), np.finfo(np.float32).tiny))


@contextmanager
def _quiet() -> Generator[None]:
    """Suppress what the converter says about its own progress."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
