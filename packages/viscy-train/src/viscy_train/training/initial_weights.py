"""Initial weights: what a new run starts from, a checkpoint, an exported encoder or a file of weights of timm."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from viscy_train.anchors.fingerprint import FINGERPRINT
from viscy_train.errors import UserError, require_regular_file
from viscy_train.model.encoder_input import describe_layout, input_of_state
from viscy_train.model.exported import read_encoder, read_safetensors
from viscy_train.run.checkpoint import DATA, is_content, read_torch_file

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from viscy_train.model.encoder import Encoder
    from viscy_train.model.encoder_input import EncoderInput

_OPTION = "model.init_from"
_BODY, _HEAD = "body.", "head."
# Where files of timm and of other software have their weights, the first one that exists.
_SECTIONS = ("state_dict_ema", "model_ema", "state_dict", "model")
# Of networks that were trained to classify.
_CLASSIFIERS = ("head.", "fc.", "classifier.", "head_dist.")
_OF_TIMM = "weights of a network of timm"
_RGB = 3
_N_NAMED = 3


@dataclass
class InitialWeights:
    """The weights in a file, and what became of them.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    kind : str
        What the file is, with an article.
    body, head : dict of str to torch.Tensor
        Weights of the network and of the projection head by name. Files of timm have no projection head.
    notes : list of str
        What was left out or adapted, see `load_initial_weights`.
    takes : EncoderInput, optional
        What the encoder was trained on, if the file says it.
    """

    path: Path
    kind: str
    body: dict[str, Tensor]
    head: dict[str, Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    takes: EncoderInput | None = None


def load_initial_weights(path: Path, encoder: Encoder, takes: EncoderInput | None = None) -> list[str]:
    """Load the weights of a file into an encoder that has not been trained.

    Parameters
    ----------
    path : pathlib.Path
        A checkpoint of this package, an encoder that ``viscy-train export`` wrote, or weights of the same network of
        timm, as ``.safetensors`` or as a file of `torch.save`. No code in it is run.
    encoder : Encoder
        The encoder. If the file is refused, it stays as it is.
    takes : EncoderInput, optional
        What it takes; by default, this is not compared with what the file says.

    Returns
    -------
    list of str
        A sentence that says what was loaded, and what was left out or adapted; and a note for each kind of difference
        between what the encoder takes and what the weights were trained on.

    Raises
    ------
    UserError
        If the file is missing, damaged, or of another network: if weights of the network are missing, have another
        shape, or if there are weights that belong to no layer of it; or if it is of crops with other numbers of
        channels and slices.

    Notes
    -----
    As timm does, the first convolution of a network trained on RGB images is adapted to another number of input
    channels, and position embeddings are resampled to another size of the crops.
    """
    weights = read_initial_weights(path)
    differences = _compare(weights, takes)
    _fit_to_network(weights, encoder.body)
    _require_body(weights, encoder.body)
    expected = encoder.head.state_dict()
    is_head_equal = _shapes(weights.head) == _shapes(expected)
    if weights.head and not is_head_equal:
        weights.notes.append("left out the projection head, which has other sizes")
    encoder.body.load_state_dict(encoder.body.state_dict() | weights.body)
    if is_head_equal:
        encoder.head.load_state_dict(weights.head)
    n_loaded = len(weights.body) + len(weights.head) * is_head_equal
    what = "the network and the projection head" if is_head_equal else "the network"
    notes = f"; {'; '.join(weights.notes)}" if weights.notes else ""
    start = f"Starting from {weights.kind}, {path}: loaded {what}, {n_loaded} weights{notes}"
    return [start, *(f"Note: the weights in {path} were trained on {difference}" for difference in differences)]


def _compare(weights: InitialWeights, takes: EncoderInput | None) -> list[str]:
    """Return how crops differ from those in training; refuse weights whose input channels have other meanings."""
    if takes is None or weights.takes is None:
        return []
    if takes.layout != weights.takes.layout:
        raise UserError(
            f"{_OPTION} {weights.path} is of an encoder of {describe_layout(weights.takes)}, and that of this run has "
            f"{describe_layout(takes)}; set data.z_slices, data.channels and `channels` of the experiments to the same "
            "numbers, or name another file"
        )
    return takes.differences_from(weights.takes)


def read_initial_weights(path: Path) -> InitialWeights:
    """Read a file of weights; see `load_initial_weights`."""
    require_regular_file(path, f"{_OPTION}, the file of weights,")
    if not path.is_file():
        raise UserError(f"{_OPTION} must be a file of weights, but {path} does not exist")
    if _is_torch_file(path):
        return _of_torch_file(path)
    try:
        exported = read_encoder(path)
        weights = read_safetensors(path)[1] if exported is None else exported.weights
    except UserError as error:
        raise UserError(f"{_OPTION} must be a file of weights, of torch or of safetensors: {error}") from error
    if exported is None:
        return _of_weights(path, weights)
    return replace(_of_encoder(path, "an exported encoder", weights), takes=exported.takes)


def _is_torch_file(path: Path) -> bool:
    """Return whether a file seems to be one of torch, not of safetensors, which may start with the same bytes."""
    with path.open("rb") as file:
        start = file.read(9)
    # Safetensors: the length of a header in JSON, and the header.
    if int.from_bytes(start[:8], "little") < path.stat().st_size and start.endswith(b"{"):
        return False
    # `torch.save` writes a ZIP archive, earlier versions of it a pickle.
    return start.startswith((b"PK", b"\x80"))


def _of_torch_file(path: Path) -> InitialWeights:
    try:
        content = read_torch_file(path)
    except ValueError as error:
        raise UserError(
            f"{_OPTION} must be a file of weights and nothing else, but {path} is damaged or contains other objects"
        ) from error
    if is_content(content):
        weights = _of_module(path, "a checkpoint", content["state_dict"])
        return replace(weights, takes=input_of_state(content[DATA], FINGERPRINT))
    section = next((name for name in _SECTIONS if isinstance(content, Mapping) and name in content), None)
    return _of_weights(path, content if section is None else content[section])


def _of_weights(path: Path, weights: Any) -> InitialWeights:
    """Return weights that may be those of a module, of an encoder, or of a network of timm."""
    if not isinstance(weights, Mapping) or not weights or not all(map(torch.is_tensor, weights.values())):
        raise UserError(f"{_OPTION} must be a file of weights by name, but {path} contains something else")
    from timm.models import clean_state_dict

    cleaned = clean_state_dict(dict(weights))
    if any(name.startswith(f"encoder.{_BODY}") for name in cleaned):
        return _of_module(path, "weights of a module of viscy-train", cleaned)
    if any(name.startswith(_BODY) for name in cleaned):
        return _of_encoder(path, "weights of an encoder of viscy-train", cleaned)
    return InitialWeights(path, _OF_TIMM, cleaned)


def _of_module(path: Path, kind: str, weights: Any) -> InitialWeights:
    if not isinstance(weights, Mapping) or not all(map(torch.is_tensor, weights.values())):
        raise UserError(f"{path} is damaged: its weights are malformed; name another file as {_OPTION}")
    prefix = "encoder."
    encoder = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    loaded = _of_encoder(path, kind, encoder)
    if any(name.startswith("loss.") for name in weights):
        loaded.notes.append("left out the learned temperature")
    return loaded


def _of_encoder(path: Path, kind: str, weights: Mapping[str, Tensor]) -> InitialWeights:
    body, head = (
        {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        for prefix in (_BODY, _HEAD)
    )
    others = [name for name in weights if not name.startswith((_BODY, _HEAD))]
    return InitialWeights(path, kind, body, head, [f"left out {_some(others)}"] if others else [])


def _fit_to_network(weights: InitialWeights, body: nn.Module) -> None:
    """Do what timm does with weights of the same network for other inputs, and without its classifier."""
    settings: dict[str, Any] = getattr(body, "pretrained_cfg", {})
    if not settings:  # not a network of timm
        return
    _resample(weights, body)
    _adapt_first_convolutions(weights, body, settings)
    names = settings.get("classifier") or ()
    classifiers = tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names)) + _CLASSIFIERS
    known = body.state_dict()
    classifier = [name for name in weights.body if name not in known and name.startswith(classifiers)]
    if classifier:
        weights.body = {name: value for name, value in weights.body.items() if name not in classifier}
        weights.notes.append(f"left out the classifier ({_some(classifier)})")


def _resample(weights: InitialWeights, body: nn.Module) -> None:
    """Apply the function by which timm reads the weights of a family of networks, also those of other software."""
    filter_weights = getattr(sys.modules[type(body).__module__], "checkpoint_filter_fn", None)
    if filter_weights is None:
        return
    before = _shapes(weights.body)
    try:
        weights.body = filter_weights(dict(weights.body), body)
    except Exception as error:  # many types: every family of timm has its own function
        raise _another_network(weights.path, " ".join(str(error).split())) from error
    known = body.state_dict()
    resampled = [
        name for name, shape in _shapes(weights.body).items() if name in known and before.get(name, shape) != shape
    ]
    if resampled:
        weights.notes.append(f"resampled {_some(resampled)} to the size of the crops")


def _adapt_first_convolutions(weights: InitialWeights, body: nn.Module, settings: Mapping[str, Any]) -> None:
    from timm.models import adapt_input_conv

    names, known = settings.get("first_conv") or (), body.state_dict()
    for name in (names,) if isinstance(names, str) else names:
        key = f"{name}.weight"
        if key not in weights.body or key not in known:
            continue
        given, expected = weights.body[key], known[key]
        if given.shape == expected.shape and given.shape[1] == _RGB and weights.kind == _OF_TIMM:
            weights.notes.append(
                f"{key} has a filter for each of {_RGB} input channels, red, green and blue, in this order"
            )
        if given.shape == expected.shape or given.ndim != 4 or given.shape[1] != _RGB:
            continue
        weights.body[key] = adapt_input_conv(expected.shape[1], given)
        weights.notes.append(f"adapted {key} from {_RGB} to {expected.shape[1]} input channels")


def _require_body(weights: InitialWeights, body: nn.Module) -> None:
    """Refuse weights that are not those of the network; count batches are in newer files of torch only."""
    expected, given = body.state_dict(), weights.body
    if not any(name in expected for name in given):
        raise _another_network(weights.path, f"none of its weights has a name of the network ({_some(list(given))})")
    for name in expected:
        if name not in given and not name.endswith("num_batches_tracked"):
            raise _another_network(weights.path, f"it lacks {name}")
    for name, value in given.items():
        if name not in expected:
            raise _another_network(weights.path, f"the network has no {name}")
        if value.shape != expected[name].shape:
            raise _other_shape(weights.path, name, value, expected[name])
        if not torch.isfinite(value).all():
            raise UserError(f"{weights.path} has weights that are not finite: {name}; name another file as {_OPTION}")


def _other_shape(path: Path, name: str, value: Tensor, expected: Tensor) -> UserError:
    shapes = f"{name} has shape {tuple(value.shape)} in the file and {tuple(expected.shape)} in the configured network"
    is_first = value.ndim == expected.ndim == 4 and value.shape[0] == expected.shape[0]
    if is_first and value.shape[2:] == expected.shape[2:]:
        return UserError(
            f"{_OPTION} {path} is of a network with {value.shape[1]} input channels, and the configured one has "
            f"{expected.shape[1]} (channels times data.z_slices): {shapes}; only weights for {_RGB} channels are "
            "adapted, so use the same number"
        )
    return _another_network(path, shapes)


def _another_network(path: Path, reason: str) -> UserError:
    return UserError(
        f"{_OPTION} {path} is of another network than model.encoder: {reason}; set model.encoder to that of the file, "
        "or name another file"
    )


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in weights.items()}


def _some(names: list[str]) -> str:
    return ", ".join(names[:_N_NAMED]) + (", ..." if len(names) > _N_NAMED else "")
