"""Values as written: a collection with names as they are spelled in its file, where YAML 1.1 reads another value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from viscy_train.config.yaml_source import read_as_text, read_yaml
from viscy_train.experiments.metadata import read_value

if TYPE_CHECKING:
    from pathlib import Path

# Keys below which all values are names or paths.
_NAMES = (
    "name",
    "description",
    "datasets_root",
    "data_path",
    "tracks_path",
    "channel_names",
    "marker",
    "wells",
    "perturbation_wells",
    "exclude_fovs",
    "dataset",
    "well_id",
    "fov",
)
_MERGE = "<<"


def read_as_written(path: Path) -> Any:
    """Read a YAML file whose names are unquoted.

    Parameters
    ----------
    path : pathlib.Path
        A collection of VisCy.

    Returns
    -------
    object
        Content as `read_yaml` returns it, but keys and names are texts as they are spelled: ``0123`` rather than the
        octal number 83. Other values follow `viscy_train.experiments.metadata.read_value`.

    Raises
    ------
    UserError
        As `read_yaml`.
    """
    content = read_yaml(path)
    return _as_written(content, read_as_text(path), are_names=False)


def _as_written(value: Any, text: Any, *, are_names: bool) -> Any:
    if isinstance(value, dict) and isinstance(text, dict):
        return _mapping(value, _merged(text), are_names=are_names)
    if isinstance(value, list) and isinstance(text, list) and len(value) == len(text):
        return [_as_written(*pair, are_names=are_names) for pair in zip(value, text, strict=True)]
    if are_names and isinstance(value, (bool, int, float)) and isinstance(text, str):
        return text
    return read_value(value, text)


def _mapping(values: dict[Any, Any], texts: dict[str, Any], *, are_names: bool) -> dict[str, Any]:
    # Two spellings of one number are two keys in the text, but one in the mapping.
    spelled = list(texts) if len(texts) == len(values) else [str(key) for key in values]
    return {
        name: _as_written(value, texts.get(name), are_names=are_names or name in _NAMES)
        for name, value in zip(spelled, values.values(), strict=True)
    }


def _merged(texts: dict[str, Any]) -> dict[str, Any]:
    """Return a mapping with the keys that a merge key, `<<`, adds to it, in the order in which YAML reads them."""
    if _MERGE not in texts:
        return texts
    added = texts[_MERGE]
    mappings = [one for one in (added if isinstance(added, list) else [added]) if isinstance(one, dict)]
    merged: dict[str, Any] = {}
    for mapping in reversed(mappings):
        merged |= _merged(mapping)
    return merged | {key: value for key, value in texts.items() if key != _MERGE}
