"""The state of a sampler: where it is in its sequence, and a fingerprint of the table and the options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from viscy_data._options import integer

if TYPE_CHECKING:
    from viscy_data._options import SamplerOptions
    from viscy_data.index import AnchorIndex

_VERSION = 1
_KEYS = {"version", "epoch", "position", "fingerprint"}
# States of versions that did not have these options yet belong to samplers without them.
_LATER_OPTIONS = dict.fromkeys(("anchors_per_condition", "epoch_batches", "distinct_by", "place_by"), repr(None))
_LATER_OPTIONS |= {"locality": repr(1)}


def fingerprint(index: AnchorIndex, options: SamplerOptions) -> dict[str, str]:
    """Return a short text for the table and for each option; samplers with equal texts yield equal sequences."""
    result = {"valid_anchors": f"{len(index)} rows, {index.digest}"}
    for field in fields(options):
        value = getattr(options, field.name)
        if isinstance(value, Mapping):  # regardless of the order of its keys
            value = sorted(value.items(), key=repr)
        result[field.name] = repr(value)
    return result


def dump(epoch: int, batch_index: int, fingerprint: dict[str, str]) -> dict[str, Any]:
    """Return a state of plain values, which any checkpoint can hold."""
    return {"version": _VERSION, "epoch": epoch, "position": batch_index, "fingerprint": fingerprint}


def load(state: Mapping[str, Any], fingerprint: dict[str, str], total: int) -> tuple[int, int]:
    """Return epoch and batch index of a state; raise as `FlexibleBatchSampler.load_state_dict` documents."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state_dict must be a mapping, got {type(state).__name__}")
    is_state = set(state) == _KEYS and isinstance(state["fingerprint"], Mapping) and type(state["version"]) is int
    if not is_state or state["version"] != _VERSION:
        raise ValueError(
            f"state_dict must be one that FlexibleBatchSampler.state_dict() returned (version {_VERSION}), got keys "
            f"{sorted(map(str, state))} and version {state.get('version')!r}; load the state of a sampler"
        )
    saved = _LATER_OPTIONS | dict(state["fingerprint"])
    for name in fingerprint:
        if not isinstance(saved.get(name), str) or saved[name] != fingerprint[name]:
            raise ValueError(
                f"state_dict must be of the same table and options, but {name} differs: it was {saved.get(name)}, it "
                f"is {fingerprint[name]}; build the sampler as it was, or restart the epoch with set_epoch"
            )
    epoch = integer("epoch in state_dict", state["epoch"], at_least=0)
    batch_index = integer("position in state_dict", state["position"], at_least=0)
    return (epoch, batch_index) if batch_index < total else (epoch + 1, 0)
