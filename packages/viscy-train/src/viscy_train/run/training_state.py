"""Training state: the parts of a checkpoint that a run resumes from, checked for their form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

_STAGES = ("ready", "started", "processed", "completed")
_COUNTS: dict[str, tuple[str, ...]] = {
    "epoch_progress": _STAGES,
    "epoch_loop.batch_progress": _STAGES,
    "epoch_loop.val_loop.batch_progress": _STAGES,
    "epoch_loop.scheduler_progress": ("ready", "completed"),
}
_OPTIMIZER_COUNTS: dict[str, tuple[str, ...]] = {
    "step": ("ready", "completed"),
    "zero_grad": ("ready", "started", "completed"),
}
_SPAN = {"end", "limit", "num_replicas", "batches_per_step"}


def check_training_state(content: Mapping[str, Any], data: Mapping[str, Any], shapes: list[tuple[int, ...]]) -> None:
    """Check the form of what Lightning and the data module restore.

    Parameters
    ----------
    content : mapping
        Content of the checkpoint.
    data : mapping
        The state of the data module in it.
    shapes : list of tuple of int
        Shapes of the parameters of the model.

    Raises
    ------
    LookupError, TypeError, ValueError, AttributeError
        If a part is missing or malformed.
    """
    for name, number in _numbers(content, data):
        _require(isinstance(number, int) and not isinstance(number, bool), f"{name} is not a whole number")
    for name, part in (("epoch", data), ("position", data), ("global_step", content)):
        _require(part[name] >= 0, f"{name} is negative")
    _require(type(data["version"]) is int, "no version of the sampler's state")
    texts = isinstance(data["fingerprint"], Mapping) and all(isinstance(x, str) for x in data["fingerprint"].values())
    _require(texts, "no fingerprint of the sampler")
    _require(isinstance(content["callbacks"], Mapping), "no states of callbacks")
    _check_optimizer(content, shapes)


def _numbers(content: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield all counts with their names."""
    loops = content["loops"]["fit_loop"]
    yield from ((name, content[name]) for name in ("epoch", "global_step"))
    yield from ((name, data[name]) for name in ("epoch", "position"))
    if "span" in data:
        span = data["span"]
        _require(set(span) == _SPAN and isinstance(span["limit"], int | float), "span is malformed")
        _require(span["num_replicas"] > 0 and span["batches_per_step"] > 0, "span is malformed")
        yield from ((name, span[name]) for name in _SPAN - {"limit"})
    optimizer = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    counts = [(name, loops[name], stages) for name, stages in _COUNTS.items()]
    counts += [(name, optimizer[name], stages) for name, stages in _OPTIMIZER_COUNTS.items()]
    for name, progress, stages in counts:
        yield from ((name, progress[span][stage]) for span in ("total", "current") for stage in stages)
    yield "steps", loops["epoch_loop.state_dict"].get("_batches_that_stepped", 0)


def _check_optimizer(content: Mapping[str, Any], shapes: list[tuple[int, ...]]) -> None:
    (optimizer,) = content["optimizer_states"]
    groups = optimizer["param_groups"]
    numbers = [number for group in groups for number in group["params"]]
    _require(numbers == list(range(len(shapes))), "the optimizer has other parameters than the model")
    for group in groups:
        has_rates = all(isinstance(group[name], float | int) for name in ("lr", "weight_decay", "eps"))
        _require(has_rates, "no learning rate")
        _require(len(group["betas"]) == 2, "no betas")
    for number, state in optimizer["state"].items():
        moments = {tuple(value.shape) for name, value in state.items() if name != "step"}
        _require(moments == {shapes[number]}, f"the optimizer's state of parameter {number} has another shape")
        _require(torch.as_tensor(state["step"]).numel() == 1, "the optimizer's step is malformed")
    for schedule in content["lr_schedulers"]:
        has_rates = len(schedule["base_lrs"]) == len(groups)
        _require(isinstance(schedule["last_epoch"], int) and has_rates, "a schedule is malformed")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)
