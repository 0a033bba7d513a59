"""Located problems: what plates and tracks contradict, with the line of the experiments file that states it."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from viscy_train.config.yaml_source import line_of, read_yaml
from viscy_train.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

_OF_EXPERIMENT = re.compile(r"experiment '(?P<name>.*?)': (?P<problem>.*)", re.DOTALL)
_WELL = re.compile(r"has no well '(?P<well>.*?)'")
_FIELD = re.compile(r"well (?P<well>\S+) of plate .* has no fields? of view(?: '(?P<field>.*?)')?")
_QUOTED_KEY = re.compile(r"`(\w+)`")
# What a problem says, and the key that it is about.
_KEYS = {"has no channel": "channels", "plate not found": "plate", "tracks": "tracks"}


@contextmanager
def located_problems(path: Path) -> Generator[None]:
    """Give the line of the experiments file with each problem of an experiment that the block reports.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Raises
    ------
    ProjectError
        Instead of that of the block, if the block raises one.
    """
    try:
        yield
    except ProjectError as error:
        raise ProjectError([_located(path, problem) for problem in error.problems]) from error


def _located(path: Path, problem: str) -> str:
    found = _OF_EXPERIMENT.fullmatch(problem)
    names = [str(one.get("name")) for one in read_yaml(path)["experiments"]] if found else []
    is_of_config = found is not None and found["problem"].startswith("data.")
    if found is None or is_of_config or found["name"] not in names:
        return problem
    item = ("experiments", str(names.index(found["name"])))
    lines = (line_of(path, (*item, *keys)) for keys in _places(found["problem"]))
    line = next((line for line in lines if line is not None), line_of(path, item))
    return f"{path}, line {line}: {problem}"


def _places(problem: str) -> Iterator[tuple[str, ...]]:
    """Yield the keys of an experiment that a problem may be about, the likeliest first."""
    if well := _WELL.search(problem):
        yield "conditions", well["well"]
    if field := _FIELD.search(problem):
        yield "conditions", "/".join(filter(None, (field["well"], field["field"])))
    yield from ((key,) for key in _QUOTED_KEY.findall(problem))
    yield from ((key,) for words, key in _KEYS.items() if words in problem)
