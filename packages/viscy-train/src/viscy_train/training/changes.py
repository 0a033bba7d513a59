"""Changes: how the configuration of an attempt differs from that of the attempt before."""

from __future__ import annotations

from typing import Any

from viscy_train.errors import UserError

# Only their content matters, which is checked elsewhere.
_PATHS = {"output", "ckpt_path", "data.experiments", "data.anchors", "data.store"}
# Weights of a checkpoint belong to one network; the batch sampler checks its own settings.
_FIXED = {f"model.encoder.{name}" for name in ("name", "width", "features", "projection")}
_FIXED |= {"model.loss.learn_temperature"}
_WITHOUT_EFFECT = {"model.encoder.pretrained", "model.init_from"}
# What a run did whose configuration does not have the setting yet.
_FORMER = {"model.loss.negatives": "step"}


def list_changes(recorded: Any, given: dict[str, Any]) -> list[str]:
    """Return the settings that differ between two configurations, one text for each.

    Parameters
    ----------
    recorded : dict
        Configuration of the attempt before, as read from its file. Settings that it lacks are new and do not count,
        unless the run did something else than their default.
    given : dict
        Configuration of this attempt.

    Returns
    -------
    list of str
        Such as ``model.optimizer.learning_rate 0.01 (was 0.002)``.

    Raises
    ------
    UserError
        If a setting differs that cannot be changed.
    """
    before, after = _flatten(recorded), _flatten(given)
    before |= {key: value for key, value in _FORMER.items() if before and key in after and key not in before}
    changed = [key for key in before if before[key] != after.get(key) and key not in _PATHS]
    for key in changed:
        if key in _FIXED:
            raise UserError(
                f"{key} must be that of the checkpoint, {before[key]}, got {after.get(key)}; restore it, or start a "
                "new run in another `output`"
            )
    # A learned temperature is in the checkpoint.
    learned = {"model.loss.temperature"} if after.get("model.loss.learn_temperature") else set()
    return [_describe(key, before[key], after.get(key), _WITHOUT_EFFECT | learned) for key in changed]


def _describe(key: str, before: Any, after: Any, without_effect: set[str]) -> str:
    text = f"{key} {_show(after)} (was {_show(before)})"
    return f"{text}, without effect on a resumed run" if key in without_effect else text


def _flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(config, dict):
        return {}
    flat: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        flat |= _flatten(value, f"{key}.") if isinstance(value, dict) and value else {key: value}
    return flat


def _show(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else " ".join(str(value).split())
