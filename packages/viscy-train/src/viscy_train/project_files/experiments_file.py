"""Experiments file: drafts of experiments as YAML with comments."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import SingleQuotedScalarString

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from viscy_train.project_files.draft import Draft

# Optional keys are written if they have a value.
_REQUIRED = ("name", "plate", "tracks", "channels", "conditions", "minutes_per_frame", "hour_of_infection")
_OPTIONAL = ("micrometers_per_pixel", "micrometers_per_slice", "metadata", "wells")
_INDENT = 2
_WIDTH = 10_000  # no line is wrapped


def experiments_text(drafts: Sequence[Draft], header: Sequence[str], directory: Path) -> str:
    """Return the text of an experiments file.

    Parameters
    ----------
    drafts : sequence of Draft
        The experiments.
    header : sequence of str
        Comment at the beginning, by lines.
    directory : pathlib.Path
        Directory of the file. Paths below its parent are written relative to it.

    Returns
    -------
    str
        YAML that `load_experiments` reads, unless there are open places.
    """
    items = CommentedSeq([_item(draft, directory) for draft in drafts])
    for number, draft in enumerate(drafts):
        if draft.notes:
            items.yaml_set_comment_before_after_key(number, "\n".join(map(_one_line, draft.notes)), indent=_INDENT)
    content = CommentedMap(experiments=items)
    dumper = YAML()
    dumper.indent(mapping=2, sequence=4, offset=_INDENT)
    dumper.width = _WIDTH
    dumper.allow_unicode = True
    stream = io.StringIO()
    dumper.dump(content, stream)
    comment = "".join(f"# {_one_line(line)}".rstrip() + "\n" for line in header)
    return comment + stream.getvalue()


def _item(draft: Draft, directory: Path) -> CommentedMap:
    values: dict[str, Any] = {
        name: getattr(draft, name)
        for name in (*_REQUIRED, *_OPTIONAL)
        if name in _REQUIRED or getattr(draft, name) not in (None, {})
    }
    for name in ("plate", "tracks"):
        if values[name] is not None:
            values[name] = _path_from(values[name], directory)
    item = _styled(values)
    for name, comment in draft.comments.items():
        item.yaml_set_comment_before_after_key(name, _one_line(comment), indent=2 * _INDENT)
    return item


def _styled(value: Any) -> Any:
    """Return a value with quotes where YAML 1.1 would take a text for something else, and lists on one line."""
    if isinstance(value, dict):
        return CommentedMap({_styled(key): _styled(one) for key, one in value.items()})
    if isinstance(value, list):
        items = CommentedSeq([_styled(one) for one in value])
        items.fa.set_flow_style()
        return items
    if isinstance(value, str) and not _is_plain(value):
        return SingleQuotedScalarString(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_plain(text: str) -> bool:
    try:
        return yaml.safe_load(text) == text
    except (yaml.YAMLError, ValueError):
        return False


def _path_from(path: Path, directory: Path) -> str:
    """Return a path relative to a directory if both have the same parent, otherwise absolute."""
    absolute, start = os.path.abspath(path), os.path.abspath(directory)
    inside = os.path.commonpath([absolute, os.path.dirname(start)]) == os.path.dirname(start) != os.sep
    return os.path.relpath(absolute, start) if inside else absolute


def _one_line(text: str) -> str:
    return " ".join(text.split())


def flow(values: Mapping[str, Any]) -> str:
    """Return a mapping on one line, for a comment."""
    texts = {key: flow(value) if isinstance(value, dict) else value for key, value in values.items()}
    return "{" + ", ".join(f"{key}: {text}" for key, text in texts.items()) + "}"
