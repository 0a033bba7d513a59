"""Config files: the YAML files that the options of a command name, checked before the parser reads them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viscy_train.errors import UserError, require_regular_file

if TYPE_CHECKING:
    from collections.abc import Iterator

# Sections with a key `name`, for which a name alone is a common mistake.
_NAMED = ("model.encoder", "model.loss")
_SECTIONS = [
    "trainer",
    "model",
    *(f"model.{name}" for name in ("encoder", "loss", "optimizer")),
    "data",
    *(f"data.{name}" for name in ("normalization", "positive", "sampler", "split", "augmentation")),
    "checkpoint",
    "evaluation",
]
# Values that are names, or have names as items or keys.
_NAMES = [
    "output",
    "data.experiments",
    "data.anchors",
    "data.store",
    "data.split.experiments",
    "data.sampler.experiment_weights",
    "data.sampler.condition_ratio",
    *(f"data.sampler.{name}" for name in ("distinct_by", "place_by", "experiment_by", "condition_by", "time_by")),
    *(f"data.positive.{name}" for name in ("match", "differ")),
    "model.encoder.name",
    "model.init_from",
    "evaluation.probe",
    "evaluation.time",
]
_YAML = (".yaml", ".yml")


def check_config_files(options: list[str]) -> None:
    """Report mistakes in the files that options name which the parser misses, or reports without file and line.

    Raises
    ------
    UserError
        If there is one.
    """
    for path in config_files(options):
        _check_config_file(path)
    for path in _named_files(options):
        _check_bounds_of(path)


def config_files(options: list[str]) -> list[Path]:
    """Return the configuration files that options name, in their order."""
    names = [value for option, value in pairwise(options) if option in ("-c", "--config")]
    names += [option.removeprefix("--config=") for option in options if option.startswith("--config=")]
    return [Path(name) for name in names]


def _check_config_file(path: Path) -> None:
    """Report mistakes that the parser misses, or reports without the file and the line."""
    try:
        require_regular_file(path, "the config file")
        if not path.is_file():
            raise UserError(f"file not found: {path}; `viscy-train demo` writes an example")
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the config file {str(path)!r}: {error}") from error
    from viscy_train.config.yaml_source import line_of, read_as_text, read_yaml

    content = read_yaml(path)
    _check_keys(path, content)
    if not isinstance(content, dict):
        raise UserError(f"{path} must be a mapping of keys to values; `viscy-train demo` writes an example")
    for section in _SECTIONS:
        *parents, name = section.split(".")
        part = content
        for key in parents:
            part = part.get(key) if isinstance(part, dict) else None
        if not isinstance(part, dict) or name not in part:
            continue
        value = part[name]
        if not isinstance(value, dict) and not (isinstance(value, str) and (path.parent / value).is_file()):
            got = "null" if value is None else repr(value)
            write = f"; write {name}: {{name: {value}}}" if section in _NAMED and isinstance(value, str) else ""
            where = f"{path}, line {line_of(path, section)}"
            raise UserError(f"{where}: {section} must be a mapping of keys, got {got}{write}")
    _check_names(path, content, read_as_text(path))
    for name in _strings_in(content):
        if name.endswith(_YAML):
            _check_bounds_of(path.parent / name)


def _check_keys(path: Path, value: Any, levels: tuple[str, ...] = ()) -> None:
    """Refuse a key that is not text, which the parser would report without its place, except below keys of names."""
    from viscy_train.config.yaml_source import line_of

    if not isinstance(value, dict) or ".".join(levels) in _NAMES:
        return
    for key, below in value.items():
        if not isinstance(key, str):
            line = line_of(path, (*levels, str(key)))
            where = f"{path}, line {line}" if line else str(path)
            raise UserError(f"{where}: a key must be text, got {key}; put it in quotes: '{key}'")
        _check_keys(path, below, (*levels, key))


def _check_names(path: Path, content: Any, text: Any) -> None:
    """Refuse a name that YAML takes for a number or boolean, which the parser would report with another spelling."""
    from viscy_train.config.yaml_source import line_of

    for key in _NAMES:
        values, spelled = content, text
        for level in key.split("."):
            values, spelled = (part.get(level) if isinstance(part, dict) else None for part in (values, spelled))
        is_one = not isinstance(values, (dict, list)) or not isinstance(spelled, (dict, list))
        pairs = [(values, spelled)] if is_one else zip(values, spelled, strict=False)
        for value, name in pairs:
            if isinstance(value, (bool, int, float)) and isinstance(name, str):
                line = line_of(path, key)
                raise UserError(f"{path}, line {line}: {key} must be text, got {name}; put it in quotes: '{name}'")


def _strings_in(value: Any) -> Iterator[str]:
    """Yield the strings among the values of nested lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings_in(item)


def _named_files(options: list[str]) -> list[Path]:
    """Return the YAML files that options name."""
    return [Path(name) for option in options if (name := option.rpartition("=")[2]).endswith(_YAML)]


def _check_bounds_of(path: Path) -> None:
    """Refuse a file that the parser would need too much time or memory for; the parser reports all other mistakes."""
    from viscy_train.config.yaml_source import read_yaml

    if path.is_file():
        read_yaml(path)
