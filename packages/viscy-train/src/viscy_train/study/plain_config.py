"""Plain config: the configuration of a project as a file that every process of a study reads without Lightning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from jsonargparse import Namespace

from viscy_train.atomic import atomic_write
from viscy_train.remote.path import as_path
from viscy_train.training.data_cli import make_data_parser

if TYPE_CHECKING:
    from pathlib import Path

_SECTIONS = ("seed_everything", "output", "data", "model")
_TRAINER = ("accumulate_grad_batches", "gradient_clip_val", "precision")
"""Options of the trainer that decide what is learned in a step."""
_PATHS = ("output", "data.experiments", "data.anchors", "data.store", "model.init_from")


def plain_config(config: Namespace) -> dict[str, Any]:
    """Return the sections of a configuration that a study uses, with absolute paths, as plain values.

    Parameters
    ----------
    config : jsonargparse.Namespace
        The configuration, as `viscy_train.training.data_cli.DataCLI` or Lightning has parsed it.
    """
    kept = Namespace({name: config[name] for name in _SECTIONS}).clone()
    for name in _PATHS:
        if kept[name] is not None:
            kept[name] = str(as_path(kept[name]).absolute())
    for name in ("data.n_channels", "model.n_channels", "model.z_slices", "model.crop", "model.split_batches"):
        kept.pop(name, None)
    values = {name: config.trainer.get(name) for name in _TRAINER}
    trainer = {name: value for name, value in values.items() if value is not None}
    parser = make_data_parser("viscy-train study", "", {})
    text = parser.dump(parser.parse_object(_as_dict(kept) | {"trainer": trainer}), skip_validation=True)
    content = yaml.safe_load(text)
    return {name: content[name] for name in _SECTIONS} | {"trainer": trainer}


def write_plain_config(config: Namespace, path: Path) -> None:
    """Write the sections of a configuration that a study uses to a YAML file."""
    with atomic_write(path) as file:
        file.write_text(yaml.safe_dump(plain_config(config), sort_keys=False))


def _as_dict(config: Namespace) -> dict[str, Any]:
    content = config.as_dict()
    content["data"].pop("seed", None)  # that of seed_everything
    return content
